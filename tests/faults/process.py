"""Processes of the `blrobust` command, forked from one that has imported everything and computed nothing."""

import importlib
import os
import pkgutil
import re
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from support import tiny_training

import blrobust
from blrobust.__main__ import main

LONGEST = 180  # seconds; a process that takes longer hangs
CODES = (0, 2)  # of a command that no signal ends
CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def preload() -> None:
    """Import every module of the command and its libraries, so that a forked process starts at once."""
    os.environ["MPLBACKEND"] = "agg"
    for module in pkgutil.walk_packages(blrobust.__path__, "blrobust."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    for name in ("matplotlib.pyplot", "seaborn", "foolbox", "PIL.PngImagePlugin"):
        importlib.import_module(name)
    import torch

    torch.set_num_threads(1)


@dataclass(frozen=True)
class Ended:
    """The exit code of a process (-9: killed by SIGKILL), and its output."""

    command: str
    code: int
    out: str
    err: str

    def faults(self, *codes: int) -> list[str]:
        """Return what breaks the rules: a code that is not documented, a traceback, an escape sequence."""
        found = []
        if self.code not in codes:
            found.append(f"code {self.code}")
        for name, text in (("stdout", self.out), ("stderr", self.err)):
            if "Traceback" in text or "most recent call" in text:
                found.append(f"traceback on {name}")
            if control := CONTROLS.search(text):
                found.append(f"{control[0]!r} on {name}")
        if self.code == 2 and not self.err.strip():
            found.append("no message")
        return [f"{self.command}: {fault}: {self.err[-600:]}" for fault in found]


class Process:
    """A forked process of the command, which begins at `go`."""

    def __init__(self, arguments: Sequence[str], scratch: Path, action: Callable[[], object] | None = None):
        """Fork; its output goes to files in `scratch`. `action` is called in place of the command."""
        scratch.mkdir(parents=True, exist_ok=True)
        self.command = " ".join(arguments)
        self._outputs = [scratch / f"{time.monotonic_ns()}.{name}" for name in ("out", "err")]
        reader, self._go = os.pipe()
        self.pid = os.fork()
        if not self.pid:
            os.close(self._go)
            self._run(arguments, reader, scratch, action)
        os.close(reader)

    def _run(
        self, arguments: Sequence[str], reader: int, scratch: Path, action: Callable[[], object] | None
    ) -> None:
        code = 1
        try:
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, signal.SIG_DFL)
            for target, path in zip((1, 2), self._outputs, strict=True):
                os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), target)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.environ["BLROBUST_WEIGHTS"] = str(scratch / "weights")
            os.chdir(scratch)
            sys.stdin, sys.stdout, sys.stderr = (os.fdopen(number, mode) for number, mode in enumerate("rww"))
            sys.argv = ["blrobust", *arguments]
            if arguments[:1] == ["train"]:
                tiny_training.install(pytest.MonkeyPatch())
            os.read(reader, 1)
            if action:
                action()
            else:
                main()
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        except BaseException:
            traceback.print_exc()
        finally:
            for stream in (sys.stdout, sys.stderr):
                try:
                    stream.flush()
                except (OSError, ValueError):
                    pass
            os._exit(code)

    def go(self) -> None:
        """Let the command begin."""
        os.write(self._go, b"g")
        os.close(self._go)

    def kill(self, number: int) -> None:
        """Send a signal."""
        os.kill(self.pid, number)

    def wait(self) -> Ended:
        """Return how the process ended; one that hangs is killed and ends with the code -14."""
        deadline = time.monotonic() + LONGEST
        while not (ended := os.waitpid(self.pid, os.WNOHANG))[0]:
            if time.monotonic() > deadline:
                os.kill(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)
                return self._ended(-signal.SIGALRM)
            time.sleep(0.005)
        return self._ended(os.waitstatus_to_exitcode(ended[1]))

    def _ended(self, code: int) -> Ended:
        texts = [path.read_text("utf-8", errors="replace") for path in self._outputs]
        for path in self._outputs:
            path.unlink()
        return Ended(self.command, code, *texts)


def run(arguments: Sequence[str], scratch: Path, action: Callable[[], object] | None = None) -> Ended:
    """Run a command to its end."""
    process = Process(arguments, scratch, action)
    process.go()
    return process.wait()


class Tracer:
    """strace, attached to a process that has not begun."""

    def __init__(self, process: Process, *options: str) -> None:
        command = ["strace", "-f", "-qq", "-o", os.devnull, *options, "-p", str(process.pid)]
        self._tracer = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        status = Path(f"/proc/{process.pid}/status")
        while "\nTracerPid:\t0\n" in status.read_text() and self._tracer.poll() is None:
            time.sleep(0.001)

    def end(self) -> None:
        """Wait for strace, which ends with the process."""
        self._tracer.wait(timeout=LONGEST)
