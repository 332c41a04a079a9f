"""The catalogue of attacks: one row per attack, with its norm, levels, parameters and source."""
