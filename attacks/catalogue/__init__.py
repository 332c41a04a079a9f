"""The catalogue of attacks: a row for each, with norm, levels, parameters and source."""
