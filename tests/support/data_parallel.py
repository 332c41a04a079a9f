"""Trainings in one or several processes: `python -m support.data_parallel FOLDER DEVICE`, in each process.

FOLDER/RANK gets the files of a process, and FOLDER/RANK.pt the states after its trainings.
"""

import os
import socket
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from blrobust.device import full_precision
from blrobust.errors import UserError
from blrobust.models import ARCHITECTURES
from blrobust.training.processes import joined
from blrobust.training.recipes import Recipe
from blrobust.training.trainee import Trainee
from blrobust.training.training import train
from support.invented_training import RECIPE, bits, invented, rows, tiny, trainees

PLAIN = replace(RECIPE, epochs=2, ema=0.9, noise=0.5, label_smoothing=0.1)
ROOT = Path(__file__).parents[2]


class StopError(Exception):
    """Raised within an epoch, as by a signal."""


def _stop(done: int, total: int, subjects: object) -> None:
    if done == 6:
        raise StopError


def _full_disk() -> None:
    raise UserError("the disk is full")


def main(folder: Path, device: str) -> None:
    """Train networks without and with BatchNorm, the latter also with a stop and a new start."""
    results: dict[str, Any] = {}
    networks = {"tiny": tiny, "plain": partial(tiny, norm=False)}
    with patch.dict(ARCHITECTURES, networks), joined(device) as (processes, own), full_precision():
        mine = folder / str(processes.rank)

        def made(name: str, recipe: Recipe, arch: str) -> list[Trainee]:
            return trainees(mine / name, recipe, device=own, arch=arch)

        for name, arch in (("plain", "plain"), ("norm", "tiny")):
            seeds = [replace(PLAIN, seed=seed, holdout=8) for seed in (0, 1)]
            subjects = [t for r in seeds for t in made(f"{name}{r.seed}", r, arch)]
            train(subjects, invented(), own, processes=processes)
            results[name] = [bits(subject) for subject in subjects]
            results[f"{name} history"] = [subject.history for subject in subjects]
        recipe = replace(PLAIN, seed=0, holdout=8)
        try:
            train(made("stopped", recipe, "tiny"), invented(), own, processes=processes, on_step=_stop)
        except StopError:
            subjects = made("stopped", recipe, "tiny")
            train(subjects, invented(), own, processes=processes, resume=True)
            results["resumed"] = [bits(subject) for subject in subjects]
        try:
            processes.from_first(_full_disk)
        except UserError as error:
            results["error"] = str(error)
        if processes.is_first:
            assert all(rows(subject) for subject in subjects)
    torch.save(results, folder / f"{processes.rank}.pt")


def python_path() -> str:
    """Return a PYTHONPATH on which processes find the package and these files first."""
    return os.pathsep.join([str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")]).rstrip(
        os.pathsep
    )


def start(count: int, *command: str) -> list[subprocess.Popen[str]]:
    """Start `count` processes as torchrun does, each with `python -m COMMAND`, and return them."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    shared = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    shared["PYTHONPATH"] = python_path()
    return [
        subprocess.Popen(
            [sys.executable, "-m", *command],
            env=os.environ | shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(count)
    ]


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
