"""Descriptions of attacks: the unit of their levels, their parameters, and their construction."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

from blrobust.errors import UserError

if TYPE_CHECKING:
    from foolbox.attacks.base import Attack

Family = Literal["noise", "decision", "score", "gradient"]
Preset = Literal["default", "paper"]
# Parameters that `blrobust.attacks.guard` applies, not the class of the attack: `restarts`, the number of
# runs of a search, and `eot`, the number of forward passes whose logits are averaged for an attack that uses
# gradients (expectation over transformation, Athalye et al. 2018).
OURS = ("restarts", "eot")


@dataclass(frozen=True)
class Strength:
    """The unit of an attack's levels, and its default levels."""

    norm: str
    """The norm of the attack's distance; "none" if the attack has no distance."""
    axis: str
    """The meaning of a level in words, as on the axis of a figure."""
    grid: str
    """The default levels as text, in the syntax of `blrobust.perturbations.levels.parse`."""
    check: str | None = None
    """The name `module:function` of a function that is called with a level and the shape (C, H, W) of the
    images. It raises `UserError` if the level is not legal for such images."""


@dataclass(frozen=True, kw_only=True)
class AttackSpec:
    """One row of the catalogue of attacks."""

    attack: str
    """The name `module:class` of an attack with Foolbox 3's interface, imported only when it is needed."""
    strength: Strength
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """The default arguments of the class, chosen so that the attack takes seconds on a laptop."""
    paper: Mapping[str, Any] = field(default_factory=dict)
    """The arguments that differ with `--preset paper`, which has the longer searches of the literature."""
    per_sample_seed: bool = False
    """Whether each sample has its own random numbers. If so, the class also takes `seed`, and its `run` takes
    `draw` (the index of a repetition) and `samples` (the positions of the images in the data set)."""
    family: Family
    """The output of the model that the attack uses: none, predicted classes, logits or gradients, in the
    order of `Family`."""
    is_search: bool = True
    """Whether the attack searches for a failure of the model. If so, images that are misclassified without it
    are not attacked and count as misclassified. If not, the attack perturbs every image, either at random or
    by a fixed rule."""
    targeted: bool = False
    """Whether the attack aims at one wrong class: the most likely wrong one, or `--target`."""
    gradient_free_member: str | None = None
    """The name of the member of an ensemble that needs no gradients; on a model without gradients only this
    member runs. An ensemble has a parameter `attacks`, the names of its members joined by `+`."""
    queries: str
    """The iterations or model evaluations per sample and level with the default parameters, in words."""
    source: str
    """The paper that proposed the attack."""
    revision: int = 1
    """The version of the attack's computation. A code change that finds other images with the same parameters
    must raise it by 1. A revision other than 1 is part of a run's configuration, so that a stored run of an
    older revision is neither resumed nor shown as the result."""

    @property
    def norm(self) -> str:
        """The norm of the attack's distance."""
        return self.strength.norm

    @property
    def grid(self) -> str:
        """The default levels, as text."""
        return self.strength.grid

    @property
    def gradients(self) -> bool:
        """Whether the attack uses the model's gradients."""
        return self.family == "gradient"

    @property
    def minimal(self) -> bool:
        """Whether the attack searches for the smallest perturbation, so that one run serves all levels."""
        from foolbox.attacks.base import FixedEpsilonAttack

        return not issubclass(self._class, FixedEpsilonAttack)

    def budget(self, preset: Preset = "default") -> dict[str, Any]:
        """Return the parameters that the preset sets, with their values."""
        return {**self.parameters, **(self.paper if preset == "paper" else {})}

    def settable(self) -> dict[str, Any]:
        """Return the parameters that a user can set, by name, with their default values."""
        # A text among `parameters` (a norm, a loss) is part of the attack's name, and so is HopSkipJump's
        # norm, `constraint`: with another value the name would be wrong.
        fixed = {"self", "seed", "constraint", "tensorboard"}
        fixed |= {name for name, value in self.parameters.items() if isinstance(value, str)}
        found = {}
        for name, parameter in self._signature.items():
            value = self.parameters.get(name, parameter.default)
            if name not in fixed and isinstance(value, bool | int | float | str):
                found[name] = float(value) if parameter.annotation is float else value  # Foolbox has a 0
        ours: dict[str, Any] = {"restarts": self.parameters.get("restarts", 1)} if self.is_search else {}
        if self.gradients:
            ours["eot"] = self.parameters.get("eot", 1)
        return {**ours, **found}

    def without_gradients(self, parameters: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return `parameters`, changed for a model without gradients; None if the attack needs gradients."""
        member = self.gradient_free_member
        if member is None or member not in parameters.get("attacks", self.settable()["attacks"]).split("+"):
            return None
        return {**parameters, "attacks": member}

    def words(self, name: str) -> tuple[str, ...]:
        """Return the legal values of the parameter `name` if it is annotated as a `Literal`, otherwise ()."""
        return _literals(self._signature[name].annotation)

    def build(self, *, seed: int, parameters: Mapping[str, Any]) -> Attack:
        """Return the attack with these `parameters`; `seed` has an effect only with `per_sample_seed`.

        Raises `ValueError` if the class of the attack rejects a parameter.
        """
        given = {name: value for name, value in parameters.items() if name not in OURS}
        if self.per_sample_seed:
            given["seed"] = seed
        attack: Attack = self._class(**given)
        return attack

    def feasible(self, levels: Sequence[float], shape: tuple[int, ...]) -> tuple[float, ...]:
        """Return the `levels` that are legal for images of `shape` (C, H, W)."""

        def can(level: float) -> bool:
            try:
                self.check_levels([level], shape)
            except UserError:
                return False
            return True

        return tuple(filter(can, levels))

    def check_levels(self, levels: Sequence[float], shape: tuple[int, ...]) -> None:
        """Raise `UserError` for the first of `levels` that is not legal for images of `shape` (C, H, W)."""
        if self.strength.check is not None:
            check = resolve_name(self.strength.check)
            for level in levels:
                check(level, shape)

    @property
    def _signature(self) -> Mapping[str, inspect.Parameter]:
        return inspect.signature(self._class, eval_str=True).parameters

    @property
    def _class(self) -> type[Attack]:
        found: type[Attack] = resolve_name(self.attack)
        return found


def _literals(annotation: Any) -> tuple[str, ...]:
    """Return the values of a `Literal` annotation, or of a union of such annotations."""
    parts = get_args(annotation)
    return parts if get_origin(annotation) is Literal else tuple(chain.from_iterable(map(_literals, parts)))
