"""Models by name: search for their weights, loading and checks."""

import hashlib
import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import platformdirs
import torch
from torch import nn

from blconv import effective_compression
from blrobust import regular_file
from blrobust.data import datasets
from blrobust.data.datasets import Dataset
from blrobust.data.image_files import COUNT_FROM_0
from blrobust.errors import UserError
from blrobust.models import checkpoint, remote_weights
from blrobust.models.accuracy import accuracy
from blrobust.models.channel_names import build_channel
from blrobust.models.channels import ColourDepth
from blrobust.models.checkpoint import Facts
from blrobust.models.factory import from_factory
from blrobust.models.model import Model as Model
from blrobust.models.model import check_logits, first_logits, with_card
from blrobust.models.model_names import Target, compression_of, facts_of, file_stem, trained_on
from blrobust.models.precision import reduce_precision
from blrobust.user_paths import expanded

_FACTORY = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
ACCURACY_TOLERANCE = 0.002
BUNDLED = Path(__file__).parents[1] / "weights"


def own_weights_folder() -> Path:
    """Return the folder to which `blrobust train` writes: $BLROBUST_WEIGHTS, or the user's data folder.

    It is the data folder too if the variable is an address (`remote_weights`).
    """
    folder = os.environ.get("BLROBUST_WEIGHTS")
    if folder and remote_weights.address() is None:
        return expanded(folder, "BLROBUST_WEIGHTS")
    return platformdirs.user_data_path("blrobust") / "weights"


@dataclass(frozen=True)
class Entry:
    """A checkpoint, and the model name for which it is loaded."""

    name: str
    path: Path
    facts: Facts
    bundled: bool

    @property
    def effective(self) -> float:
        """Effective compression at 32 x 32 pixels."""
        with torch.device("meta"):  # sizes alone
            model = self.facts.build()
        return effective_compression(model, (len(self.facts.mean), 32, 32)).effective


def available(*, local: bool = False) -> dict[str, Path]:
    """Return the checkpoint files, by their names without the ending.

    Of several checkpoints of one name, that of the user is preferred, then that at the address in
    $BLROBUST_WEIGHTS, then the bundled one. With `local`, the address is not used. Raises `UserError` if its
    list of files cannot be fetched.
    """
    fetched = {} if local else remote_weights.fetched()
    own, bundled = _in_folder(own_weights_folder()), _in_folder(BUNDLED)
    return own | {stem: path for stem, path in (bundled | fetched).items() if stem not in own}


def _in_folder(folder: Path) -> dict[str, Path]:
    """Return the checkpoint files in a folder by their names without the ending."""
    return {
        path.stem: path
        for path in sorted(folder.glob("*.safetensors"))
        if not path.name.startswith(".") and not path.name.endswith(".training.safetensors")
    }


def entries(*, on_broken: Callable[[UserError], None]) -> list[Entry]:
    """Return the checkpoints that model names stand for; `on_broken` is called for unreadable files."""
    found = []
    try:
        paths = available()
    except UserError as error:
        on_broken(error)
        paths = available(local=True)
    for stem, path in paths.items():
        try:
            _, facts = checkpoint.load(path)
        except UserError as error:
            on_broken(error)
            continue
        name = stem.removeprefix(f"{facts.dataset}-{facts.arch}-")
        found.append(Entry(name, path, facts, path.parent == BUNDLED))
    return found


def verify(entry: Entry, *, data_dir: Path | None = None) -> tuple[list[str], list[str]]:
    """Check the checksum, the weights and the recorded accuracy; return problems and passed checks.

    The measured accuracy may differ from the recorded one by up to 0.2 percentage points, because the
    recorded one was measured on a GPU, in TF32, and with another rounding of half precision.
    """
    problems: list[str] = []
    done: list[str] = []
    if entry.bundled:
        listed = dict(line.split()[::-1] for line in (BUNDLED / "SHA256SUMS").read_text().splitlines())
        same = listed.get(entry.path.name) == _sha256(entry.path)
        (done if same else problems).append("checksum" if same else "checksum differs from SHA256SUMS")
    try:
        test = datasets.load(entry.facts.dataset, data_dir=data_dir)
    except UserError:
        try:
            checkpoint.load_model(entry.path)
        except UserError as error:
            return [*problems, str(error)], done
        return problems, [*done, f"weights fit; accuracy not measured, {entry.facts.dataset} is not on disk"]
    try:
        model = _from_checkpoint(Target(entry.name, (), entry.name), entry.path, test, torch.device("cpu"))
    except UserError as error:
        return [*problems, str(error)], done
    measured, recorded = accuracy(model.module, test, torch.device("cpu")), entry.facts.test_accuracy
    line = f"accuracy {measured:.2%}, recorded {recorded or 0:.2%}"
    agrees = recorded is not None and abs(measured - recorded) <= ACCURACY_TOLERANCE
    (done if agrees else problems).append(line)
    return problems, done


def load(name: str, *, arch: str = "resnet20", dataset: Dataset, device: torch.device) -> Model:
    """Return the model called `name`, trained for `dataset`, on `device`.

    Raises `UserError` if the name is not legal, its weights cannot be used, or the user's own model fails.
    """
    target = Target.of(name)
    model = _without_channels(name, target, arch, dataset, device)
    return _behind_channels(model, target, arch, dataset, device) if target.channels else model


