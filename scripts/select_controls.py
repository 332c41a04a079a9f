"""Choose the settings of control models: `python scripts/select_controls.py FOLDER`, on a GPU.

Twins of fp32, fft50, fft85, narrower ResNet-20s and ResNet-20s with fewer epochs are trained on the first
45,000 training images of CIFAR-10 and measured on the other 5,000, which are held out. A twin is the same
model with fewer training images. No test image is used. The clean accuracies on the held-out images decide

- for fft50 and for fft85, the low-pass in front of fp32 that comes nearest to that model's accuracy,
- the width of fp32-narrow and the number of epochs of fp32-early that come nearest to fft85's accuracy.

All candidates are written to FOLDER/selection.json, the cuts to `blrobust/weights/low_pass_cuts.json`. On one
H100 it takes about 13 minutes. After an interruption, the same command continues.
"""

import json
import math
import sys
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn
from train_bundle import train_missing

from blrobust.data import datasets
from blrobust.models import checkpoint, model_names
from blrobust.models.accuracy import accuracy
from blrobust.models.channel_names import CUTS
from blrobust.models.channels import LowPass
from blrobust.training.recipes import Recipe, recipe_of
from blrobust.training.trainee import Trainee

HELD_OUT = 5000
NAMES = ("fp32", "fft50", "fft85")
WIDTHS = (4, 5, 6)
EPOCHS = (3, 4, 5, 6, 8)
SIDE = 32


def main(folder: Path) -> None:
    """Train the missing twins, choose the settings, write both files and print the results."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
    widths = {f"width{width}": width for width in WIDTHS}
    twins = dict(zip(NAMES, NAMES, strict=True)) | dict.fromkeys(widths, "fp32")
    train_twins(twins, folder, Recipe(holdout=HELD_OUT), widths)
    early = {f"epochs{epochs}": epochs for epochs in EPOCHS}
    for twin, epochs in early.items():
        recipe = replace(recipe_of("fp32-early"), epochs=epochs, holdout=HELD_OUT)
        train_twins({twin: "fp32-early"}, folder, recipe, {})
    held_out = {twin: facts(folder, twin).holdout_accuracy or 0.0 for twin in (*NAMES, *widths, *early)}
    behind = low_passed(folder / "fp32.safetensors")
    nearest = {name: min(behind, key=lambda cut: abs(behind[cut] - held_out[name])) for name in NAMES[1:]}
    chosen = {
        "width": widths[min(widths, key=lambda twin: abs(held_out[twin] - held_out["fft85"]))],
        "epochs": early[min(early, key=lambda twin: abs(held_out[twin] - held_out["fft85"]))],
        "cuts": nearest,
    }
    record = {"held_out_images": HELD_OUT, "held_out": held_out, "fp32_behind_low_pass": behind}
    (folder / "selection.json").write_text(json.dumps({**record, "chosen": chosen}, indent=1) + "\n")
    cuts = {
        name: {"cut": cut, "held_out_accuracy": behind[cut], "matched": held_out[name]}
        for name, cut in nearest.items()
    }
    CUTS.write_text(json.dumps({"cifar10-resnet20": cuts}, indent=1) + "\n")
    print(json.dumps({**record, "chosen": chosen}, indent=1))


def train_twins(names: dict[str, str], folder: Path, recipe: Recipe, widths: dict[str, int]) -> None:
    """Train twins at the same time, unless all are already trained.

    `names` maps the file stem of a twin to the name of its model. `widths` has the widths of narrower twins.
    """
    device = torch.device("cuda")
    training_set, test = (datasets.load("cifar10", split=split) for split in ("train", "test"))
    trainees = []
    for twin, name in names.items():
        found = model_names.facts_of(name, arch="resnet20", dataset=training_set)
        found = replace(found, width=widths.get(twin))
        trainees.append(Trainee(twin, found, folder, recipe, device))
    train_missing(trainees, training_set, test, device)


def facts(folder: Path, twin: str) -> checkpoint.Facts:
    """Return the facts in the checkpoint of a finished twin, such as its held-out accuracy."""
    return checkpoint.load(folder / f"{twin}.safetensors")[1]


def low_passed(path: Path) -> dict[float, float]:
    """Return the held-out accuracy of a model behind each low-pass, by the low-pass's nominal compression.

    There is one low-pass for each number of kept frequencies on 32 x 32 pixels. `path` is the checkpoint.
    """
    device = torch.device("cuda")
    model = checkpoint.load_model(path)[0].to(device)
    images = datasets.load("cifar10", split="train")
    start = len(images) - HELD_OUT
    half = SIDE // 2 + 1
    found = {}
    for kept in range(half - 1, 0, -1):
        # The smallest compression in hundredths that keeps `kept` frequencies on each axis.
        cut = math.floor(100 * (1 - ((kept + 1) / half) ** 2) + 1) / 100
        low_pass = LowPass(cut)
        assert low_pass.band(SIDE, SIDE).axes[0].kept == kept, (cut, kept)
        behind = nn.Sequential(low_pass, model).eval()
        found[cut] = accuracy(behind, images, device, start=start)
    return found


if __name__ == "__main__":
    main(Path(sys.argv[1]))
