"""The names of arguments in error messages: options of the command line, or arguments in Python."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from blrobust.errors import ArgumentError, FailedPartsError, UserError

# Option -> argument. Options of commands that messages quote, such as --data-dir, must stay as they are.
ARGUMENTS = {
    "--baseline": "baseline",
    "--batch-size": "batch_size",
    "--device": "device",
    "--kind": "attacks",
    "--legacy": "space",
    "--limit": "limit",
    "--networks": "networks",
    "--norm": "norm",
    "--out": "out",
    "--save-adversarials": "save_adversarials",
    "--set": "parameters",
    "--size": "size",
    "--source": "source",
    "--strength": "attacks",
    "--target": "target",
}
_OPTION = re.compile("|".join(rf"{option}(?![\w-])" for option in ARGUMENTS))


@contextmanager
def named_as_in_python() -> Iterator[None]:
    """Return a context that turns a `UserError` that names options into one that names arguments.

    A `FailedPartsError`, whose lines are about models, is not changed.
    """
    try:
        yield
    except (ArgumentError, FailedPartsError):
        raise
    except UserError as error:
        text = str(error)
        raise ArgumentError(in_python(text), text) from error


def in_python(text: str) -> str:
    """Return the message `text` with the names of options replaced by those of arguments."""
    return _OPTION.sub(lambda found: ARGUMENTS[found[0]], text)
