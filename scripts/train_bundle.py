"""Train the ResNet-20s that the package bundles: `python scripts/train_bundle.py FOLDER [NAME...]`, on a GPU.

Writes one checkpoint and one history per model to FOLDER. After an interruption, the same command continues.
CIFAR-10 must be in the folder that `blrobust data list` shows. All models take about 25 minutes on one H100.
"""

import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from blrobust.data import datasets
from blrobust.data.datasets import Dataset
from blrobust.models import model_names
from blrobust.training.recipes import recipe_of
from blrobust.training.trainee import Trainee
from blrobust.training.training import train

NAMES = [
    *("fp32", "fp16", "bf16", "fft50", "fft85", "fft85-compact"),
    *("fp32-noise", "fp32-lowpass", "fp32-narrow", "fp32-early"),
]


def report(done: int, total: int, trainees: Sequence[Trainee]) -> None:
    """Print the progress at every tenth of the steps: `done` of `total` steps."""
    if done % (total // 10) == 0:
        names = ",".join(t.name for t in trainees)
        print(f"{time.strftime('%X')} {names}: {done} of {total} steps", flush=True)


def run(names: list[str], folder: Path) -> None:
    """Train the models `names` at the same time and write their checkpoints, unless all exist already."""
    device = torch.device("cuda")
    training_set, test = (datasets.load("cifar10", split=split) for split in ("train", "test"))
    trainees = []
    for name in names:
        facts = model_names.facts_of(name, arch="resnet20", dataset=training_set)
        stem = model_names.file_stem(name, arch="resnet20", dataset="cifar10")
        trainees.append(Trainee(stem, facts, folder, recipe_of(name), device))
    train_missing(trainees, training_set, test, device)


def train_missing(
    trainees: Sequence[Trainee], training_set: Dataset, test: Dataset, device: torch.device
) -> None:
    """Train several models at the same time unless all checkpoints exist, and print their test accuracies.

    Training continues from the stored states if every model has one.
    """
    if all(trainee.path.exists() for trainee in trainees):
        return
    resume = all(trainee.state_path.exists() for trainee in trainees)
    train(trainees, training_set, device, resume=resume, on_step=report)
    for trainee in trainees:
        done = trainee.finish(test, device)
        print(f"{trainee.name}: test {done.test_accuracy:.4f}", flush=True)


def main(folder: Path, names: list[str]) -> None:
    """Train the models whose recipes have the same length side by side, then the others."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
    by_length: dict[int, list[str]] = {}
    for name in names:
        by_length.setdefault(recipe_of(name).epochs, []).append(name)
    for group in by_length.values():
        run(group, folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:] or NAMES)
