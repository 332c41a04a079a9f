"""What the levels of a sweep mean: in words, on the axis, and in the other unit."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from blrobust.perturbations import levels

LEGACY_WIDTH = 5.1828  # of the published bounds, in normalised units
SAME = "Every model sees the same perturbed images."

Conversion = Callable[[Any], Any]  # arrays of levels, typed as loosely as matplotlib's own


@dataclass(frozen=True)
class Axis:
    """One strength axis. ``other`` turns levels into a second unit and ``back`` returns."""

    title: str  # "Gaussian noise", as in the middle of a sentence
    question: str  # what was done to the images, as a sentence
    name: str  # "sigma"
    phrase: str  # "sigma {}": a level in a sentence
    label: str
    other_name: str = ""
    other_label: str = ""
    other: Conversion | None = None
    back: Conversion | None = None
    norm: str | None = None  # of an attack: the largest change of a number is written as 8/255

    def say(self, level: float) -> str:
        """Return a level as it reads in a sentence."""
        return self.phrase.format(self.write(level, digits=4))

    def write(self, level: float, *, digits: int = 6) -> str:
        """Return a level by itself."""
        return levels.written(level, self.norm, digits=digits)


def axis(kind: str, space: str, std: list[float]) -> Axis:
    """Return the axis of a kind of perturbation in a space, for a data set's std per channel.

    Normalised and pixel units differ by the mean of ``std``: 0.201 on CIFAR-10.
    """
    scale = float(np.mean(std))
    match kind, space:
        case "gaussian", _:
            title, name = "Gaussian noise", "sigma"
            what = "Gaussian noise of standard deviation sigma is added to every pixel"
        case "uniform", "legacy":
            return _uniform_legacy(scale)
        case "uniform", _:
            title, name = "uniform noise", "half-width"
            what = "Uniform noise between plus and minus the half-width is added to every pixel"
        case "pixel", _:
            return _pixel(legacy=space == "legacy")
        case _:
            return _attack(kind, space)
    if space == "pixel":
        return Axis(
            title=title,
            question=f"{what} (pixels go from 0 to 1), and the result is clipped to that range. {SAME}",
            name=name,
            phrase=f"{name} {{}}",
            label=f"{name} in pixel units (0 to 1, clipped)",
            other_name=f"normalised {name}",
            other_label=f"{name} in normalised units",
            other=lambda level: level / scale,
            back=lambda level: level * scale,
        )
    legacy = space == "legacy"
    end = "clipped to the published bounds (legacy space)" if legacy else "not clipped"
    return Axis(
        title=f"{title}, legacy space" if legacy else title,
        question=f"{what} after mean and standard deviation are normalised; the result is {end}. {SAME}",
        name=name,
        phrase=f"{name} {{}}",
        label=f"{name} in normalised units ({'legacy bounds' if legacy else 'not clipped'})",
        other_name=f"pixel {name}",
        other_label=f"{name} in pixel units (0 to 1)",
        other=lambda level: level * scale,
        back=lambda level: level / scale,
    )


def _uniform_legacy(scale: float) -> Axis:
    return Axis(
        title="uniform noise, legacy axis",
        question="Uniform noise of half-width 5.183 epsilon² in normalised units is added to every "
        f"pixel; the result is clipped to the published bounds (legacy space). {SAME}",
        name="epsilon",
        phrase="epsilon {}",
        label="epsilon (legacy: half-width 5.183 epsilon²)",
        other_name="pixel half-width",
        other_label="half-width in pixel units (0 to 1)",
        # Odd functions: matplotlib also converts the margin left of zero.
        other=lambda level: level * np.abs(level) * LEGACY_WIDTH * scale,
        back=lambda width: np.sign(width) * np.sqrt(np.abs(width) / (LEGACY_WIDTH * scale)),
    )


def _attack(kind: str, space: str) -> Axis:
    """The axis of a row of the table of attacks, whatever it is."""
    from blrobust.attacks.catalogue.table import ATTACKS

    entry = ATTACKS.get(kind)
    if entry is None:
        return Axis(f"{kind}, {space} space", "", "strength", "strength {}", f"strength ({space} space)")
    legacy = space == "legacy"
    units = ", in normalised units within the published bounds" if legacy else ""
    sees = {
        "noise": "It is random and sees nothing of the model.",
        "decision": "It sees the model's answers alone.",
        "score": "It sees the model's logits.",
        "gradient": "It follows the model's gradient.",
    }[entry.family]
    return Axis(
        title=f"the {kind} attack{', legacy space' if legacy else ''}",
        question=f"{kind} is the attack of {entry.source}. {sees} Its strength is the "
        f"{entry.strength.axis}{units}.",
        name="strength",
        phrase="strength {}",
        label=f"{entry.strength.axis} ({entry.norm}){units}",
        norm=None if legacy else entry.norm,
    )


def _pixel(*, legacy: bool) -> Axis:
    bounds = "the published bounds (legacy space)" if legacy else "the pixel range"
    return Axis(
        title="the pixel attack, legacy bounds" if legacy else "the pixel attack",
        question="Pixels chosen at random are set, in all channels, to the minimum or the maximum of "
        f"{bounds}, each by the toss of a coin. There is one trial, and the model is never asked. {SAME}",
        name="pixels",
        phrase="{} pixels",
        label="number of pixels set",
    )
