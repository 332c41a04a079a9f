"""Hostile options, files and names: one line, a documented code, and what was there before stays."""

import hashlib
import json
import random
import shutil
from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import click
import numpy as np

from blrobust.cli import cli
from faults.process import CODES, run

TEXTS = [
    *("", " ", "-", "--", "0", "-1", "1", "2", "nan", "inf", "-inf", "1e400", "1e39", "1e-400", "0x10", "1_0"),
    *("0:2", "2:0", "0:2:0", "0:1:1e-9", "0:2:nan", ":", "::", "1:2:3:4", "0,0.1", "0.1,0.1", ",", "0,,1"),
    *("1/255", "1/0", "8/255,0", "0/0", "\u0661", "\uff11", "9" * 400, "a" * 5000, "\x1b[31mred", "\x07", "\r"),
    *("a\nb", "\u202eabc", "\ud800".encode("utf-8", "surrogatepass").decode("utf-8", "replace"), "é", "=1+1"),
    *("@x", "+x", "-x", "\tx", "'", '"', "`id`", "$(id)", ";", "|", "*", "..", "../..", "~", "~nobody/x", "/"),
    *("/dev/null", "/dev/full", "/proc/self/mem", "nothing", "precious.txt", "precious", "run", "data.npz"),
    *("fp32", "fp32,fp32", "fft85,fp32", "FP32", "fft999", "fft-1", "fft", "lowpass", "lowpass0.5+", "+fp32"),
    *("lowpass0.5+fp32", "lowpass2+fp32", "depth0+fp32", "depth5+depth5+fp32", "blurnan+fp32", "x=fp32", "=fp32"),
    *("x=y:z", "x=os:getcwd", "x=sys:exit", "x=weights.safetensors", "weights.safetensors", "a=b=c:d", "x=:"),
    *("cifar10", "cifar10-sample", "folder:", "folder:precious", "folder:data.npz", "npz:", "npz:data.npz"),
    *("npz:precious.txt", "npz:/dev/zero", "imagenet", "cpu", "cuda", "cuda:99", "mps", "meta", "cpu:5"),
    *("pgd-linf", "pixel", "fgsm,fgsm", "suite:quick", "suite:", "all", "steps=1", "steps=-1", "steps=nan"),
    *("steps=1e9", "x=1", "steps=", "=", "pgd-linf.steps=2", "nothing.steps=2", "resnet20", "resnet18", "auto"),
]  # fmt: skip
# What keeps a command short, and which of its options hostile texts replace.
SHORT: dict[str, list[str]] = {
    "noise": ["--dataset", "cifar10-sample", "--limit", "2", "--models", "fp32", "--sigma", "0"],
    "attack": [
        "--dataset",
        "cifar10-sample",
        "--limit",
        "2",
        "--models",
        "fp32",
        "--kind",
        "fgsm",
        "--strength",
    ]
    + ["2/255"],
    "heatmap": ["--dataset", "cifar10-sample", "--limit", "2", "--size", "1"],
    "recover": ["--dataset", "cifar10-sample", "--limit", "2", "--kind", "fgsm", "--networks", "fft50"]
    + ["--compressions", "0.5", "--bits", "4"],
    "train": ["--arch", "tiny", "--epochs", "1", "--device", "cpu", "--batch-size", "16"],
}
POSITIONAL = {
    "heatmap": "fp32",
    "train": "fp32",
    "report": "run",
    "runs": ".",
    "attacks": None,
    "models": None,
}


def trial(seed: int, root: Path) -> tuple[list[str], Counter[str]]:
    """Call a command with hostile options or files; return the faults, and what was tried."""
    source = random.Random(f"inputs {seed}")
    scratch = root / f"input-{seed}"
    shutil.copytree(bystanders(root), scratch)
    kind, make = source.choice(list(KINDS.items()))
    arguments = make(source, scratch)
    before = digests(scratch)
    ended = run(arguments, scratch)
    faults = ended.faults(*CODES)
    errors = [line for line in ended.err.splitlines() if line.startswith("Error")]
    if ended.code == 2 and len(errors) != 1 and "could not be" not in ended.err:
        faults.append(f"{arguments}: {len(errors)} lines of errors: {ended.err[-300:]}")
    after = digests(scratch)
    faults += [f"{arguments}: {name} has changed" for name in before if after.get(name) != before[name]]
    shutil.rmtree(scratch, ignore_errors=True)
    counts = Counter({f"{kind}: refused": ended.code == 2, f"{kind}: carried out": ended.code == 0})
    return [f"seed {seed}: {fault}" for fault in faults], counts


def digests(folder: Path) -> dict[str, str]:
    """Return the checksums of the files that no command may change: all but a report and a lock."""
    files = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
        if path.suffix not in (".html", ".out", ".err") and path.name != "lock"
    }


@cache
def bystanders(root: Path) -> Path:
    """Return a folder with a run, data, weights and a text, made once in a process."""
    folder = root / "bystanders"
    (folder / "precious").mkdir(parents=True)
    (folder / "precious.txt").write_text("mine\n")
    (folder / "precious" / "letter.txt").write_text("mine too\n")
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (4, 32, 32, 3), np.uint8)
    np.savez(folder / "data.npz", images=images, labels=np.arange(4))
    for commands in (
        ["noise", *SHORT["noise"], "--out", "run"],
        ["train", "fp32", *SHORT["train"], "--out", "."],
    ):
        ended = run(commands, folder)
        if ended.code:
            raise RuntimeError(ended.err)
    (folder / "cifar10-tiny-fp32.safetensors").rename(folder / "weights.safetensors")
    return folder


