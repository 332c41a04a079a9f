"""Checkpoints: safetensors files with facts about a model as metadata; nothing is unpickled."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from blrobust import atomic_write
from blrobust.errors import UserError, reason, shorten
from blrobust.models.classifier import Classifier
from blrobust.models.facts import Facts as Facts
from blrobust.models.tensor_bytes import checksum, to_bytes
from blrobust.regular_file import problem_of

FORMAT = "blrobust-1"
FLOATS = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}  # of weights
DTYPES = [*FLOATS.values(), "I64"]  # as safetensors calls them; int64: counters of a stopped training
MOST_NAME = 200  # characters of the name of a tensor


def save(
    path: Path, tensors: dict[str, Tensor], facts: Facts, *, check: Callable[[], None] = lambda: None
) -> None:
    """Write tensors and facts to `path`, completely or not at all; equal content gives equal bytes.

    `check` is called before the file is replaced (`atomic_write.write_bytes`).
    """
    check()
    path.parent.mkdir(parents=True, exist_ok=True)
    stored = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
    text = facts.to_json()
    metadata = {"format": FORMAT, "facts": text, "checksum": checksum(stored, text)}
    atomic_write.write_bytes(path, to_bytes(stored, metadata), check=check)


def load(path: Path) -> tuple[dict[str, Tensor], Facts]:
    """Return the tensors (on the CPU) and the facts of a checkpoint.

    The checksum is verified if the file has one. Raises `UserError` for a file that is missing, damaged, or
    not written by blrobust.
    """
    if problem := problem_of(path):
        raise UserError(f"checkpoint {path} {problem.removeprefix('which ')}; legal: a .safetensors file")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            facts = _facts(path, metadata)
            names = sorted(file.keys())
            for name in names:
                dtype = file.get_slice(name).get_dtype()
                if dtype not in DTYPES or len(name) > MOST_NAME:
                    raise UserError(
                        f"checkpoint {path}: got {shorten(repr(name))} of type {dtype}; legal: names of at "
                        f"most {MOST_NAME} characters, types {', '.join(DTYPES)}"
                    )
            tensors = {name: file.get_tensor(name) for name in names}
    except UserError:
        raise
    except (SafetensorError, OSError, ValueError) as error:
        problem = shorten(reason(error))
        raise UserError(f"checkpoint {path} is not a readable safetensors file: {problem}") from None
    stored = metadata.get("checksum")
    if stored is not None and stored != checksum(tensors, metadata["facts"]):
        raise UserError(f"checkpoint {path} is damaged: its tensors or facts do not have the stored checksum")
    return tensors, facts


def _facts(path: Path, metadata: Mapping[str, str]) -> Facts:
    if metadata.get("format") != FORMAT:
        found = shorten(repr(metadata.get("format", "none")))
        raise UserError(f"checkpoint {path} was not written by blrobust (format {found}, wanted {FORMAT!r})")
    try:
        return Facts.from_json(metadata["facts"])
    except (KeyError, ValueError) as error:
        raise UserError(f"checkpoint {path} has unusable metadata: {shorten(reason(error))}") from None


def load_model(path: Path, *, compression: float | None = None) -> tuple[Classifier, Facts]:
    """Return the trained model of a checkpoint in fp32 on the CPU, in evaluation mode, and its facts.

    `compression` is a nominal compression that replaces that of the training, in the model and in the facts.
    Raises `UserError` for a file that the function `load` rejects, and if the weights do not fit the
    architecture.
    """
    tensors, facts = load(path)
    if compression is not None:
        facts = replace(facts, compression=compression)
    with torch.device("meta"):  # shapes without data: a large number in the facts must not fill the memory
        wanted = stored_state(facts.build())
    check_fit(path, tensors, wanted, facts.arch)
    model = facts.build()
    model.load_state_dict({name: t.float() for name, t in tensors.items()}, strict=False)
    return model.eval(), facts


def check_fit(path: Path, tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor], what: str) -> None:
    """Raise `UserError` unless `tensors` have the names, shapes and dtypes of the tensors in `wanted`.

    If a wanted tensor has a dtype in `FLOATS`, every dtype in `FLOATS` is legal. The message names the file
    `path` and `what`, the architecture or the training that needs the tensors.
    """
    for name in sorted(wanted.keys() | tensors.keys()):
        have, want = (_describe(found.get(name)) for found in (tensors, wanted))
        if have != want:
            found = f"{name} is {shorten(have)}, wanted {want}"
            raise UserError(f"checkpoint {path} does not fit {what}: {found}")


def _describe(tensor: Tensor | None) -> str:
    if tensor is None:
        return "nothing"
    kind = "" if tensor.dtype in FLOATS else f"{tensor.dtype} "
    return f"{kind}{tuple(tensor.shape)}"


def stored_state(model: torch.nn.Module) -> dict[str, Tensor]:
    """Return the tensors of a finished checkpoint: parameters in fp16, BatchNorm's buffers in fp32."""
    state = {name: p.detach().half() for name, p in model.named_parameters()}
    buffers = {name: b for name, b in model.state_dict().items() if name not in state}
    return state | {n: b.float() for n, b in buffers.items() if not n.endswith("num_batches_tracked")}
