"""Attacks: classes with Foolbox's interface, a catalogue of them, and the guard that checks their results."""
