"""The table of attacks: a row each, with norm, strengths, parameters and source."""
