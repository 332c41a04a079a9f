"""Flipped bits and cut files: a damaged file is refused in one line, or it is read with the same content."""

import hashlib
import json
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable, Mapping
from functools import cache, partial
from itertools import count
from pathlib import Path
from typing import Any

from msgspec import to_builtins
from numpy.typing import NDArray

from blrobust.data import datasets
from blrobust.errors import UserError
from blrobust.models import checkpoint
from blrobust.runs import row_count
from blrobust.runs.database_files import LOG
from blrobust.runs.run import Run
from faults.process import CODES, Ended, Process, run
from faults.result import Fault, Result
from faults.subjects import DATA, IMAGES, MODEL, SUBJECTS, whole

MANY_CELLS = f"noise --models x={MODEL},y={MODEL} --sigma 0:2:0.1 {DATA}".split()
KILLED_AFTER = 20  # of 42 cells


def read_run(path: Path) -> Any:
    """Return all that a reader of the run folder of `path` can see."""
    with Run.open(path.parent) as stored:
        cells = [
            [
                [key, _digests(stored.outcome(*key))],
                [of(*key[:3]) for of in (stored.forwards, stored.backwards, stored.seconds)],
            ]
            for key in sorted(stored.done())
        ]
        pictures = [[*picture[:-1], picture.png.hex()] for picture in stored.pictures()]
        return [to_builtins(stored.record), stored.labels.tolist(), cells, pictures]


def read_checkpoint(path: Path) -> Any:
    """Return the tensors and the facts of a checkpoint."""
    tensors, facts = checkpoint.load(path)
    return [_digests({name: tensor.numpy() for name, tensor in tensors.items()}), facts.to_json()]


def read_data(path: Path) -> Any:
    """Return the images and labels of a data set."""
    data = datasets.load(f"npz:{path}")
    found = {"images": data.images.numpy(), "labels": data.labels.numpy()}
    return [_digests(found), list(data.classes), data.mean, data.std]


OF_RUNS = (".json", ".sqlite", ".sqlite-wal", ".sqlite-shm", ".sqlite-rows")
READERS: dict[str, Callable[[Path], Any]] = {
    **dict.fromkeys(OF_RUNS, read_run),
    ".safetensors": read_checkpoint,
    ".npz": read_data,
}


@cache
def killed(shared: Path) -> Path:
    """Return the folder of a run that was killed, with cells that are in the write-ahead log alone.

    It is made once, before the trials are forked.
    """
    for attempt in count():
        folder = shared / f"killed-{attempt}"
        process = Process([*MANY_CELLS, "--out", str(folder)], shared)
        process.go()
        while process.is_running() and not row_count.read(folder) > KILLED_AFTER:
            time.sleep(0.001)
        if process.is_running():
            process.kill(signal.SIGKILL)
        process.wait()
        if (folder / LOG).exists() and (folder / LOG).stat().st_size:
            break
    return folder


@cache
def originals(shared: Path) -> list[Path]:
    """Return the files of finished commands, and of a killed one, that are damaged."""
    folders = [whole(subject, shared).folder for subject in SUBJECTS if not subject.begin]
    folders.append(killed(shared))
    files = [path for folder in folders for path in sorted(folder.iterdir()) if path.suffix in READERS]
    return [*files, shared / IMAGES]


def trial(seed: int, shared: Path, scratch: Path) -> Result:
    """Flip one bit of a file, or cut it, beside the other files of its folder, and read it."""
    source, result = random.Random(f"flips {seed}"), Result()
    original = source.choice(originals(shared))
    if original.suffix in OF_RUNS:
        shutil.copytree(original.parent, scratch, dirs_exist_ok=True)
    path = scratch / original.name
    damaged = bytearray(original.read_bytes())
    place, bit, is_cut = _place(damaged, source), source.randrange(8), seed % 5 == 4
    if is_cut:
        del damaged[place:]
    else:
        damaged[place] ^= 1 << bit
    path.write_bytes(damaged)
    ended = _read(path, shared)
    faults = ended.faults(*CODES)
    if ended.code == 2 and len(ended.err.splitlines()) != 1:
        faults.append(Fault("other", f"{path.name}: several lines: {ended.err}"))
    if ended.code == 0 and ended.out != _read_original(original, shared):
        faults.append(Fault("silent change", f"{original}: read with other values"))
    result.add(faults, f"{path.name}, byte {place}, {'cut' if is_cut else f'bit {bit}'}")
    end = "refused" if ended.code else "the same content"
    result.tried[f"{path.suffix}{', cut' if is_cut else ''}: {end}"] += 1
    return result


def _place(content: bytes | bytearray, source: random.Random) -> int:
    """Return any place, a byte of 0 half as often as another: most of a small database is empty."""
    while True:
        place = source.randrange(len(content))
        if content[place] or source.random() < 0.5:
            return place


@cache
def _read_original(path: Path, shared: Path) -> str:
    ended = _read(path, shared)
    if ended.code:
        raise RuntimeError(f"{path}: {ended.err}")
    return ended.out


def _read(path: Path, shared: Path) -> Ended:
    return run(["read", str(path)], shared, partial(_print, path))


def _print(path: Path) -> None:
    try:
        found = READERS[path.suffix](path)
    except UserError as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(2)
    print(json.dumps(found, sort_keys=True, default=str))


def _digests(arrays: Mapping[str, NDArray[Any]]) -> dict[str, list[str]]:
    return {
        name: [str(array.dtype), str(array.shape), hashlib.sha256(array.tobytes()).hexdigest()]
        for name, array in sorted(arrays.items())
    }
