"""Processes of the `blrobust` command, forked from one that has imported everything and computed nothing."""

import importlib
import os
import pkgutil
import re
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import NoReturn

import pytest
import torch
from support import tiny_training

import blrobust
from blrobust.__main__ import main
from faults.result import Fault, Kind

LONGEST = 120  # seconds; a process that takes longer hangs
MEMORY = 2**34  # bytes of addresses: a typing error must not take the memory of the machine
HUNG = -signal.SIGALRM  # the code of a process that hangs
CODES = (0, 2)  # of a command that no signal ends
CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_numbers = count()


def preload() -> None:
    """Import every module of the command and its libraries, so that a forked process starts at once."""
    os.environ["MPLBACKEND"] = "agg"
    for module in pkgutil.walk_packages(blrobust.__path__, "blrobust."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    torch.set_num_threads(1)  # a process with threads cannot be forked


@dataclass(frozen=True)
class Ended:
    """The exit code of a process (-9: killed by SIGKILL), and its output."""

    command: str
    code: int
    out: str
    err: str

    def faults(self, *codes: int) -> list[Fault]:
        """Return the broken rules: a code that is not one of `codes`, a traceback, an escape sequence."""
        found: list[tuple[Kind, str]] = []
        if self.code not in codes:
            found.append(("other", f"code {self.code}" if self.code != HUNG else "it hangs"))
        for name, text in (("stdout", self.out), ("stderr", self.err)):
            if "Traceback" in text or "most recent call" in text:
                found.append(("traceback", f"on {name}"))
            if control := CONTROLS.search(text):
                found.append(("other", f"{control[0]!r} on {name}"))
        if self.code == 2 and not self.err.strip():
            found.append(("other", "no message"))
        return [Fault(kind, f"{self.command}: {text}: {self.err[-600:]}") for kind, text in found]


class Process:
    """A forked process of the command in a folder, which begins at `go`."""

    def __init__(self, arguments: Sequence[str], folder: Path, action: Callable[[], object] | None = None):
        """Fork; `action` is called in place of the command."""
        self.command = " ".join(arguments)
        self._outputs = [folder / f"{os.getpid()}-{next(_numbers)}.{name}" for name in ("out", "err")]
        for path in self._outputs:  # before a signal can come
            path.touch()
        reader, self._go = os.pipe()
        self.pid = os.fork()
        if not self.pid:
            os.close(self._go)
            self._run(arguments, reader, folder, action)
        os.close(reader)

    def _run(
        self, arguments: Sequence[str], reader: int, folder: Path, action: Callable[[], object] | None
    ) -> NoReturn:
        code = 1
        try:
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, signal.SIG_DFL)
            resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
            for target, path in zip((1, 2), self._outputs, strict=True):
                os.dup2(os.open(path, os.O_WRONLY), target)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.environ["BLROBUST_WEIGHTS"] = str(folder / "weights")
            os.chdir(folder)
            sys.stdin, sys.stdout, sys.stderr = (os.fdopen(number, mode) for number, mode in enumerate("rww"))
            sys.argv = ["blrobust", *arguments]
            if arguments[:1] == ["train"]:
                tiny_training.install(pytest.MonkeyPatch())
            os.read(reader, 1)
            (action or main)()
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        except BaseException:
            traceback.print_exc()
        finally:
            for stream in (sys.stdout, sys.stderr):
                with suppress(OSError, ValueError):
                    stream.flush()
            os._exit(code)

    def go(self) -> None:
        """Let the command begin."""
        os.write(self._go, b"g")
        os.close(self._go)

    def is_running(self) -> bool:
        """Return whether the process has not ended."""
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None

    def kill(self, number: int) -> None:
        """Send a signal."""
        os.kill(self.pid, number)

    def wait(self, patience: float = LONGEST) -> Ended:
        """Return how the process ended.

        After `patience` seconds it gets SIGINT, which ends all work that is not done; if it goes on for
        another `LONGEST` seconds, it hangs, is killed and ends with the code `HUNG`.
        """
        code = self._code(patience)
        if code is None:
            self.kill(signal.SIGINT)
            code = self._code(LONGEST)
        if code is None:
            self.kill(signal.SIGKILL)
            os.waitpid(self.pid, 0)
            code = HUNG
        texts = [path.read_text("utf-8", errors="replace") for path in self._outputs]
        for path in self._outputs:
            path.unlink()
        return Ended(self.command, code, *texts)

    def _code(self, seconds: float) -> int | None:
        deadline = time.monotonic() + seconds
        while not (ended := os.waitpid(self.pid, os.WNOHANG))[0]:
            if time.monotonic() > deadline:
                return None
            time.sleep(0.005)
        return os.waitstatus_to_exitcode(ended[1])


def run(arguments: Sequence[str], folder: Path, action: Callable[[], object] | None = None) -> Ended:
    """Run a command in a folder to its end."""
    process = Process(arguments, folder, action)
    process.go()
    return process.wait()
