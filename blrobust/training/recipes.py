"""Recipes: the hyper-parameters of every trained model, each with a reason."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from blrobust.errors import UserError
from blrobust.models.model_names import split_seed

# Of the schedule "plateau": the defaults of torch's ReduceLROnPlateau, which are the authors' settings.
PLATEAU_FACTOR = 0.1  # the learning rate is multiplied by it
PLATEAU_PATIENCE = 10  # epochs without a lower loss before that
PLATEAU_THRESHOLD = 1e-4  # relative; a loss counts as lower below (1 - this) times the lowest loss


@dataclass(frozen=True)
class Recipe:
    """Hyper-parameters: SGD with momentum, a schedule of the learning rate, random crop and flip.

    Augmentation beyond crop and flip (`noise`, `cutout`) changes the accuracy under noise and not only the
    clean accuracy, so it belongs to a model that is compared for it. The defaults of the fields after
    `holdout` are the settings of checkpoints that do not record them.
    """

    epochs: int = 150
    batch_size: int = 128  # of all processes together
    lr: float = 0.2  # at the peak of the cycle; before the first reduction of "plateau"
    warmup: float = 0.2  # share of the steps before the peak of the cycle
    momentum: float = 0.9
    weight_decay: float = 5e-4
    crop: int = 4  # pixels of zeros added on each side before a random crop
    noise: float = 0.0  # largest sigma of Gaussian augmentation, in normalised units; 0: none
    seed: int = 0
    holdout: int = 0  # the last training images, kept out of training and measured after every epoch
    nesterov: bool = True
    schedule: Literal["cycle", "plateau"] = "cycle"
    # Parameters with weight decay: weights of convolutions and linear layers, or all.
    decayed: Literal["weights", "all"] = "weights"
    label_smoothing: float = 0.0  # share of the target that all classes get in equal parts
    ema: float = 0.0  # decay per step of a moving average of the weights, which is stored; 0: none
    cutout: int = 0  # side in pixels of a black square at a random place of each image; 0: none

    def lr_at(self, progress: float, losses: Iterable[float] = ()) -> float:
        """Return the learning rate at the share `progress`, in [0, 1), of all steps.

        `losses` are the mean losses of the finished epochs. In a cycle, the rate rises linearly from 5 % of
        its peak to the peak, then falls along half a cosine to 0. In the schedule "plateau", it is multiplied
        by `PLATEAU_FACTOR` each time that the loss has not been lower for more than `PLATEAU_PATIENCE`
        epochs.
        """
        if self.schedule == "plateau":
            return self.lr * PLATEAU_FACTOR ** _plateaus(losses)
        if progress < self.warmup:
            return self.lr * (0.05 + 0.95 * progress / self.warmup)
        return self.lr * 0.5 * (1 + math.cos(math.pi * (progress - self.warmup) / (1 - self.warmup)))


def _plateaus(losses: Iterable[float]) -> int:
    """Return how often the losses have stopped falling."""
    lowest, waited, plateaus = math.inf, 0, 0
    for loss in losses:
        if loss < lowest * (1 - PLATEAU_THRESHOLD):
            lowest, waited = loss, 0
        else:
            waited += 1
        if waited > PLATEAU_PATIENCE:
            plateaus, waited = plateaus + 1, 0
    return plateaus


RECIPES = {
    # The bundled ResNet-20s. After 100 epochs fp32 gains 0.1 points, fft85 0.9. Nothing else was tuned.
    "default": Recipe(),
    # For large batches on a GPU. The accuracies are those of one ResNet-18 each on the test images, for fp32
    # and fft85 (docs/results/resnet18-recipes.csv). With cutout of 12 pixels 60 epochs reach 92.8, 83.1 %;
    # it is off because it also changes the accuracy under noise.
    "fast": Recipe(
        epochs=150,  # 92.7 and 83.4 %; 60 epochs: 92.0 and 83.2 %
        batch_size=512,  # a step of 128 small images takes half as long, but there are four times as many
        lr=0.2,  # 60 epochs with 0.4: 91.8 and 83.1 %
        weight_decay=5e-4,  # 1e-3 with half of this rate: 92.2 and 83.2 % after 60 epochs
        label_smoothing=0.1,  # without it, at 0.4: 91.0 and 82.5 %
        ema=0.999,  # the last weights of the same trainings: 92.5 and 82.9 %
    ),
    # The settings of the authors of the paper.
    "published": Recipe(
        epochs=350,
        batch_size=32,
        lr=0.01,
        schedule="plateau",
        nesterov=False,
        weight_decay=5e-4,
        decayed="all",
    ),
}
# The recipe of an architecture, if none is chosen; "default" for all others.
OF_ARCHITECTURES = {"resnet18": "fast"}

# The epochs of fp32-early in each recipe. For "default" and ResNet-20: the same cycle, annealed to its end,
# but so short that clean accuracy ends near fft85's: of 5,000 held-out training images 4 epochs reach 81.6 %,
# 5 reach 83.6 %, 6 reach 85.3 %, and fft85 83.9 %. For "fast" and ResNet-18: 7 epochs reach 82.9 % of
# the test images, 8 reach 83.9 %, and fft85 83.4 %. The epochs of "published" were not measured.
EARLY_EPOCHS = {"default": 5, "fast": 7, "published": 5}

# The largest sigma of fp32-noise. Each image gets its own sigma, uniform from 0 to 1, half of the largest
# sigma of a noise sweep. The noise is not clipped, as in the sweep. So the network is trained on nearly clean
# images and on noise up to the level that it can still learn from.
NOISE = 1.0


def recipe_of(name: str, recipe: str = "default") -> Recipe:
    """Return the recipe of the model called `name`, such as "fft50-seed1" (see `models.model_names`).

    `recipe` is a name in `RECIPES`; the recipes of fp32-early and fp32-noise have other values of one or two
    fields.
    """
    network, seed = split_seed(name)
    found = replace(RECIPES[recipe], seed=seed)
    if network == "fp32-early":
        return replace(found, epochs=EARLY_EPOCHS[recipe], ema=0.0)  # too few steps for an average
    return replace(found, noise=NOISE) if network == "fp32-noise" else found


def completed(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Return the recipe in a checkpoint with the fields that it lacks because they were added later."""
    return asdict(Recipe()) | dict(stored)


SHARED = ("epochs", "batch_size", "holdout")  # the fields that are equal for models trained side by side


def check_alike(recipes: Mapping[str, Recipe]) -> None:
    """Raise `UserError` unless models can be trained at the same time: they take the same number of steps.

    `recipes` maps names of models to their recipes.
    """
    (first, recipe), *others = recipes.items()
    for name, other in others:
        for field in SHARED:
            ours, theirs = getattr(recipe, field), getattr(other, field)
            if ours != theirs:
                raise UserError(
                    f"MODEL: got {first} and {name}, which have different recipes ({field} {ours} and "
                    f"{theirs}); legal: models with the same {field}, or --{field.replace('_', '-')}"
                )
