"""What a command leaves on stderr."""


def error(stderr: str) -> str:
    """Return the one line of an error; before it only an announcement and a note may be printed."""
    *before, line = stderr.strip().splitlines()
    assert line.startswith("Error: "), stderr
    assert all(
        " x " in text or text.startswith(("on ", "-> ", "(", "cifar10 is not in")) for text in before
    ), stderr
    return line
