"""The exception that the command line prints as one line, with exit code 2."""


class UserError(ValueError):
    """Input that cannot be used; the message names it, its value and the legal ones."""


def reason(error: BaseException) -> str:
    """Return the message of another library's error as one line; its type where there is none."""
    return " ".join(str(error).split()) or type(error).__name__
