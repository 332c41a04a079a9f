"""Signals that end the `blrobust` command: Ctrl-C, SIGTERM and SIGHUP.

While a command runs, the first of them raises `KeyboardInterrupt`, so that what is done is stored and
reported. The next one, and all of them while Python starts or ends, end the process at once.
"""

import os
import signal
from collections.abc import Callable
from types import FrameType

NUMBERS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
FIRST_CODE = 128  # exit codes are 128 + the number of the signal, as shells report it

_received: int = signal.SIGINT


def end_at_once() -> None:
    """From here on, a signal ends the process at once, with one line on stderr."""
    _install(_end)


def interrupt() -> None:
    """From here on, the first signal raises `KeyboardInterrupt`, and the next one ends the process."""
    _install(_interrupt)


def exit_code() -> int:
    """Return the exit code after the signal that was received last; 130, that of Ctrl-C, without one."""
    return FIRST_CODE + _received


def _install(handler: Callable[[int, FrameType | None], None]) -> None:
    for number in NUMBERS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
            signal.signal(number, handler)


def _interrupt(number: int, frame: FrameType | None) -> None:
    global _received
    _received = number
    end_at_once()
    raise KeyboardInterrupt


def _end(number: int, frame: FrameType | None) -> None:
    try:  # noqa: SIM105  # importing contextlib takes longer than all of this module
        os.write(2, b"Interrupted.\n")
    except OSError:
        pass
    os._exit(FIRST_CODE + number)
