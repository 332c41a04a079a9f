"""`python -m blrobust` is the `blrobust` command."""

from blrobust.cli import main

main()
