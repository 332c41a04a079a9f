"""Time of one training step of ResNet-20, each model alone and six side by side.

    python benchmarks/several_models.py [--device cpu|cuda] [--batch 128] [--steps 60]

Pixels are random: the time does not depend on them. On CUDA a step is one captured graph.
"""

import argparse
import time
from pathlib import Path

import torch

from blrobust.models.checkpoint import Facts
from blrobust.training.processes import ALONE
from blrobust.training.recipes import Recipe
from blrobust.training.steps import stepper
from blrobust.training.trainee import Trainee

MODELS = {
    "fp32": ("fp32", 0.0, "paper"),
    "fp16": ("fp16", 0.0, "paper"),
    "bf16": ("bf16", 0.0, "paper"),
    "fft50": ("fp32", 0.48, "paper"),
    "fft85": ("fp32", 0.84, "paper"),
    "fft85-compact": ("fp32", 0.84, "compact"),
}


def milliseconds(names: list[str], device: torch.device, batch: int, steps: int) -> float:
    """Return the mean milliseconds of a training step of all named models side by side."""
    recipe = Recipe(batch_size=batch)
    trainees = []
    for name in names:
        precision, compression, fft_size = MODELS[name]
        facts = Facts("resnet20", 10, precision, compression, fft_size, "random", (0.5,) * 3, (0.25,) * 3, 0)
        trainees.append(Trainee(name, facts, Path("unused"), recipe, device))
    images = torch.randint(0, 256, (batch, 3, 32, 32), dtype=torch.uint8, device=device)
    labels = torch.randint(0, 10, (batch,), device=device)
    step = stepper([trainees], (images, labels), ALONE)
    for timed in (False, True):
        if device.type == "cuda":
            torch.cuda.synchronize()
        began = time.perf_counter()
        for _ in range(steps if timed else 5):
            step([(images, labels)])
        if device.type == "cuda":
            torch.cuda.synchronize()
    return 1000 * (time.perf_counter() - began) / steps


def main() -> None:
    """Parse the command line, measure and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=60)
    arguments = parser.parse_args()
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.benchmark = True
    print("| models | ms a step | s an epoch of 50,000 |\n|---|---|---|")
    for names in (list(MODELS), *([name] for name in MODELS)):
        device = torch.device(arguments.device)
        time_of_step = milliseconds(names, device, arguments.batch, arguments.steps)
        epoch = time_of_step * 50_000 / arguments.batch / 1000
        print(f"| {', '.join(names)} | {time_of_step:.2f} | {epoch:.2f} |", flush=True)


if __name__ == "__main__":
    main()
