"""Attacks: Foolbox classes, their table, and the guard that validates their results."""
