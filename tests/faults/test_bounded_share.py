"""The share of the trials that every change runs, in less than two minutes on two cores."""

import subprocess
import sys

from support.processes import importing

SHARE = ("--kills", "40", "--full", "6", "--inputs", "60", "--flips", "60", "--pairs", "6")


def test_nothing_is_lost() -> None:
    """Without strace no signal comes at a system call, and without the right to mount no disk is full."""
    command = [sys.executable, "-m", "faults", *SHARE]
    environment = importing(__file__, OMP_NUM_THREADS="1")
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
