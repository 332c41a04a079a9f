"""What a command leaves on stderr."""


def error(stderr: str) -> str:
    """Return the one line of an error; before it only an announcement and a note may be printed."""
    *before, line = stderr.strip().splitlines()
    assert line.startswith("Error: "), stderr
    printed = ("on ", "-> ", "(", "cifar10 is not in")
    assert all(" x " in text or ": a map of" in text or text.startswith(printed) for text in before), stderr
    return line
