"""The process of the `blrobust` command, also as `python -m blrobust`: signals, streams and exit code."""

from blrobust import signals  # imports next to nothing: a signal must be handled early


def main() -> None:
    """Run the command line with the arguments of this process, and exit with its exit code."""
    signals.end_at_once()

    import os

    from blrobust.terminal import protect_streams

    protect_streams()
    os.environ["MPLBACKEND"] = "agg"  # figures need no screen, and this backend is always there

    from blrobust import cli

    try:
        cli.main()
    except SystemExit as end:
        raise SystemExit(signals.exit_code() if end.code == signals.INTERRUPTED else end.code) from None


if __name__ == "__main__":
    main()
