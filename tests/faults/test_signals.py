"""Signals end the command at any time with the documented code, no traceback and a usable terminal."""

import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from blrobust.signals import NUMBERS

NOISE = [
    "noise",
    "--dataset",
    "cifar10-sample",
    "--models",
    "fp32",
    "--sigma",
    "0:2",
    "--draws",
    "50",
    "--device",
    "cpu",
    "--out",
]
HIDDEN = b"\x1b[?25l"


@pytest.fixture(autouse=True)
def signals_end_processes() -> Iterator[None]:
    """Take back that a signal is ignored, as under nohup: processes would inherit it."""
    ignored = [number for number in NUMBERS if signal.getsignal(number) is signal.SIG_IGN]
    for number in ignored:
        signal.signal(number, signal.SIG_DFL)
    yield
    for number in ignored:
        signal.signal(number, signal.SIG_IGN)


def start(arguments: list[str], terminal: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "blrobust", *arguments]
    return subprocess.Popen(command, stdin=terminal, stdout=terminal, stderr=terminal)


def read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 4096)
    except OSError:  # the process has closed the other end
        return b""


@pytest.mark.parametrize("number", NUMBERS, ids=lambda number: number.name)
def test_a_signal_during_a_measurement(number: signal.Signals, tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    process = start([*NOISE, str(tmp_path / "run")], theirs)
    os.close(theirs)
    shown = b""
    while b"images," not in re.sub(rb"\x1b\[[0-9;?]*[a-zA-Z]", b"", shown):  # the bars
        shown += read(ours)
        assert process.poll() is None, shown
    process.send_signal(number)
    while more := read(ours):
        shown += more
    assert process.wait() == 128 + number
    assert HIDDEN not in shown
    assert b"Traceback" not in shown
    assert b"cells done; run the same command again to resume" in b" ".join(shown.split())
    os.close(ours)


def test_ctrl_c_while_the_command_starts() -> None:
    """Python's own start, before any code of the package runs, is left out."""
    codes = []
    for delay in range(0, 1000, 100):
        program = (
            "import os, signal, sys, threading, time\n"
            "from blrobust.__main__ import main\n"
            "def kill():\n"
            f"    time.sleep({delay / 1000})\n"
            "    os.kill(os.getpid(), signal.SIGINT)\n"
            "from blrobust import signals\n"
            "signals.end_at_once()\n"
            "threading.Thread(target=kill, daemon=True).start()\n"
            "sys.argv[1:] = ['models']\n"
            "main()"
        )
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
        assert b"Traceback" not in done.stderr
        codes.append(done.returncode)
    assert codes[0] == 130
    assert set(codes) <= {0, 130}


SIGNAL_AT_IMPORT = """
import os, runpy, signal, sys
class Finder:
    def find_spec(name, path=None, target=None):
        if name == {module!r}:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Finder)
for name in ["signal", "contextlib"]:
    sys.modules.pop(name, None)
sys.argv[1:] = ["models"]
if {way!r} == "module":
    runpy.run_module("blrobust", run_name="__main__", alter_sys=True)
else:
    from blrobust.__main__ import main
    main()
"""


@pytest.mark.parametrize("way", ["module", "script"])
@pytest.mark.parametrize(
    "module",
    ["signal", "blrobust.signals", "contextlib", "blrobust.terminal", "blrobust.cli", "click", "rich"],
)
def test_ctrl_c_at_an_import(module: str, way: str) -> None:
    program = SIGNAL_AT_IMPORT.format(module=module, way=way)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert (done.returncode, done.stderr, done.stdout) == (130, b"Interrupted.\n", b"")


def test_ctrl_c_that_is_ignored_stays_ignored_from_the_start() -> None:
    program = (
        "import signal\n"
        "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "import blrobust.__main__\n"
        "assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_the_second_signal_ends_the_process_at_once() -> None:
    program = (
        "import os, signal, time\n"
        "from blrobust import signals\n"
        "signals.end_at_once()\n"
        "with signals.interruptible():\n"
        "    try:\n"
        "        os.kill(os.getpid(), signal.SIGINT); time.sleep(9)\n"
        "    except KeyboardInterrupt:\n"
        "        os.kill(os.getpid(), signal.SIGTERM); time.sleep(9)"
    )
    start = time.monotonic()
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert done.returncode == 143
    assert time.monotonic() - start < 9


def test_an_ignored_signal_stays_ignored() -> None:
    """As under nohup."""
    program = (
        "import os, signal\n"
        "from blrobust import signals\n"
        "signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "signals.end_at_once()\n"
        "with signals.interruptible():\n"
        "    os.kill(os.getpid(), signal.SIGHUP)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
