"""Options of `blrobust train` for the recipe, the hyper-parameters of a training."""

from collections.abc import Callable
from typing import Any

import click

from blrobust.cli.options import POSITIVE, FiniteRange

MOST_EPOCHS = 100_000  # the history of each is kept
RECIPES = ("default", "fast", "published")
OTHERS = "It changes the accuracy under noise too."

OPTIONS = [
    click.option(
        "--recipe",
        type=click.Choice(RECIPES),
        help="Hyper-parameters. default: 150 epochs, batches of 128, as for the bundled models; fast: 150 "
        "epochs, batches of 512; published: those of the paper's authors, 350 epochs, batches of 32.  "
        "[default: fast for resnet18, else default]",
    ),
    click.option(
        "--epochs",
        type=click.IntRange(1, MOST_EPOCHS),
        help="Passes over the training images.  [default: as in the recipe; fp32-early: 5, or 7 for fast]",
    ),
    click.option(
        "--batch-size",
        type=POSITIVE,
        help="Images per step, of all processes together.  [default: as in the recipe]",
    ),
    click.option(
        "--lr",
        type=FiniteRange(min=0, min_open=True),
        help="Largest learning rate. In recipes with one cycle it rises linearly over the first 20 % of the "
        "steps, then falls along half a cosine.  [default: as in the recipe]",
    ),
    click.option(
        "--weight-decay",
        type=FiniteRange(min=0),
        help="Weight decay of convolutions and linear layers; in the recipe published, of biases and batch "
        "norm too.  [default: 0.0005]",
    ),
    click.option(
        "--label-smoothing",
        type=FiniteRange(min=0, max=1, max_open=True),
        help="Share of the target that is spread over all classes in equal parts.  "
        "[default: as in the recipe]",
    ),
    click.option(
        "--ema",
        type=FiniteRange(min=0, max=1, max_open=True),
        help="Store a moving average of the weights, with this decay per step, such as 0.998.  "
        "[default: as in the recipe; 0: none]",
    ),
    click.option(
        "--cutout",
        type=click.IntRange(min=0),
        help=f"Make a square of this side black, at a random place of each training image. {OTHERS}  "
        "[default: 0, none]",
    ),
    click.option(
        "--noise",
        type=FiniteRange(min=0),
        help="Add Gaussian noise to the training images: each image has its own sigma, drawn uniformly from "
        f"0 to this value, in normalised units. {OTHERS}  [default: 0; fp32-noise: 1]",
    ),
    click.option(
        "--holdout",
        type=click.IntRange(min=0),
        help="Keep the last N training images out of training, and measure the accuracy on them after every "
        "epoch.  [default: 0]",
    ),
]


def recipe_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of the recipe to a command, in the order of `--help`."""
    for option in reversed(OPTIONS):
        command = option(command)
    return command
