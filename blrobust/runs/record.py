"""The record of a run, stored in run.json and validated when it is read."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from msgspec import Meta, MsgspecError, Struct, convert, to_builtins

from blrobust import __version__
from blrobust.atomic_write import write_text
from blrobust.errors import UserError, reason
from blrobust.regular_file import ABSENT, problem_of, read_bytes
from blrobust.runs.configuration import (
    Configuration,
    Count,
    DatasetIdentity,
    ModelIdentity,
    check_label,
)

FILE = "run.json"
# Versions of run folders. 2: no id. 3: run.json and run.sqlite have a common id, and all rows have checksums.
# 4: cells of noise and attacks also have the probabilities and the margin of every image.
FORMAT: Literal[4] = 4
FORMATS = (2, 3, FORMAT)  # the formats that can be read
MOST_BYTES = 2**30  # of run.json, most of them the answers of models with many classes
ANCIENT = "measurement.json"  # record of an old heat map or recovery, which cannot be read

Share = Annotated[float, Meta(ge=0, le=1)]


class DatasetFacts(Struct, kw_only=True):
    """Facts about the images of a run.

    `n` is the number of images. `mean` and `std` have one number per colour channel, for pixels in [0, 1].
    Raises `ValueError` if `mean` and `std` have different lengths.
    """

    name: str
    split: str
    n: Count
    checksum: str
    note: str | None
    classes: Annotated[list[str], Meta(min_length=1)]
    mean: Annotated[list[float], Meta(min_length=1)]
    std: Annotated[list[Annotated[float, Meta(gt=0)]], Meta(min_length=1)]

    def __post_init__(self) -> None:
        if len(self.mean) != len(self.std):
            raise ValueError("mean and std must have one number per channel")


class Card(Struct, frozen=True, kw_only=True):
    """Facts about a model, with the fields of `models.card.ModelCard`.

    Raises `ValueError` if the label is empty or not printable.
    """

    label: str
    sha256: str
    arch: str | None = None
    precision: str = "fp32"
    dataset: str | None = None
    checkpoint: str | None = None
    test_accuracy: Share | None = None
    seed: int | None = None
    recipe: dict[str, Any] = {}
    note: str | None = None
    channels: tuple[str, ...] = ()
    tested_at: Annotated[int, Meta(ge=0, le=99)] | None = None
    nominal_compression: Share = 0.0
    effective_compression: Share = 0.0
    fft_size: str | None = None
    parameters: Annotated[int, Meta(ge=0, le=2**60)] | None = None

    def __post_init__(self) -> None:
        check_label(self.label)


class Session(Struct, frozen=True, kw_only=True):
    """One process that worked on a run: its start (ISO 8601), command line, device, batch size and versions.

    `git` is the commit of the code, or None if it is unknown.
    """

    started: str
    command_line: str
    device: str
    batch_size: Count
    versions: dict[str, str]
    git: str | None


class Record(Struct, kw_only=True, omit_defaults=True):
    """The content of run.json: configuration, times, versions, device, data set, models and sessions.

    - `id`: a random number, in hexadecimal, that is also in run.sqlite.
    - `hash`: the SHA-256 of `config`.
    - `started`, `finished`: times (ISO 8601); `finished` is None until the run is finished.
    - `answers`: logits of the models for a few fixed inputs, by model (`runs.answers`).
    - `flags`: reasons to doubt the results, by model.

    Runs of early builds of version 0.1.0 can lack `id`, `answers` and `flags`. Raises `ValueError` if the
    fields contradict each other.
    """

    format: Literal[2, 3, 4]
    id: Annotated[str, Meta(pattern=r"\A[0-9a-f]{32}\Z")] | None = None
    config: Configuration
    hash: str
    command_line: str
    versions: dict[str, str]
    git: str | None
    device: str
    dataset: DatasetFacts
    models: list[Card]
    started: str
    finished: str | None
    sessions: Annotated[list[Session], Meta(min_length=1)]
    answers: dict[str, dict[str, Any]] = {}
    flags: dict[str, list[str]] = {}

    def __post_init__(self) -> None:
        if (self.format > 2) != (self.id is not None):
            raise ValueError("formats 3 and 4 have an id, and format 2 has none")
        config, data = self.config, self.dataset
        if self.hash != digest(config.encode()):
            raise ValueError("hash mismatch of the configuration")
        if DatasetIdentity(data.name, data.checksum, data.n) != config.dataset:
            raise ValueError("dataset must be that of the configuration")
        if [ModelIdentity(card.label, card.sha256) for card in self.models] != config.models:
            raise ValueError("models must be those of the configuration")

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Return the record in `folder`; raise `UserError` if it is missing, damaged or of unknown format."""
        file = folder / FILE
        problem = problem_of(file)
        if problem == ABSENT:
            if (folder / ANCIENT).exists():
                raise UserError(
                    f"{folder}: got {ANCIENT} of an earlier format of heat maps and recoveries; legal: a "
                    f"folder with {FILE} (run the command again with another folder; its tables stay valid)"
                )
            raise UserError(f"{folder} is not a run folder: it has no {FILE}")
        if problem is not None:
            raise UserError(f"{folder}: got {FILE}, {problem}; legal: a run folder")
        try:
            plain = json.loads(read_bytes(file, most=MOST_BYTES).decode())
            checksum = plain.pop("checksum")
            if digest(plain) != checksum:
                raise ValueError("checksum mismatch")
            if plain["format"] in FORMATS:
                return convert(plain, cls)
        except UserError:
            raise
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, MsgspecError) as error:
            raise UserError(f"{file} is corrupt: {reason(error)}") from None
        raise UserError(
            f"{file}: got format {plain['format']}; legal: {', '.join(map(str, FORMATS))}, for blrobust "
            f"{__version__} (use the version that wrote the run)"
        )

    def write(self, folder: Path, *, check: Callable[[], None] = lambda: None) -> None:
        """Write run.json into `folder`, completely or not at all, with a checksum of its other entries.

        `check` is that of `atomic_write.write_bytes`.
        """
        plain = to_builtins(self)
        plain["checksum"] = digest(plain)
        write_text(folder / FILE, json.dumps(plain, indent=1, allow_nan=False) + "\n", check=check)


def digest(plain: dict[str, Any]) -> str:
    """Return the SHA-256, in hexadecimal, of a dict written as JSON with sorted keys and without spaces."""
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
