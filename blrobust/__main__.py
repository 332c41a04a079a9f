"""The process of the `blrobust` command, also as `python -m blrobust`: signals, streams and exit code."""

from blrobust import signals  # imports next to nothing: a signal must be handled early

INTERRUPTED = 130  # the exit code of a command that was stopped by any signal


def main() -> None:
    """Run the command line of this process, and exit with its code."""
    signals.end_at_once()

    import os

    from blrobust.terminal import echo, protect_streams

    protect_streams()
    os.environ["MPLBACKEND"] = "agg"  # figures need no screen, and this backend is always there

    from blrobust import cli

    try:
        signals.interrupt()
        cli.main()
    except KeyboardInterrupt:  # before or after the command
        echo("Interrupted.", err=True)
        code: object = INTERRUPTED
    except SystemExit as end:
        code = end.code
    signals.end_at_once()
    raise SystemExit(signals.exit_code() if code == INTERRUPTED else code)


if __name__ == "__main__":
    main()
