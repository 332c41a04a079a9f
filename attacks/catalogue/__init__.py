"""The table of attacks: a row each, with norm, levels, parameters and source."""
