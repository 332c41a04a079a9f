"""Every row of the table, through the guard, on a small network with a small budget."""

import pytest
import torch
from support import stand_in
from torch import Tensor, nn

from blrobust.attacks.catalogue.table import ATTACKS
from blrobust.attacks.guard import Guard
from blrobust.attacks.status import Status
from blrobust.perturbations import levels

SMALL = {
    "steps": 4, "queries": 20, "binary_search_steps": 2, "directions": 4, "repeats": 3, "generations": 3,
    "rounds": 2, "candidates": 8, "starts": 1, "pixels": 10, "tries": 2, "angles": 3, "shifts": 3,
    "targets": 1, "frequencies": 2, "initial_gradient_eval_steps": 5,
}  # fmt: skip
REJECTED = {Status.NOT_FINITE, Status.OUT_OF_BOUNDS, Status.BEYOND_EPSILON, Status.RAISED}
SIDE = 20
# Their solver takes half a minute to compile; test_decision_attacks has what is ours of them.
SLOW = {"brendel-bethge-l2", "brendel-bethge-linf"}


class Five(nn.Module):
    """Five fixed filters, each averaged over the map: the classes."""

    def __init__(self) -> None:
        super().__init__()
        source = torch.Generator().manual_seed(0)
        self.filters = nn.Parameter(torch.randn(5, 3, 3, 3, generator=source))

    def forward(self, pixels: Tensor) -> Tensor:
        return nn.functional.conv2d(pixels, self.filters).mean((2, 3)) * 50


def attacked(kind: str, strengths: list[float], *, seed: int = 0) -> list[dict[str, Tensor]]:
    """Four images under an attack, at several strengths."""
    spec = ATTACKS[kind]
    small = {name: SMALL[name] for name in spec.settable() if name in SMALL}
    data = stand_in.dataset(40, channels=3)
    images = torch.nn.functional.interpolate(data.pixels(slice(0, 40), torch.device("cpu")), SIDE)
    model = Five().eval()
    labels = model(images).argmax(1).detach()  # all right, so that all are attacked
    guard = Guard(kind, spec, seed=seed, parameters={**spec.budget(), **small})
    return guard.measure(model, images[:4], labels[:4], levels=strengths, draw=0, samples=range(4))


def grid(kind: str) -> list[float]:
    """The default strengths that images of this size can take, three of them at most."""
    spec = ATTACKS[kind]
    found = spec.feasible(levels.parse(spec.grid), (3, SIDE, SIDE))
    return [found[0], *found[1:][:: max(1, len(found) // 2)]]


@pytest.mark.parametrize("kind", sorted(set(ATTACKS) - SLOW))
def test_every_attack_keeps_the_rules(kind: str) -> None:
    if kind.startswith("autoattack"):
        pytest.importorskip("pyautoattack")
    strengths = grid(kind)
    assert len(strengths) > 1
    outcomes = attacked(kind, strengths)
    clean, *others = outcomes
    assert clean["reason"].tolist() == [Status.NOT_ATTACKED] * 4
    for level, outcome in zip(strengths[1:], others, strict=True):
        assert not REJECTED & set(outcome["reason"].tolist())
        measured = ~outcome["distance"].isnan() & outcome["success"]
        assert (outcome["distance"][measured] <= level * (1 + 1e-5) + 1e-6).all()
        wrong = outcome["prediction"] != clean["prediction"]
        assert torch.equal(outcome["success"], wrong)
        assert (outcome["forwards"] >= 1).all()
        asked = ATTACKS[kind].gradients
        assert (outcome["backwards"] > 0).all() == asked
    again = attacked(kind, strengths)
    for first, second in zip(outcomes, again, strict=True):
        assert all(torch.equal(first[name].nan_to_num(-1), second[name].nan_to_num(-1)) for name in first)
