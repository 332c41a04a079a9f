"""The experiments of the paper on CIFAR-10 as steps, the most important one first."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from blrobust.data.datasets import Dataset
from blrobust.experiments.band_limits import tested_at, with_seeds
from blrobust.experiments.step import Step, base_of, seed_of
from blrobust.models.channel_names import recorded_cuts
from blrobust.models.model_names import NARROW_WIDTH, trained_on
from blrobust.perturbations.paper_bounds import SPACE as LEGACY
from blrobust.reports.paper_curves import published_levels
from blrobust.training.recipes import OF_ARCHITECTURES, recipe_of

RATES = (0, 10, 20, 30, 40, 50, 85)  # of Table 1, in per cent
TEST_RATES = (0, 10, 20, 30, 40, 50, 60, 70, 80, 85)  # in Figure 5
TRAINED = ("fp32", "fft50", "fft85")  # the models of most figures
PUBLISHED = (*TRAINED, "fp16", "fp32-early")  # the models of Figure 6
CONTROLS = ("fp32-lowpass", "fp32-noise", "fp32-narrow")  # not published; other reasons for a gain
BAND_LIMITED = tuple(f"fft{rate}" for rate in RATES if rate)
# All models, the most important ones first: a plan leaves out models from the end.
MODELS = tuple(dict.fromkeys([*PUBLISHED, *CONTROLS, *BAND_LIMITED]))

# Of each published series in the published input space: every how many levels are measured, and the forward
# passes per image and level; a backward pass counts as two. They were measured on ResNet-20, except those
# of local search, which follow from the published shares of images that survive all its 150 rounds.
SERIES: dict[str, tuple[int, float]] = {
    "gaussian": (1, 1),
    "uniform": (1, 1),
    "pixel": (5, 2),
    "fgsm": (3, 4),
    "contrast": (4, 1),
    "gaussian-blur": (1, 1),
    "rotation": (4, 11),
    "translation": (2, 22),
    "local-search": (1, 6000),
}
# At even levels the five shifts of a translation along each axis are whole pixels (docs/attacks.md). Local
# search with more pixels per round leaves less than a tenth of the images.
LAST_LEVEL = {"translation": 10, "local-search": 6}
# Attacks that use gradients, in pixels at their default levels, and their passes over all levels. The paper
# claims no gain under such attacks.
PGD = {"pgd-linf": 230, "apgd-ce": 70, "apgd-dlr": 80}
CARLINI_WAGNER = {"cw-l2": 430}
TRAINING_IMAGES = 50_000
TRAINING_PASSES = 3  # of an image in an epoch, one of them forward
RECOVERY_PASSES = 500  # of `blrobust recover` with two attacks and their adaptive forms, for each model

CLEAN = {"noise": {"gaussian": 0}}
LOCAL_SEARCH: dict[str, Any] = {"attacks": ["local-search"], "preset": "paper"}


def names(*, arch: str, seeds: int) -> list[str]:
    """Return the names of the models of all steps with `seeds` seeds, the most important ones first.

    An architecture without a measured width for "fp32-narrow" has no such model.
    """
    known = [name for name in MODELS if name != "fp32-narrow" or arch in NARROW_WIDTH]
    return with_seeds(known, seeds)


def training(models: Sequence[str], *, arch: str) -> Step:
    """Return the step that trains the models."""
    recipe = OF_ARCHITECTURES.get(arch, "default")
    epochs = [recipe_of(name, recipe).epochs for name in models]
    passes = TRAINING_PASSES * sum(epochs) / len(epochs)
    return Step("training", "train", f"recipe {recipe}", tuple(models), TRAINING_IMAGES, passes, "train")


def measurements(models: Sequence[str], *, arch: str, dataset: Dataset) -> list[Step]:
    """Return the measurements for those of `models` that each of them needs, of the images of `dataset`.

    A measurement without models is left out, and so are images beyond the published number.
    """
    cuts = recorded_cuts().get(f"{trained_on(dataset)}-{arch}", {})

    def chosen(*wanted: str) -> tuple[str, ...]:
        return tuple(name for name in models if base_of(name) in wanted)

    def low_passed(*others: str) -> tuple[str, ...]:
        matched = [other for other in others if other in cuts]
        return tuple(f"lowpass-{other}+{name}" for other in matched for name in chosen("fp32"))

    main = chosen(*TRAINED) + low_passed("fft85")
    families = chosen("fp32", *BAND_LIMITED)
    tested = tuple(tested_at([name for name in families if seed_of(name) == 0], TEST_RATES))
    noisy = chosen(*PUBLISHED, *CONTROLS) + low_passed("fft50", "fft85")
    found = [
        _published("gaussian", "Fig. 6", noisy, 10_000, noise=["gaussian"], space="normalized"),
        Step("rates", "mismatch", "Table 1, Fig. 3", families, 10_000, 1, options=CLEAN),
        Step("mismatch", "mismatch", "Fig. 5", tested, 10_000, 1, options=CLEAN),
        _published("uniform", "Fig. 28", main, 10_000, noise=["uniform"]),
        _published("pixel", "pixel attack", main, 10_000, attacks=["pixel"]),
        _gradients("pgd", PGD, main),
        _published(
            "fgsm-contrast-blur", "attacks", main, 1000, attacks=["fgsm", "contrast", "gaussian-blur"]
        ),
        _published("rotation", "attacks", main, 200, attacks=["rotation"], parameters=["angles=10"]),
        _published("translation", "attacks", main, 200, attacks=["translation"]),
        _gradients("carlini-wagner", CARLINI_WAGNER, main),
        *_recovery(chosen(*TRAINED)),
        _published("local-search", "attacks", main, 100, **LOCAL_SEARCH),
        _published("local-search-pixels", "the same in pixels", main, 100, **LOCAL_SEARCH, space=None),
    ]
    return [replace(step, images=min(step.images, len(dataset))) for step in found if step.models]


def _published(
    name: str,
    shows: str,
    models: tuple[str, ...],
    images: int,
    *,
    noise: Iterable[str] = (),
    attacks: Iterable[str] = (),
    space: str | None = LEGACY,
    **options: Any,
) -> Step:
    """Return the step that measures published series of noise or of attacks at their levels."""
    grids = {kind: _levels(kind) for kind in (*noise, *attacks)}
    passes = sum(len(grid) * SERIES[kind][1] for kind, grid in grids.items())
    function: Mapping[str, Any] = {"noise" if noise else "attacks": grids, "space": space, **options}
    return Step(name, "noise" if noise else "attacks", shows, models, images, passes, options=function)


def _gradients(name: str, passes: Mapping[str, int], models: tuple[str, ...]) -> Step:
    attacks = {"attacks": list(passes)}
    return Step(name, "attacks", "counter-evidence", models, 1000, sum(passes.values()), options=attacks)


def _levels(kind: str) -> list[float]:
    every, _ = SERIES[kind]
    last = LAST_LEVEL.get(kind, math.inf)
    return [level for level in published_levels(kind)[::every] if level <= last]


def _recovery(models: tuple[str, ...]) -> list[Step]:
    """Return the step that classifies inputs found on fp32 behind filters and by the other models, if any."""
    source, *networks = [name for name in models if seed_of(name) == 0] or [""]
    if source != "fp32" or not networks:
        return []
    found = (source, *networks)
    return [Step("recovery", "attacks", "section 6.2.12", found, 1000, RECOVERY_PASSES, function="recover")]
