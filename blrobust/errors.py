"""The one exception that the command line turns into a single line and exit code 2."""


class UserError(ValueError):
    """Something the user gave is not usable: the message names the value and what is legal."""


def reason(error: BaseException) -> str:
    """Return what another library's error says, as one line; its type where it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__
