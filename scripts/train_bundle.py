"""Train the ResNet-20s that the package bundles: `python scripts/train_bundle.py FOLDER`, on a GPU.

Writes one checkpoint and one history a model to FOLDER; started again, it goes on where it stopped.
CIFAR-10 is looked for as `blrobust data list` says. On one H100 it takes about 18 minutes.
"""

import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from blrobust.data import datasets
from blrobust.models import checkpoint, model_names
from blrobust.training.training import Recipe, Trainee, train

NAMES = ["fp32", "fp16", "bf16", "fft50", "fft85", "fft85-compact"]
HELD_OUT = 5000  # training images on which fp32-early is stopped at the accuracy of fft85


def report(done: int, total: int, trainees: Sequence[Trainee]) -> None:
    """Print a line every tenth of the way."""
    if done % (total // 10) == 0:
        print(
            f"{time.strftime('%X')} {','.join(t.name for t in trainees)}: {done} of {total} steps", flush=True
        )


def run(names: list[str], folder: Path, recipe: Recipe) -> None:
    """Train `names` side by side unless they are done, and write their checkpoints."""
    device = torch.device("cuda")
    training_set, test = (datasets.load("cifar10", split=split) for split in ("train", "test"))
    facts = [model_names.facts_of(name, arch="resnet20", dataset=training_set) for name in names]
    stems = [model_names.file_stem(name, arch="resnet20", dataset="cifar10") for name in names]
    trainees = [Trainee(s, f, folder, recipe, device) for s, f in zip(stems, facts, strict=True)]
    if all(trainee.path.exists() for trainee in trainees):
        return
    resume = all(trainee.state_path.exists() for trainee in trainees)
    train(trainees, training_set, recipe, device, resume=resume, on_step=report)
    for trainee in trainees:
        done = trainee.finish(test, device)
        print(f"{trainee.name}: test {done.test_accuracy:.4f}, held out {done.holdout_accuracy}", flush=True)


def main(folder: Path) -> None:
    """Train the six, then fft85's twin without the held-out images, then fp32-early."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
    run(NAMES, folder, Recipe())
    run(["fft85"], folder / "twin", Recipe(holdout=HELD_OUT))
    _, twin = checkpoint.load(folder / "twin" / "cifar10-resnet20-fft85.safetensors")
    run(["fp32-early"], folder, Recipe(holdout=HELD_OUT, stop_at=twin.holdout_accuracy))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
