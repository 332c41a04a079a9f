"""Full disks: a command without room for its files ends in one line, and goes on when there is room."""

import os
import random
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from faults.completion import completed
from faults.process import CODES, run
from faults.result import Result
from faults.subjects import SUBJECTS, whole

ROOM = 2**26  # bytes; enough for every command
PAGE = 4096


@cache
def can_mount() -> bool:
    """Return whether this process may mount a tmpfs."""
    if os.name != "posix" or os.geteuid() != 0:
        return False
    command = ["unshare", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    return subprocess.run(command, capture_output=True).returncode == 0


def trial(seed: int, shared: Path, scratch: Path) -> Result:
    """Run a command on a tmpfs of too few pages, make room, and call it again."""
    source, result = random.Random(f"full {seed}"), Result()
    subject = source.choice([subject for subject in SUBJECTS if not subject.begin])
    files = [path.stat().st_size for path in whole(subject, shared).folder.rglob("*") if path.is_file()]
    size = source.randint(1, sum(files) // PAGE + len(files)) * PAGE
    with tmpfs(scratch / "disk", size) as disk:
        ended = run(subject.command(disk / "run"), shared)
        result.tried["refused" if ended.code == 2 else "enough room"] += 1
        result.add(ended.faults(*CODES), f"{size} bytes")
        _mount("-o", f"remount,size={ROOM}", str(disk))
        result.add(completed(subject, disk / "run", shared), f"after {size} bytes")
    return result


@contextmanager
def tmpfs(folder: Path, size: int) -> Iterator[Path]:
    """Return a context with a file system of `size` bytes in a new folder."""
    folder.mkdir()
    _mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder))
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)
