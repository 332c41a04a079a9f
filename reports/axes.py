"""The level axis of a report: its name, its unit, its second unit, and levels in words."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from blrobust.analysis.level_norm import level_norm
from blrobust.attacks.catalogue.table import ATTACKS
from blrobust.perturbations.levels import DIGITS, distinct_digits, format_level
from blrobust.perturbations.paper_bounds import WIDTH

LENGTHS = (
    "Linf",
    "L2",
    "L1",
)  # norms in the unit of pixel values; other norms are counts or have their own unit
SAME = "Within a run, every model gets the same perturbed images."

Conversion = Callable[[Any], Any]  # arrays of levels, typed as loosely as matplotlib's own


@dataclass(frozen=True)
class Axis:
    """The axis of levels in a figure; `other` converts levels to a second unit, and `back` converts back."""

    title: str  # "Gaussian noise", as in the middle of a sentence
    description: str  # sentences that describe the perturbation
    name: str  # "sigma"
    phrase: str  # "sigma {}": a level in a sentence
    label: str
    other_name: str = ""
    other_label: str = ""
    other: Conversion | None = None
    back: Conversion | None = None
    norm: str | None = None  # the norm of an attack; Linf levels are written as 8/255
    digits: int = DIGITS  # the most digits of a level

    def describe(self, level: float) -> str:
        """Return a level as a phrase, such as "sigma 0.5"."""
        return self.phrase.format(self.format(level))

    def format(self, level: float) -> str:
        """Return a level as the text of a number, such as "0.5" or "8/255"."""
        return format_level(level, self.norm, digits=self.digits)


def axis(kind: str, space: str, std: list[float], *, levels: Iterable[float] = ()) -> Axis:
    """Return the axis for a kind of noise or attack in an input space.

    `std` are the standard deviations of the data set's colour channels. The levels of normalised and of pixel
    space differ by the factor mean(`std`), which is 0.201 on CIFAR-10. `levels` are the levels to show; they
    get as many digits as are needed to distinguish them.
    """
    found = _axis(kind, space, std)
    return replace(found, digits=distinct_digits(levels, found.norm))


def _axis(kind: str, space: str, std: list[float]) -> Axis:
    scale = float(np.mean(std))
    match kind, space:
        case "gaussian", _:
            title, name = "Gaussian noise", "sigma"
            noise = "Gaussian noise of standard deviation sigma is added to every pixel"
        case "uniform", "legacy":
            return _uniform_legacy(scale)
        case "uniform", _:
            title, name = "uniform noise", "half-width"
            noise = "Uniform noise between plus and minus the half-width is added to every pixel"
        case "pixel", _:
            return _pixel(legacy=space == "legacy")
        case _:
            return _attack(kind, space)
    if space == "pixel":
        return Axis(
            title=title,
            description=f"{noise} (pixels go from 0 to 1), and the result is clipped to that range. {SAME}",
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
        description=f"{noise} of the image, normalised by the data set's mean and standard deviation; the "
        f"result is {end}. {SAME}",
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
        description="Uniform noise of half-width 5.183 epsilon² in normalised units is added to every "
        f"pixel; the result is clipped to the published bounds (legacy space). {SAME}",
        name="epsilon",
        phrase="epsilon {}",
        label="epsilon (legacy: half-width 5.183 epsilon²)",
        other_name="pixel half-width",
        other_label="half-width in pixel units (0 to 1)",
        # Odd functions, because matplotlib also converts negative levels, in the margin of the figure.
        other=lambda level: level * np.abs(level) * WIDTH * scale,
        back=lambda width: np.sign(width) * np.sqrt(np.abs(width) / (WIDTH * scale)),
    )


def _attack(kind: str, space: str) -> Axis:
    """Return the axis of the attack `kind`, or a general axis if it is not in the catalogue of attacks."""
    spec = ATTACKS.get(kind)
    if spec is None:
        return Axis(f"{kind}, {space} space", "", "strength", "strength {}", f"strength ({space} space)")
    legacy = space == "legacy"
    units = ", in normalised units within the published bounds" if legacy and spec.norm in LENGTHS else ""
    norm = "" if spec.norm == "none" else f" ({spec.norm})"
    access = {
        "noise": "It is random and does not use the model.",
        "decision": "It uses only the classes that the model predicts.",
        "score": "It uses the model's logits.",
        "gradient": "It uses the model's gradient.",
    }[spec.family]
    return Axis(
        title=f"the {kind} attack{', legacy space' if legacy else ''}",
        description=f"{kind} is the attack of {spec.source}. {access} Its strength is the "
        f"{spec.strength.axis}{units}.",
        name="strength",
        phrase="strength {}",
        label=f"{spec.strength.axis}{norm}{units}",
        norm=level_norm(kind, space),
    )


def _pixel(*, legacy: bool) -> Axis:
    bounds = "the published bounds (legacy space)" if legacy else "the pixel range"
    return Axis(
        title="the pixel attack, legacy bounds" if legacy else "the pixel attack",
        description="Pixels chosen at random are set, in all channels, to the minimum or the maximum of "
        f"{bounds}, each with probability 1/2. There is one trial, which does not use the model. {SAME}",
        name="pixels",
        phrase="{} pixels",
        label="number of pixels set",
    )
