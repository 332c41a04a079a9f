"""Flipped bits: a damaged file is refused in one line, or it makes no difference."""

import json
import random
import shutil
import sys
from collections import Counter
from functools import cache, partial
from pathlib import Path
from typing import Any

from faults.kills import whole
from faults.process import CODES, run
from faults.subjects import SUBJECTS


def trial(seed: int, root: Path) -> tuple[list[str], Counter[str]]:
    """Flip one bit of a finished folder and read it; return the faults, and what was tried."""
    source = random.Random(f"flips {seed}")
    subject = source.choice(SUBJECTS)
    whole(subject, root)
    original, folder = root / f"whole-{subject.name}", root / f"flip-{seed}"
    shutil.copytree(original, folder)
    names = ("*.safetensors",) if subject.name == "train" else ("run.json", "run.sqlite")
    path = source.choice([path for name in names for path in sorted(folder.glob(name))])
    damaged = bytearray(path.read_bytes())
    place, bit = source.randrange(len(damaged)), source.randrange(8)
    damaged[place] ^= 1 << bit
    path.write_bytes(damaged)
    show = show_checkpoint if subject.name == "train" else show_run
    ended = run([subject.name, path.name], root, partial(show, path))
    faults = ended.faults(*CODES)
    if ended.code == 0 and json.loads(ended.out) != _shown(original / path.name, root):
        faults.append(f"{subject.name} {path.name}: other values without an error")
    shutil.rmtree(folder)
    counts = Counter({f"{path.suffix}: refused": ended.code == 2, f"{path.suffix}: same": ended.code == 0})
    return [f"seed {seed}, byte {place}, bit {bit}: {fault}" for fault in faults], counts


@cache
def _shown(path: Path, root: Path) -> Any:
    show = show_checkpoint if path.suffix == ".safetensors" else show_run
    ended = run([path.name], root, partial(show, path))
    if ended.code:
        raise RuntimeError(f"{path}: {ended.err}")
    return json.loads(ended.out)
