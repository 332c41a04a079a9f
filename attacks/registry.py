"""Every attack in one table. A new attack is one row, and a small Foolbox class where Foolbox has none."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any, Literal

from blrobust.errors import UserError

if TYPE_CHECKING:
    from foolbox.attacks.base import Attack


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One row of the table: what an attack is and how it is built."""

    attack: str
    """``module:class`` of a Foolbox 3 attack, imported only when it runs."""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """What the class is built with."""
    keyed: bool = False
    """Its randomness belongs to the sample: it is built with ``seed`` too, and its ``run`` takes
    ``draw`` and ``samples`` (places in the data set)."""
    family: Literal["decision", "score", "gradient", "transfer", "noise"]
    """What the attack sees of the model."""
    searches: bool
    """It looks for a failure, so samples that are wrong without it are left alone and count as
    wrong; otherwise it is a random perturbation of every sample."""
    norm: str
    """What its distance measures."""
    axis: str
    """What its strength counts."""
    grid: str
    """The default strengths, as ``blrobust.levels.parse`` reads them."""
    check: str | None = None
    """``module:function`` (strength, image shape) that raises ``UserError`` for a strength the
    images cannot take."""
    queries: str
    """Model evaluations per sample and strength."""
    gradients: bool
    """It needs the model's gradients."""
    source: str
    """The paper that proposed it."""

    def build(self, *, seed: int) -> "Attack":
        """The Foolbox attack."""
        keys = {"seed": seed} if self.keyed else {}
        attack: Attack = resolve_name(self.attack)(**self.parameters, **keys)
        return attack

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
        if self.check is not None:
            check = resolve_name(self.check)
            for strength in strengths:
                check(strength, shape)


ATTACKS: dict[str, Entry] = {
    "pixel": Entry(
        attack="blrobust.attacks.pixel:PixelAttack",
        keyed=True,
        family="decision",
        searches=False,
        norm="L0 (pixels)",
        axis="number of pixels set to the minimum or maximum",
        grid="0:1000:50",
        check="blrobust.attacks.pixel:check_count",
        queries="1",
        gradients=False,
        source="Dziedzic et al. 2019",
    ),
}
