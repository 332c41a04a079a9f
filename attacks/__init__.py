"""Attacks: Foolbox classes, their table and the guard that checks what they return."""
