"""Edits of runs, checkpoints and data sets that keep their checksums fitting, drawn by hypothesis."""

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st

from blrobust.runs.database_files import FILE
from blrobust.runs.packed_arrays import pack
from blrobust.runs.record import digest
from blrobust.runs.stored_rows import checksum
from faults.hostile import texts, values

Edit = Callable[[Path], object]  # of a folder with runs, weights.safetensors and data.npz

TYPES = ("uint8", "int64", "float32", "float64", "bool", "complex64", "O", "U3", "float16")
SHAPES = ((4, 32, 32, 3), (4, 3, 32, 32), (4, 32, 32), (0, 32, 32, 3), (4, 1, 1, 3), (4,), ())
LABELS = (
    *(np.arange(4), np.arange(1, 5), np.arange(3), np.zeros(4), np.full(4, np.nan), np.array(list("abcd"))),
    *(np.arange(4) - 1, np.full(4, 2**40), np.arange(4.0) + 0.5, np.arange(4)[:, None], np.array(3)),
)
OUTCOMES = ("prediction", "success", "distance", "probability", "pixels", "\x1b")
NAMES = (("images", "labels"), ("x", "y"), ("images", "images2"), ("x_test", "y_test"))


@st.composite
def packed_arrays(draw: st.DrawFn) -> bytes:
    """Return arrays of odd names, types, shapes and values, as in a cell."""
    found = {}
    for name in draw(st.lists(st.sampled_from(OUTCOMES), max_size=3)):
        dtype = draw(st.sampled_from(["int16", "bool", "float32", "float16", "int64", "uint8"]))
        shape = draw(st.sampled_from([(2,), (0,), (3,), (2, 2), ()]))
        with np.errstate(all="ignore"):
            found[name] = np.full(shape, draw(st.sampled_from([0, 1, -1, 9, 1e30, np.nan]))).astype(dtype)
    return pack(found)


# Values of SQLite. A picture is the content of an image file, which the report shows.
cell_values = (
    st.none()
    | st.integers(-(2**63), 2**63 - 1)
    | st.sampled_from([0, 1, 2, -1])
    | st.floats(allow_nan=False)
    | texts
    | st.sampled_from(["fp32", "gaussian", "2027-01-01T00:00:00+00:00"])
    | st.binary(max_size=9)
    | packed_arrays()
)


@st.composite
def records(draw: st.DrawFn, run: str) -> Edit:
    """Return an edit of one value of run.json in the folder `run`, with the checksum that fits."""
    change = draw(changes())

    def edit(folder: Path) -> None:
        path = folder / run / "run.json"
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
def rows(draw: st.DrawFn, run: str) -> Edit:
    """Return an edit of one value in a row of run.sqlite, with the checksum that fits."""
    table, number = draw(st.sampled_from(["cells", "pictures", "labels"])), draw(st.integers(0, 99))
    value = draw(cell_values)

    def edit(folder: Path) -> None:
        run_id = json.loads((folder / run / "run.json").read_text("utf-8"))["id"]
        with closing(sqlite3.connect(folder / run / FILE)) as database, database:
            found = database.execute(f"SELECT rowid, * FROM {table}").fetchall()
            if not found:
                return
            row, *values, _ = found[number % len(found)]
            names = [name for (name, *_) in database.execute(f"SELECT * FROM {table}").description]
            place = number % len(values)
            query = f"UPDATE {table} SET {names[place]} = ?, checksum = ? WHERE rowid = ?"
            values[place] = value
            with suppress(sqlite3.IntegrityError):  # no such value in a column of integers
                database.execute(query, (value, checksum(run_id, values), row))

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
