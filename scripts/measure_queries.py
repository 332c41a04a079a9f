"""Measure the queries of every attack on the bundled fp32: `python scripts/measure_queries.py`.

It writes attacks/catalogue/queries.csv, which `blrobust attacks` shows: the medians, over images that are
classified correctly, of the forward and the backward passes per image, with the default parameters and at the
middle one of the default levels above 0. It takes minutes on a CPU. An interrupted measurement is resumed.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

import blrobust
from blrobust.attacks.catalogue.table import ATTACKS
from blrobust.errors import FailedPartsError
from blrobust.perturbations import levels
from blrobust.runs.run import Run

FILE = Path(__file__).parents[1] / "attacks/catalogue/queries.csv"
IMAGES = 10


def main() -> None:
    """Measure all attacks in the folder `--out`, and write the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/queries"), help="run folder")
    folder = parser.parse_args().out
    middle = {name: _middle(levels.parse(spec.grid)) for name, spec in ATTACKS.items()}
    try:
        blrobust.evaluate(
            "fp32", data="cifar10-sample", attacks={name: [level] for name, level in middle.items()},
            limit=IMAGES, device="cpu", out=folder, progress=True,
        )  # fmt: skip
    except FailedPartsError as error:  # of attacks of packages that are not installed
        print(*error.lines, sep="\n")
    with Run.open(folder) as run:
        done = {kind for _, kind, level, _ in run.done() if level > 0}
        rows = [(name, *_medians(run, name, middle[name])) for name in ATTACKS if name in done]
    table = pd.DataFrame(rows, columns=["attack", "forwards", "backwards"])
    table.to_csv(FILE, index=False, lineterminator="\n", float_format="%.4g")


def _middle(grid: tuple[float, ...]) -> float:
    above = grid[1:]
    return above[len(above) // 2]


def _medians(run: Run, kind: str, level: float) -> list[float]:
    """Return the medians of the forward and the backward passes over the images that are attacked."""
    attacked = run.correct("fp32", kind, 0)[0]
    outcome = run.outcome("fp32", kind, level, 0)
    return [float(np.median(outcome[name][attacked])) for name in ("forwards", "backwards")]


if __name__ == "__main__":
    main()
