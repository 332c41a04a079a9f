"""strace: the system calls of a process that change the disk, and faults that are injected there."""

import os
import re
import shutil
import subprocess
import time
from pathlib import Path

from faults.process import LONGEST, Process

WRITES = ("write", "pwrite64", "fsync", "fdatasync", "ftruncate")  # which fail on a full or broken disk
NAMES = ("openat", "mkdir", "mkdirat", "rename", "renameat", "renameat2", "unlink", "unlinkat")
# "?": some architectures lack a call.
CALLS = ",".join(f"?{name}" for name in (*WRITES, *NAMES))
_CALL = re.compile(r"(\w+)\(.*\) += ")
_READ_ONLY = re.compile(r"openat\((?!.*O_CREAT|.*O_RDWR|.*O_WRONLY)")


def is_there() -> bool:
    """Return whether strace is installed and may trace a process of this one."""
    if shutil.which("strace") is None:
        return False
    return subprocess.run(["strace", "-o", os.devnull, "true"], capture_output=True).returncode == 0


class Tracer:
    """strace, attached to a process that has not begun."""

    def __init__(self, process: Process, *options: str, log: Path | None = None) -> None:
        command = ["strace", "-qq", "-y", "-o", str(log or os.devnull), *options, "-p", str(process.pid)]
        self._tracer = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        status = Path(f"/proc/{process.pid}/status")
        while "\nTracerPid:\t0\n" in status.read_text() and self._tracer.poll() is None:
            time.sleep(0.001)

    def end(self) -> None:
        """Wait for strace, which ends with the process."""
        self._tracer.wait(timeout=LONGEST)


def disk_calls(log: Path, folder: Path) -> list[tuple[str, int]]:
    """Return the name and number of each logged call that changes a file in `folder`.

    Numbers count the calls of a name. Reading and locking are left out: a process that is stopped there
    leaves the same bytes as at the next change.
    """
    numbers: dict[str, int] = {}
    found = []
    for line in log.read_text("utf-8", errors="replace").splitlines():
        if call := _CALL.match(line):
            name = call[1]
            numbers[name] = numbers.get(name, 0) + 1
            if str(folder) in line and not _READ_ONLY.match(line):
                found.append((name, numbers[name]))
    return found
