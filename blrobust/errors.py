"""The exception that the command line prints as one line, with exit code 2."""


class UserError(ValueError):
    """A user's mistake; the message names the argument, its value and the legal values."""


def reason(error: BaseException) -> str:
    """Return the message of another library's error as one line, or its type if it has no message."""
    return " ".join(str(error).split()) or type(error).__name__
