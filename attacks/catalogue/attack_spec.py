"""Descriptions of attacks: the unit of their levels, their parameters, and how they are built."""

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
# Parameters that the guard applies to every attack: runs of a search, and forward passes that are
# averaged (expectation over transformation, Athalye et al. 2018) for an attack by gradients.
OURS = ("restarts", "eot")


@dataclass(frozen=True)
class Strength:
    """The unit of an attack's levels, and the default levels."""

    norm: str
    """Norm of the attack's distance, "none" without one."""
    axis: str
    """Meaning of a level, in words."""
    grid: str
    """Default levels, as `blrobust.perturbations.levels.parse` reads them."""
    check: str | None = None
    """`module:function` (level, image shape) that raises `UserError` for a level that such images
    cannot take."""


@dataclass(frozen=True, kw_only=True)
class AttackSpec:
    """One row of the table of attacks."""

    attack: str
    """`module:class` of a Foolbox 3 attack, imported only when it is needed."""
    strength: Strength
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of the class: the default budget, seconds on a laptop."""
    paper: Mapping[str, Any] = field(default_factory=dict)
    """Arguments that differ under `--preset paper`, the budget of the literature."""
    per_sample_seed: bool = False
    """Whether its random numbers belong to the sample: the class also takes `seed`, and its `run` takes
    `draw` and `samples` (ids of the images in the data set)."""
    family: Family
    """The part of the model that the attack uses: nothing, predictions, logits or gradients."""
    is_search: bool = True
    """Whether it searches for a failure: images that are wrong without it are then not attacked and
    count as wrong. Otherwise it is a random perturbation of every image."""
    targeted: bool = False
    """Whether it aims at one wrong class: the second most likely one, or `--target`."""
    gradient_free_member: str | None = None
    """Of an ensemble, whose parameter `attacks` has its members joined by `+`, the one that needs no
    gradients: it alone attacks a model that gives none."""
    queries: str
    """Model evaluations per sample and level, with the default budget."""
    source: str
    """The paper that proposed it."""
    revision: int = 1
    """Version of its computation. Raise it by 1 in a change that finds other inputs with the same
    parameters: it is part of a run's configuration where it is not 1, so that a run of the version
    before is neither resumed nor shown as the result."""

    @property
    def norm(self) -> str:
        """The norm of its distance."""
        return self.strength.norm

    @property
    def grid(self) -> str:
        """The default levels."""
        return self.strength.grid

    @property
    def gradients(self) -> bool:
        """Whether it uses the model's gradients."""
        return self.family == "gradient"

    @property
    def minimal(self) -> bool:
        """Whether one run searches for the smallest perturbation, so that its result serves all levels."""
        from foolbox.attacks.base import FixedEpsilonAttack

        return not issubclass(self._class, FixedEpsilonAttack)

    def budget(self, preset: Preset = "default") -> dict[str, Any]:
        """Return the parameters of a preset."""
        return {**self.parameters, **(self.paper if preset == "paper" else {})}

    def settable(self) -> dict[str, Any]:
        """Return the parameters that a user can set, with their defaults."""
        # A word in the row (a norm, a loss) is part of the attack's name, and so is HopSkipJump's norm:
        # another value would be measured under a wrong label.
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
        """Return the parameters for a model that gives no gradients; None if there is nothing to run."""
        member = self.gradient_free_member
        if member is None or member not in parameters.get("attacks", self.settable()["attacks"]).split("+"):
            return None
        return {**parameters, "attacks": member}

    def words(self, name: str) -> tuple[str, ...]:
        """Return the legal values of a parameter whose values are words."""
        return _literals(self._signature[name].annotation)

    def build(self, *, seed: int, parameters: Mapping[str, Any]) -> Attack:
        """Return the Foolbox attack; `seed` has an effect only with `per_sample_seed`.

        Raises `ValueError` for a parameter that is not legal, if the class checks it.
        """
        given = {name: value for name, value in parameters.items() if name not in OURS}
        if self.per_sample_seed:
            given["seed"] = seed
        attack: Attack = self._class(**given)
        return attack

    def feasible(self, levels: Sequence[float], shape: tuple[int, ...]) -> tuple[float, ...]:
        """Return the levels that images of `shape` (C, H, W) can take."""

        def can(level: float) -> bool:
            try:
                self.check_levels([level], shape)
            except UserError:
                return False
            return True

        return tuple(filter(can, levels))

    def check_levels(self, levels: Sequence[float], shape: tuple[int, ...]) -> None:
        """Raise `UserError` at the first level that images of `shape` (C, H, W) cannot take."""
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
    """Return the values of a `Literal`, or of a union of them."""
    parts = get_args(annotation)
    return parts if get_origin(annotation) is Literal else tuple(chain.from_iterable(map(_literals, parts)))
