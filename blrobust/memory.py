"""The memory that this process may still use, checked before work that needs much of it."""

import os
from pathlib import Path

from blrobust.errors import UserError

GB = 1e9


def available() -> int | None:
    """Return the number of bytes of main memory that this process may still use; None if unknown.

    It is known on Linux only, from the free memory of the machine and the limit of the process's address
    space (`ulimit -v`).
    """
    try:
        lines = Path("/proc/meminfo").read_text("ascii").splitlines()
        kilobytes = {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines)}
        free = kilobytes["MemAvailable"] * 1024
        import resource

        limit, _ = resource.getrlimit(resource.RLIMIT_AS)
        if limit != resource.RLIM_INFINITY:
            pages = int(Path("/proc/self/statm").read_text("ascii").split()[0])
            free = min(free, limit - pages * os.sysconf("SC_PAGE_SIZE"))
    except (OSError, ValueError, KeyError, IndexError, ImportError):
        return None
    return max(0, free)


def check(needed: int, what: str, *, legal: str) -> None:
    """Raise `UserError` if `needed` bytes exceed the available memory.

    In the message, `what` names the data that needs the memory, and `legal` what the user can do.
    """
    free = available()
    if free is not None and needed > free:
        sizes = f"needs {needed / GB:,.1f} GB of memory, {free / GB:,.1f} GB are free"
        raise UserError(f"{what}: {sizes}; legal: {legal}")
