"""The origin of a run: its time, command line, versions of packages, and git revision of the code."""

import importlib.metadata
import os
import platform
import secrets
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import MsgspecError, convert, to_builtins

from blrobust.errors import UserError, reason
from blrobust.runs.configuration import Configuration
from blrobust.runs.record import FORMAT, Card, DatasetFacts, Record, Session, digest

if TYPE_CHECKING:
    from blrobust.data.datasets import Dataset

PACKAGES = (
    *("blrobust", "torch", "torchvision", "foolbox", "pyautoattack", "numba", "numba-cuda"),
    *("numpy", "scipy", "pandas", "statsmodels", "seaborn", "safetensors"),
)


_call: ContextVar[str | None] = ContextVar("call", default=None)


def now() -> str:
    """Return the current time in UTC, to the second, as ISO 8601 text."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def versions() -> dict[str, str]:
    """Return the versions of Python, of the operating system and of the installed packages in `PACKAGES`.

    The names are "python", "platform" and those of the packages.
    """
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def git_revision() -> str | None:
    """Return the git commit of the working tree that contains this package, with "-dirty" after edits.

    Return None if git fails, if there is no working tree, or if the working tree does not track this file (as
    in a virtual environment inside another repository).
    """
    describe = ("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
    tracked = _git("ls-files", "--error-unmatch", Path(__file__).name)
    return None if tracked is None else _git(*describe)


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", *arguments],
            cwd=Path(__file__).parent,
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},  # git writes nothing into the user's repository
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


@contextmanager
def recorded_as(call: str | None) -> Iterator[None]:
    """Return a context in which new records have the text `call` as their command line, unless it is None."""
    token = _call.set(call)
    try:
        yield
    finally:
        _call.reset(token)


def command_line() -> str:
    """Return the command line of this process, quoted so that it can be pasted into a shell.

    In the context of `recorded_as`, it is the text of the call.
    """
    if (call := _call.get()) is not None:
        return call
    name = Path(sys.argv[0]).name
    return shlex.join(["blrobust" if name == "__main__.py" else name, *sys.argv[1:]])


def new_record(
    config: Configuration,
    *,
    dataset: "Dataset",
    cards: Sequence[Card],
    device: str,
    batch_size: int,
    answers: dict[str, Any] | None = None,
) -> Record:
    """Return the record at the start of a run: not finished, with one session and a new random id.

    `cards` are the facts about the models, `device` describes the device in words, and `batch_size` is in
    images. `answers` maps models to their stored logits (see `Record`). Raises `UserError` for facts that do
    not fit the types of `Record`, such as those of an edited checkpoint.
    """
    session = Session(
        started=now(),
        command_line=command_line(),
        device=device,
        batch_size=batch_size,
        versions=versions(),
        git=git_revision(),
    )
    record = Record(
        format=FORMAT,
        id=secrets.token_hex(16),
        config=config,
        hash=digest(config.encode()),
        command_line=session.command_line,
        versions=session.versions,
        git=session.git,
        device=device,
        dataset=DatasetFacts(
            name=dataset.name,
            split=dataset.split,
            n=len(dataset),
            checksum=dataset.checksum,
            note=dataset.note,
            classes=list(dataset.classes),
            mean=list(dataset.mean),
            std=list(dataset.std),
        ),
        models=list(cards),
        started=session.started,
        finished=None,
        sessions=[session],
        answers=answers or {},
    )
    try:
        return convert(to_builtins(record), Record)
    except MsgspecError as error:
        raise UserError(
            f"the facts about the models or the data do not fit run.json: {reason(error)}"
        ) from None
