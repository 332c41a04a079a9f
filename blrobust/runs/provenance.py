"""run.json: configuration, code, machine, data and weights of a run."""

import hashlib
import importlib.metadata
import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blrobust import __version__
from blrobust.atomic_write import write_text
from blrobust.errors import UserError, reason

if TYPE_CHECKING:
    from blrobust.data.datasets import Dataset

FILE = "run.json"
FORMAT = 2  # of a run folder; another number is read by another version
PACKAGES = (
    *("blrobust", "torch", "torchvision", "foolbox", "pyautoattack", "numba", "numba-cuda"),
    *("numpy", "scipy", "pandas", "statsmodels", "seaborn", "safetensors"),
)


def now() -> str:
    """Return the time as ISO 8601 in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def digest(config: dict[str, Any]) -> str:
    """Return the SHA-256 of a configuration written as canonical JSON (sorted keys, no spaces)."""
    text = json.dumps(config, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def versions() -> dict[str, str]:
    """Return the versions of Python and of the installed packages that can affect results."""
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def git_revision() -> str | None:
    """Return the commit of the working tree that contains this package, with "-dirty" if changed.

    `None` without git, without a working tree, or in one that does not track this file (a virtual
    environment inside another repository).
    """
    describe = ("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
    tracked = _git("ls-files", "--error-unmatch", Path(__file__).name)
    return None if tracked is None else _git(*describe)


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", *arguments],
            cwd=Path(__file__).parent,
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},  # never write into the user's tree
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def command_line() -> str:
    """Return the command of this process as a shell line that can be pasted."""
    name = Path(sys.argv[0]).name
    return shlex.join(["blrobust" if name == "__main__.py" else name, *sys.argv[1:]])


def new_record(
    config: dict[str, Any],
    *,
    dataset: "Dataset",
    cards: Sequence[dict[str, Any]],
    device: str,
    batch_size: int,
) -> dict[str, Any]:
    """Return the content of run.json at the start of a run: "finished" is null, with one session."""
    start = now()
    session = {
        "started": start,
        "command_line": command_line(),
        "device": device,
        "batch_size": batch_size,
        "versions": versions(),
        "git": git_revision(),
    }
    return {
        "config": config,
        "hash": digest(config),
        "command_line": session["command_line"],
        "versions": session["versions"],
        "git": session["git"],
        "device": device,
        "dataset": {
            "name": dataset.name,
            "split": dataset.split,
            "n": len(dataset),
            "checksum": dataset.checksum,
            "note": dataset.note,
            "classes": list(dataset.classes),
            "mean": list(dataset.mean),
            "std": list(dataset.std),
        },
        "models": list(cards),
        "started": start,
        "finished": None,
        "sessions": [session],
    }


def write_record(folder: Path, provenance: dict[str, Any]) -> None:
    """Write run.json, whole or not at all, with its format and a checksum over the rest."""
    record = {"format": FORMAT, **provenance}
    record["checksum"] = digest(record)
    write_text(folder / FILE, json.dumps(record, indent=1, allow_nan=False) + "\n")


def read_record(folder: Path) -> dict[str, Any]:
    """Return the content of run.json; raise `UserError` where it is missing, damaged or of another format."""
    file = folder / FILE
    if not file.is_file():
        raise UserError(f"{folder} is not a run folder: it has no {FILE}")
    try:
        record = json.loads(file.read_text("utf-8"))
        checksum = record.pop("checksum")
        if digest(record) != checksum:
            raise ValueError("checksum mismatch")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{file} is corrupt: {reason(error)}") from None
    if (found := record.pop("format", None)) != FORMAT:
        raise UserError(
            f"{file}: got format {found}; legal: {FORMAT}, for blrobust {__version__} (use the version that "
            "wrote the run)"
        )
    provenance: dict[str, Any] = record
    return provenance
