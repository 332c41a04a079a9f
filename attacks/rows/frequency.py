"""To be filled."""

from blrobust.attacks.registry import Entry

ROWS: dict[str, Entry] = {}
