"""A row of the table of attacks: what an attack is, and how it is built."""

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

Family = Literal["noise", "decision", "score", "gradient", "transfer"]
Preset = Literal["default", "paper"]


@dataclass(frozen=True)
class Strength:
    """What a strength counts, and which are measured where none is asked for."""

    norm: str
    """What the attack's distance measures."""
    axis: str
    """The strength in words."""
    grid: str
    """The default strengths, as ``blrobust.perturbations.levels.parse`` reads them."""
    check: str | None = None
    """``module:function`` (strength, image shape) that raises ``UserError`` for a strength the
    images cannot take."""


@dataclass(frozen=True, kw_only=True)
class AttackSpec:
    """One row of the table."""

    attack: str
    """``module:class`` of a Foolbox 3 attack, imported only when it runs."""
    strength: Strength
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """What the class is built with: a budget for a look, seconds on a laptop."""
    paper: Mapping[str, Any] = field(default_factory=dict)
    """What differs under ``--preset paper``, the budget of the literature."""
    per_sample_seed: bool = False
    """Its randomness belongs to the sample: it is built with ``seed`` too, and its ``run`` takes
    ``draw`` and ``samples`` (ids of the images in the data set)."""
    family: Family
    """What the attack sees of the model."""
    is_search: bool = True
    """It looks for a failure, so samples that are wrong without it are left alone and count as
    wrong; otherwise it is a random perturbation of every sample."""
    targeted: bool = False
    """It aims at one wrong class: the second most likely one, or ``--target``."""
    queries: str
    """Model evaluations per sample and strength, with the default budget."""
    source: str
    """The paper that proposed it."""

    @property
    def norm(self) -> str:
        """What its distance measures."""
        return self.strength.norm

    @property
    def grid(self) -> str:
        """The default strengths."""
        return self.strength.grid

    @property
    def gradients(self) -> bool:
        """It needs the model's gradients."""
        return self.family == "gradient"

    @property
    def minimal(self) -> bool:
        """One run finds the smallest perturbation it can, and so serves every strength."""
        from foolbox.attacks.base import FixedEpsilonAttack

        return not issubclass(self._class, FixedEpsilonAttack)

    def budget(self, preset: Preset = "default") -> dict[str, Any]:
        """The parameters of a preset."""
        return {**self.parameters, **(self.paper if preset == "paper" else {})}

    def settable(self) -> dict[str, Any]:
        """The parameters that a user can set, and their defaults."""
        # A word that the row gives (a norm, a loss) is part of the attack's name, and so is HopSkipJump's
        # norm: another one would be measured under a wrong label.
        taken = {"self", "seed", "constraint", "tensorboard"}
        taken |= {name for name, value in self.parameters.items() if isinstance(value, str)}
        found = {}
        for name, parameter in self._signature.items():
            value = self.parameters.get(name, parameter.default)
            if name not in taken and isinstance(value, bool | int | float | str):
                found[name] = float(value) if parameter.annotation is float else value  # Foolbox has a 0
        return {"restarts": self.parameters.get("restarts", 1), **found} if self.is_search else found

    def words(self, name: str) -> tuple[str, ...]:
        """The legal values of a parameter that is a word."""
        return _literals(self._signature[name].annotation)

    def build(self, *, seed: int, parameters: Mapping[str, Any]) -> Attack:
        """The Foolbox attack."""
        given = {name: value for name, value in parameters.items() if name != "restarts"}
        if self.per_sample_seed:
            given["seed"] = seed
        attack: Attack = self._class(**given)
        return attack

    @property
    def _signature(self) -> Mapping[str, inspect.Parameter]:
        return inspect.signature(self._class, eval_str=True).parameters

    @property
    def _class(self) -> type[Attack]:
        found: type[Attack] = resolve_name(self.attack)
        return found

    def feasible(self, strengths: Sequence[float], shape: tuple[int, ...]) -> tuple[float, ...]:
        """The strengths that images of ``shape`` (C, H, W) can take."""

        def can(strength: float) -> bool:
            try:
                self.check_strengths([strength], shape)
            except UserError:
                return False
            return True

        return tuple(filter(can, strengths))

    def check_strengths(self, strengths: Sequence[float], shape: tuple[int, ...]) -> None:
        """Raise ``UserError`` at the first strength that images of ``shape`` (C, H, W) cannot take."""
        if self.strength.check is not None:
            check = resolve_name(self.strength.check)
            for strength in strengths:
                check(strength, shape)


def _literals(annotation: Any) -> tuple[str, ...]:
    """The values of a ``Literal``, or of a union of them."""
    parts = get_args(annotation)
    return parts if get_origin(annotation) is Literal else tuple(chain.from_iterable(map(_literals, parts)))
