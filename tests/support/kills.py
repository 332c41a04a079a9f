"""Kills of a command at every change of a file and after every commit, each in a folder of its own."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from blrobust.cli import main
from blrobust.runs.database import Database

KILLED = 77
WHOLE = "whole"  # the folder of the run that is not killed
_WRITES = {"os.mkdir", "os.rename", "os.remove", "sqlite3.connect"}


def kill_at_every_step(root: Path, arguments: Sequence[str], resume: Sequence[str] = ()) -> None:
    """Fill `root` with the folders 1, 2, ...: killed before this step, then resumed; and with `WHOLE`.

    The command is `arguments`, with `resume` when it is called again. A process of its own that computes
    nothing must call this, because it is forked.
    """
    step = 1
    while (code := _attempt([*arguments, "--out", str(root / str(step))], root, last=step)) == KILLED:
        if _attempt([*arguments, *resume, "--out", str(root / str(step))], root) != 0:
            sys.exit(f"not resumed after a kill before step {step}")
        step += 1
    if code != 0:
        sys.exit(f"failed with code {code} before step {step}")
    (root / str(step)).rename(root / WHOLE)


def _attempt(arguments: list[str], root: Path, last: int = 0) -> int:
    """Return the exit code of a command that is killed at step `last`."""
    process = os.fork()
    if process:
        return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    steps, add = 0, Database.add

    def step() -> None:
        nonlocal steps
        steps += 1
        if steps == last:
            os._exit(KILLED)

    def listen(event: str, values: tuple[Any, ...]) -> None:
        changes = event in _WRITES or (event == "open" and values[1] not in ("r", "rb"))
        if changes and str(root) in str(values[0]):
            step()

    def commit(*values: Any) -> None:  # no event announces what SQLite writes
        add(*values)
        step()

    setattr(Database, "add", commit)  # noqa: B010
    sys.addaudithook(listen)
    try:
        main(arguments)
    except SystemExit as end:
        sys.stderr.flush()
        os._exit(end.code if isinstance(end.code, int) else 1)
    os._exit(1)
