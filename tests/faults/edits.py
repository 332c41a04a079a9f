"""Edits of run.json, checkpoints and data sets that keep their checksums fitting, drawn by hypothesis."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st

from blrobust.runs.record import digest
from faults.hostile import texts, values

Edit = Callable[[Path], object]  # of a folder with run/run.json, weights.safetensors and data.npz

TYPES = ("uint8", "int64", "float32", "float64", "bool", "complex64", "O", "U3", "float16")
SHAPES = ((4, 32, 32, 3), (4, 3, 32, 32), (4, 32, 32), (0, 32, 32, 3), (4, 1, 1, 3), (4,), ())
LABELS = (
    *(np.arange(4), np.arange(1, 5), np.arange(3), np.zeros(4), np.full(4, np.nan), np.array(list("abcd"))),
    *(np.arange(4) - 1, np.full(4, 2**40), np.arange(4.0) + 0.5, np.arange(4)[:, None], np.array(3)),
)
NAMES = (("images", "labels"), ("x", "y"), ("images", "images2"), ("x_test", "y_test"))


@st.composite
def records(draw: st.DrawFn) -> Edit:
    """Return an edit of one value of run.json, with the checksum that fits."""
    change = draw(changes())

    def edit(folder: Path) -> None:
        path = folder / "run" / "run.json"
        record = json.loads(path.read_text("utf-8"))
        change(record)
        if record.pop("checksum", None):
            try:
                record["checksum"] = digest(record)
            except ValueError:  # NaN has no JSON
                record["checksum"] = "0" * 64
        path.write_text(json.dumps(record), "utf-8")

    return edit


@st.composite
def checkpoints(draw: st.DrawFn) -> Edit:
    """Return an edit of the header of a checkpoint, or of a value within its metadata."""
    change, is_inside, text = draw(changes()), draw(st.booleans()), draw(texts)

    def edit(folder: Path) -> None:
        path = folder / "weights.safetensors"
        content = path.read_bytes()
        size = int.from_bytes(content[:8], "little")
        header = json.loads(content[8 : 8 + size])
        if is_inside:
            metadata = header["__metadata__"]
            metadata.pop("checksum", None)
            facts = json.loads(metadata["facts"])
            change(facts)
            metadata["facts"] = json.dumps(facts) if len(text) != 1 else text
        else:
            change(header)
        packed = json.dumps(header).encode()
        path.write_bytes(len(packed).to_bytes(8, "little") + packed + content[8 + size :])

    return edit


@st.composite
def arrays(draw: st.DrawFn) -> Edit:
    """Return an edit that writes images and labels of odd types, shapes and values, or damages the file."""
    dtype, shape = draw(st.sampled_from(TYPES)), draw(st.sampled_from(SHAPES))
    scale, number = draw(st.sampled_from([1, 255, 1e30])), draw(st.integers(0, 2**32 - 1))
    labels, names = draw(st.sampled_from(LABELS)), draw(st.sampled_from(NAMES))
    damage = draw(st.just([]) | st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), max_size=20))
    kept = draw(st.just(1.0) | st.floats(0, 1))

    def edit(folder: Path) -> None:
        path = folder / "data.npz"
        with np.errstate(all="ignore"):
            images: Any = (np.random.default_rng(number).random(shape) * scale).astype(dtype)
        np.savez(path, **dict(zip(names, (images, labels), strict=True)))
        content = bytearray(path.read_bytes())
        for place, value in damage:
            content[int(place * len(content))] = value
        path.write_bytes(content[: int(kept * len(content))])

    return edit


@st.composite
def changes(draw: st.DrawFn) -> Callable[[Any], None]:
    """Return a function that replaces, removes or repeats one value in nested lists and dicts."""
    steps = draw(st.lists(st.integers(0, 1000), min_size=1, max_size=6))
    act, value = draw(st.sampled_from(["replace"] * 6 + ["remove", "repeat"])), draw(values)

    def change(inside: Any) -> None:
        for number, step in enumerate(steps):
            keys = list(inside) if isinstance(inside, dict) else list(range(len(inside)))
            if not keys:
                return
            key = keys[step % len(keys)]
            if isinstance(inside[key], dict | list) and inside[key] and number < len(steps) - 1:
                inside = inside[key]
                continue
            if act == "remove":
                del inside[key]
            elif act == "repeat" and isinstance(inside, list):
                inside.append(inside[key])
            else:
                inside[key] = value
            return

    return change
