"""The result of a trial: the number of attempts by name, and the faults found."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, get_args

Kind = Literal["lost", "traceback", "silent change", "other"]
KINDS: tuple[Kind, ...] = get_args(Kind)


class Fault(NamedTuple):
    """A broken promise.

    - lost: results or files of the user that are gone, or differ after the command was called again.
    - traceback: a message of Python in place of one line.
    - silent change: a damaged file that is read with other values and without an error.
    - other: an exit code that is not documented, a process that hangs, or a message of several lines.
    """

    kind: Kind
    text: str


@dataclass
class Result:
    """The attempts of a trial, by name, and its faults."""

    tried: Counter[str] = field(default_factory=Counter)
    faults: list[Fault] = field(default_factory=list)

    def add(self, faults: Iterable[Fault], where: str) -> None:
        """Add faults with the place at which they were found."""
        self.faults += [Fault(fault.kind, f"{where}: {fault.text}") for fault in faults]
