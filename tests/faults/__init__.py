"""Kills, full disks, hostile inputs, flipped bits and pairs of processes: `python -m faults --help`."""