def options(source: random.Random, _: Path) -> list[str]:
    """Return a command with one to three hostile texts in place of legal ones, or of none."""
    name = source.choice(sorted(cli.list_commands(click.Context(cli))))
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    names = [option for parameter in command.params for option in parameter.opts if option.startswith("--")]
    names = [option for option in names if option not in ("--help", "--open", "--verify")]
    arguments = [name]
    if positional := POSITIONAL.get(name):
        arguments.append(source.choice(TEXTS) if source.random() < 0.3 else positional)
    arguments += SHORT.get(name, [])
    for _ in range(source.randint(1, 3) if names else 0):
        arguments.append(source.choice(names))
        if source.random() < 0.95:
            arguments.append(source.choice(TEXTS))
    if name in ("data", "models"):
        arguments = [argument for argument in arguments if argument != "get"]
    return arguments


def run_files(source: random.Random, scratch: Path) -> list[str]:
    """Change one value of run.json, with the checksum that fits, and ask for the report."""
    path = scratch / "run" / "run.json"
    record = json.loads(path.read_text())
    _change(record, source)
    from blrobust.runs.provenance import digest

    record.pop("checksum", None)
    try:
        record["checksum"] = digest(record)
    except ValueError:  # NaN
        pass
    path.write_text(json.dumps(record))
    return source.choice([["report", "run"], ["runs", "."], ["noise", *SHORT["noise"], "--out", "run"]])


def checkpoints(source: random.Random, scratch: Path) -> list[str]:
    """Change the metadata or the header of a checkpoint, and measure it."""
    path = scratch / "weights.safetensors"
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    if source.random() < 0.7:
        metadata = header["__metadata__"]
        name = source.choice(sorted(metadata))
        try:
            inside = {name: json.loads(metadata.pop(name))}
            _change(inside, source)
            metadata |= {key: json.dumps(value) for key, value in inside.items()}
        except ValueError:
            metadata[name] = source.choice(TEXTS)
    else:
        _change(header, source)
    packed = json.dumps(header).encode()
    path.write_bytes(len(packed).to_bytes(8, "little") + packed + content[8 + size :])
    return ["noise", *SHORT["noise"], "--models", "x=weights.safetensors"]


def arrays(source: random.Random, scratch: Path) -> list[str]:
    """Write images and labels of odd types, shapes and values, or damage the file, and measure them."""
    path = scratch / "data.npz"
    generator = np.random.default_rng(source.randrange(2**32))
    dtype = source.choice(["uint8", "int64", "float32", "float64", "bool", "complex64", "O", "U3", "float16"])
    shape = source.choice(
        [(4, 32, 32, 3), (4, 3, 32, 32), (4, 32, 32), (0, 32, 32, 3), (4, 1, 1, 3), (4,), ()]
    )
    with np.errstate(invalid="ignore"):
        images: Any = (generator.random(shape) * source.choice([1, 255, 1e30])).astype(dtype)
    labels = source.choice(
        [np.arange(4), np.arange(1, 5), np.arange(3), np.zeros(4), np.full(4, np.nan), np.array(list("abcd"))]
        + [np.arange(4) - 1, np.full(4, 2**40), np.arange(4.0) + 0.5, np.arange(4)[:, None], np.array(3)]
    )
    names = source.choice([("images", "labels"), ("x", "y"), ("images", "images2"), ("x_test", "y_test")])
    np.savez(path, **dict(zip(names, (images, labels), strict=True)))
    if source.random() < 0.3:
        content = bytearray(path.read_bytes())
        for _ in range(source.randint(1, 20)):
            content[source.randrange(len(content))] = source.randrange(256)
        path.write_bytes(content[: source.randint(1, len(content))] if source.random() < 0.3 else content)
    return ["noise", "--dataset", "npz:data.npz", "--models", "fp32", "--sigma", "0"]


def names(source: random.Random, scratch: Path) -> list[str]:
    """Use hostile names of labels and folders."""
    label = source.choice(TEXTS)
    out = source.choice(
        ["new", "a b", "é", "x\x1b[1m", "run", "precious", "precious.txt", "=x", "..", "n" * 300]
    )
    command = source.choice(["noise", "attack", "recover"])
    arguments = [command, *SHORT[command]]
    if command != "recover":
        arguments += ["--models", f"{label}=fp32"]
    if command == "attack":
        arguments.append("--save-adversarials")
    return [*arguments, "--out", out]


def _change(value: Any, source: random.Random) -> None:
    """Replace, remove or add one value in nested lists and dicts."""
    while True:
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        if not keys:
            return
        key = source.choice(keys)
        if isinstance(value[key], (dict, list)) and value[key] and source.random() < 0.8:
            value = value[key]
            continue
        choice = source.random()
        if choice < 0.15:
            del value[key]
        elif choice < 0.25 and isinstance(value, list):
            value.append(value[key])
        else:
            value[key] = source.choice([*LEAVES, source.choice(TEXTS), _deep(source.choice([5, 200]))])
        return


LEAVES: list[Any] = [
    None,
    True,
    False,
    0,
    1,
    -1,
    10**30,
    10**400,
    0.5,
    -0.5,
    float("nan"),
    float("inf"),
    [],
    {},
]


def _deep(levels: int) -> Any:
    value: Any = []
    for _ in range(levels):
        value = [value]
    return value


KINDS: dict[str, Callable[[random.Random, Path], list[str]]] = {
    "options": options,
    "run.json": run_files,
    "checkpoint": checkpoints,
    "npz": arrays,
    "names": names,
}
