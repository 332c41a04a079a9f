"""The memory that this process may still use, checked before work that needs much of it."""

from collections.abc import Iterator
from pathlib import Path

import psutil

from blrobust.errors import UserError

GB = 1e9
PROCESS_GROUPS = Path("/proc/self/cgroup")
GROUPS = Path("/sys/fs/cgroup")
# Version of control groups -> folder, file of the limit, file of the use, and entries of memory.stat that
# count cached files, which the system can drop.
FILES = {
    2: (GROUPS, "memory.max", "memory.current", ("inactive_file", "active_file")),
    1: (
        GROUPS / "memory",
        "memory.limit_in_bytes",
        "memory.usage_in_bytes",
        ("total_inactive_file", "total_active_file"),
    ),
}


def available() -> int | None:
    """Return the number of bytes of main memory that this process may still use; None if unknown.

    The number is the smallest of three: the free memory of the machine, the free memory of the process's
    control groups (on Linux, the limit of a container), and the free address space (`ulimit -v`).
    """
    try:
        free = [psutil.virtual_memory().available, *_of_groups(), *_of_address_space()]
    except (OSError, ValueError, psutil.Error):
        return None
    return max(0, min(free))


def check(needed: int, what: str, *, legal: str) -> None:
    """Raise `UserError` if `needed` bytes exceed the available memory.

    In the message, `what` names the data that needs the memory, and `legal` names the ways to need less.
    """
    free = available()
    if free is not None and needed > free:
        sizes = f"needs {needed / GB:,.1f} GB of memory, {free / GB:,.1f} GB are free"
        raise UserError(f"{what}: {sizes}; legal: {legal}")


def _of_address_space() -> Iterator[int]:
    try:
        import resource
    except ImportError:  # Windows
        return
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY:
        yield limit - psutil.Process().memory_info().vms


def _of_groups() -> Iterator[int]:
    """Yield the free bytes of each control group that contains this process and has a limit."""
    try:
        lines = PROCESS_GROUPS.read_text("ascii", errors="replace").splitlines()
    except OSError:
        return
    for line in lines:
        number, controllers, group = (*line.split(":", 2), "", "")[:3]
        version = 2 if number == "0" else 1
        if version == 2 or "memory" in controllers.split(","):
            # Inside a container, the group may lie at the top, under no name or the name outside.
            names = [name for name in group.split("/") if name not in ("", "..")]
            for depth in range(len(names) + 1):
                free = _of_group(FILES[version][0].joinpath(*names[:depth]), version)
                if free is not None:
                    yield free


def _of_group(folder: Path, version: int) -> int | None:
    """Return the free bytes of a control group, or None if it has no limit or cannot be read."""
    _, limit, use, droppable = FILES[version]
    try:
        most, used = (int((folder / name).read_text("ascii")) for name in (limit, use))
        pairs = (line.split() for line in (folder / "memory.stat").read_text("ascii").splitlines())
        return most - used + sum(int(value) for name, value in pairs if name in droppable)
    except (OSError, ValueError):  # no such folder; "max", which is no limit
        return None
