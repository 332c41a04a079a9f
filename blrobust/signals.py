"""Signals that end the `blrobust` command: Ctrl-C, SIGTERM and SIGHUP.

During work whose finished part is stored (`interruptible`), the first signal raises `KeyboardInterrupt`, so
that the command can report the finished part. A second signal, or a signal at any other time, ends the
process at once, because libraries that are interrupted while they are imported raise errors of their own.
"""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

NUMBERS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
FIRST_CODE = 128  # exit codes are 128 + the number of the signal, as shells report it
INTERRUPTED = FIRST_CODE + signal.SIGINT

_received: int = signal.SIGINT
_is_interrupted = False  # whether `_interrupt` has raised an error in the present context
_is_installed = False  # false if the command line is called inside another program


def end_at_once() -> None:
    """Install handlers with which a signal ends the process at once, with one line on stderr."""
    global _is_installed
    _is_installed = True
    _install(_end)


@contextmanager
def interruptible() -> Iterator[None]:
    """Return a context in which the first signal raises `KeyboardInterrupt` and the next ends the process.

    The context has no effect unless the process has called `end_at_once`.
    """
    global _is_interrupted
    _is_interrupted = False
    if _is_installed:
        _install(_interrupt)
    try:
        yield
    finally:
        _is_interrupted = False
        if _is_installed:
            _install(_end)


def check() -> None:
    """Raise `KeyboardInterrupt` again if a signal has raised it in an `interruptible` context.

    Call this after code of a user, which may have caught the error.
    """
    if _is_interrupted:
        raise KeyboardInterrupt


def exit_code() -> int:
    """Return the exit code for the signal that was received last, or 130 (that of Ctrl-C) if none was."""
    return FIRST_CODE + _received


def _install(handler: Callable[[int, FrameType | None], None]) -> None:
    for number in NUMBERS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
            signal.signal(number, handler)


def _interrupt(number: int, frame: FrameType | None) -> None:
    global _received, _is_interrupted
    _received, _is_interrupted = number, True
    _install(_end)
    raise KeyboardInterrupt


def _end(number: int, frame: FrameType | None) -> None:
    with suppress(OSError):
        os.write(2, b"Interrupted.\n")
    os._exit(FIRST_CODE + number)