def _without_channels(name: str, target: Target, arch: str, dataset: Dataset, device: torch.device) -> Model:
    """Return the model of a name, without the channels (transforms of the image) in front of it.

    `target` are the parts of `name`.
    """
    if target.channels or "=" in name:
        if target.model.endswith(".safetensors"):
            path = expanded(target.model, f"checkpoint of model {target.label!r}")
            return _from_checkpoint(target, path, dataset, device)
        if _FACTORY.fullmatch(target.model) and target.tested_at is None:
            return from_factory(target.label, target.model, dataset, device)
        if not target.channels:
            raise UserError(
                f"model {name!r}: what follows the last '=' must be FILE.safetensors, "
                "PACKAGE.MODULE:FACTORY or CHANNEL+MODEL, and @NN only after a file"
            )
    return _from_checkpoint(target, _find(target.model, arch, dataset), dataset, device)


def _behind_channels(
    model: Model, target: Target, arch: str, dataset: Dataset, device: torch.device
) -> Model:
    """Return `model` behind the channels in `target` (transforms of the image), as one model.

    The result has its own card (facts for tables) and its own checksum.
    """
    trained = f"{trained_on(dataset)}-{arch}"
    channels = [build_channel(word, trained=trained) for word in target.channels]
    module = nn.Sequential(*channels, model.module).eval()
    check_logits(target.label, first_logits(target.label, module, dataset, device), dataset)
    settings = [repr(channel) for channel in channels]
    digest = hashlib.sha256("+".join([*settings, model.card.sha256]).encode()).hexdigest()
    notes = [model.card.note] if model.card.note else []
    if any(isinstance(channel, ColourDepth) for channel in channels):
        notes.append("gradients pass the rounding of colours unchanged")
    card = replace(
        model.card,
        sha256=digest,
        channels=target.channels,
        test_accuracy=None,
        note="; ".join(notes) or None,
    )
    return Model(target.label, module, card)


def find_weights(name: str, *, arch: str, dataset: Dataset) -> Path | None:
    """Return the checkpoint of the model called `name`, or None if there is none for `dataset`.

    It is fetched if it is at the address in $BLROBUST_WEIGHTS and not in the user's folder or cache. Raises
    `UserError` for a name outside the grammar, and for an unknown architecture.
    """
    facts = facts_of(name, arch=arch, dataset=dataset)
    stem = file_stem(name, arch=arch, dataset=facts.dataset)
    path = available().get(stem)
    if path is None or path.parent != own_weights_folder():
        path = remote_weights.fetch(stem) or path
    return path


def training_command(names: Iterable[str], *, arch: str, dataset: str) -> str:
    """Return the command that trains models for the data set called `dataset`."""
    options = "" if arch == "resnet20" else f" --arch {arch}"
    options += "" if dataset == "cifar10" else f" --dataset {dataset}"
    return f"blrobust train {','.join(names)}{options}"


def _find(name: str, arch: str, dataset: Dataset) -> Path:
    path, trained = find_weights(name, arch=arch, dataset=dataset), trained_on(dataset)
    if path is None and trained not in datasets.NAMES:
        raise UserError(
            f"model {name!r} has no weights for {dataset.name}; give a model of your own as "
            "LABEL=FILE.safetensors or LABEL=PACKAGE.MODULE:FACTORY"
            + (f"; {COUNT_FROM_0}" if int(dataset.labels.min()) > 0 else "")
        )
    if path is None:
        raise UserError(
            f"model {name!r} has no weights for {arch} on {trained}; make them with: "
            + training_command([name], arch=arch, dataset=trained)
        )
    return path


def _from_checkpoint(target: Target, path: Path, dataset: Dataset, device: torch.device) -> Model:
    label, tested_at = target.label, target.tested_at
    compression = None if tested_at is None else compression_of(tested_at)
    classifier, facts = checkpoint.load_model(path, compression=compression)
    channels = dataset.images.shape[1]
    if channels != len(facts.mean):  # normalising grey images by colour would make them colour images
        raise UserError(
            f"model {label!r} wants images of {len(facts.mean)} channels; "
            f"those of {dataset.name} have {channels}"
        )
    module, note = placed(classifier, facts, device)
    origin: dict[str, Any] = {
        "arch": facts.arch,
        "precision": facts.precision,
        "dataset": facts.dataset,
        "checkpoint": str(path),
        "sha256": _sha256(path),
        "test_accuracy": facts.test_accuracy,
        "seed": facts.seed,
        "recipe": facts.recipe,
        "note": note,
    }
    if tested_at is not None:
        digest = hashlib.sha256(f"@{tested_at}+{origin['sha256']}".encode()).hexdigest()
        origin |= {"tested_at": tested_at, "sha256": digest, "test_accuracy": None}
    logits = first_logits(label, module, dataset, device)
    return with_card(label, module.requires_grad_(False), logits, origin, dataset)


def placed(classifier: nn.Module, facts: Facts, device: torch.device) -> tuple[nn.Module, str | None]:
    """Return a model on `device`, in the precision and memory format in which it is measured, and a note."""
    module, note = reduce_precision(classifier, facts.precision, device)
    # In channels_last cuDNN's convolutions in full float32 take twice as long; in 16 bits, and on a CPU,
    # convolutions are faster so.
    plain = device.type == "cuda" and facts.precision == "fp32"
    return module.to(memory_format=torch.contiguous_format if plain else torch.channels_last), note


def _sha256(path: Path) -> str:
    with regular_file.opened(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
