"""The process of the `blrobust` command, also as `python -m blrobust`: signals, streams and exit code."""

# `_signal` is built in. The import of `signal` takes milliseconds; Ctrl-C would print a traceback meanwhile.
import _signal  # type: ignore[import-not-found]
import os


def _end(number: int, frame: object) -> None:
    try:
        os.write(2, b"Interrupted.\n")
    finally:  # also with a closed stderr
        os._exit(128 + number)


if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:  # else it is ignored, as with nohup
    _signal.signal(_signal.SIGINT, _end)

from blrobust import signals  # noqa: E402  # the others as well, and with more to import


def main() -> None:
    """Run the command line with the arguments of this process, and exit with its exit code."""
    signals.end_at_once()

    from blrobust.terminal import protect_streams

    protect_streams()
    os.environ["MPLBACKEND"] = "agg"  # figures need no screen, and this backend is always there

    from blrobust import cli
    from blrobust.allocator import keep_freed_blocks

    keep_freed_blocks()

    try:
        cli.main()
    except SystemExit as end:
        raise SystemExit(signals.exit_code() if end.code == signals.INTERRUPTED else end.code) from None


if __name__ == "__main__":
    main()
