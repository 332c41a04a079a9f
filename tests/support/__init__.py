"""Stand-ins, oracles and drivers that the tests share."""
