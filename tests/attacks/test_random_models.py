"""Attacks on models that draw random numbers: gradients averaged over draws, and results that repeat."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from blrobust.attacks.catalogue.attack_spec import AttackSpec
from blrobust.attacks.catalogue.table import ATTACKS
from blrobust.attacks.guard import Guard
from blrobust.attacks.guard.mean_logits import MeanLogits

N = 20
GRADIENT = [kind for kind, spec in ATTACKS.items() if spec.gradients]


class Noisy(nn.Module):
    """A linear model with fixed weights and random ones, `noise` times as large."""

    def __init__(self, noise: float) -> None:
        super().__init__()
        source = torch.Generator().manual_seed(0)
        self.weight = nn.Parameter(torch.randn(3, 3 * 4 * 4, generator=source))
        self.noise = noise
        self.eval()

    def forward(self, pixels: Tensor) -> Tensor:
        weight = self.weight + self.noise * torch.randn_like(self.weight)
        return (pixels - 0.5).flatten(1) @ weight.T


def images() -> tuple[Tensor, Tensor]:
    pixels = torch.rand(N, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    return pixels, Noisy(0)(pixels).argmax(1)


def guard(kind: str, **changes: int) -> Guard:
    spec = ATTACKS[kind]
    return Guard(kind, spec, seed=0, parameters={**spec.budget(), **changes})


def measure(attack: Guard, model: nn.Module, levels: list[float]) -> list[dict[str, np.ndarray]]:
    pixels, labels = images()
    found = attack.measure(model, pixels, labels, levels=levels, draw=0, samples=range(N), keep=True)
    return [{key: values.numpy() for key, values in outcome.items()} for outcome in found]


def test_the_gradient_is_that_of_the_mean_of_the_draws() -> None:
    pixels, labels = images()

    def gradient(model: nn.Module) -> Tensor:
        inputs = pixels.clone().requires_grad_()
        torch.manual_seed(0)
        nn.functional.cross_entropy(model(inputs), labels).backward()
        assert inputs.grad is not None
        return inputs.grad

    class Mean(Noisy):
        def forward(self, pixels: Tensor) -> Tensor:
            return torch.stack([super(Mean, self).forward(pixels) for _ in range(5)]).mean(0)

    torch.testing.assert_close(gradient(MeanLogits(Noisy(1.0), 5)), gradient(Mean(1.0)))


@pytest.mark.parametrize("kind", GRADIENT)
def test_every_attack_by_gradients_accepts_it(kind: str) -> None:
    assert ATTACKS[kind].settable()["eot"] == 1


@pytest.mark.parametrize("kind", ["square-linf", "hopskipjump", "pixel"])
def test_other_attacks_do_not(kind: str) -> None:
    assert "eot" not in ATTACKS[kind].settable()


def test_averaging_makes_an_attack_on_a_random_model_stronger() -> None:
    pixels, labels = images()

    @torch.no_grad()
    def margin(pixels: Tensor) -> Tensor:
        return Noisy(0)(pixels).gather(1, labels[:, None])

    fallen = {}
    for eot in (1, 50):
        # Only successes are kept; the others are the images themselves.
        found = torch.from_numpy(measure(guard("fgsm", eot=eot), Noisy(5.0), [0.05])[0]["pixels"])
        changed = (found != pixels).flatten(1).any(1)
        fallen[eot] = float((margin(pixels) - margin(found))[changed].mean())
    assert fallen[50] > 1.5 * fallen[1]


def test_one_draw_is_the_attack_without_it_and_each_draw_is_a_pass() -> None:
    plain, once, thrice = (
        measure(guard("pgd-linf", **changes), Noisy(0), [0.02])[0] for changes in ({}, {"eot": 1}, {"eot": 3})
    )
    for key, values in plain.items():
        assert values.tobytes() == once[key].tobytes()
    assert plain["backwards"].sum() > 0
    assert thrice["backwards"].sum() == 3 * plain["backwards"].sum()
    assert np.array_equal(plain["success"], thrice["success"])


@pytest.mark.parametrize("kind", ["pixel", "fgsm", "apgd-targeted", "deepfool-l2", "square-linf"])
def test_results_on_a_random_model_do_not_depend_on_what_is_stored(kind: str) -> None:
    levels = [0.0, 0.02, 0.1] if kind != "pixel" else [0.0, 2.0, 5.0]
    model = Noisy(0.3)
    whole = guard(kind, restarts=2) if ATTACKS[kind].is_search else guard(kind)
    resumed = guard(kind, restarts=2) if ATTACKS[kind].is_search else guard(kind)
    one_search = whole.one_search_for_all_levels
    groups = [levels[:1], levels[1:]] if one_search else [[level] for level in levels]
    first = {
        at: found for group in groups for at, found in zip(group, measure(whole, model, group), strict=True)
    }
    torch.rand(5)
    last = measure(resumed, model, levels[-1:])[0]
    for key, values in first[levels[-1]].items():
        assert values.tobytes() == last[key].tobytes(), key


def test_a_revision_is_part_of_the_configuration_where_it_is_not_1() -> None:
    from blrobust.evaluation.sweep import Part

    attack = guard("fgsm")
    assert Part(attack, [0, 1]).config == {"levels": [0, 1]}
    assert Part(attack, [0, 1], {"parameters": {}}, revision=2).config == {
        "levels": [0, 1],
        "parameters": {},
        "revision": 2,
    }
    assert AttackSpec.__dataclass_fields__["revision"].default == 1
