"""Band-limited networks give true gradients, and what follows gradients breaks most."""

import copy
from functools import cache

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from blrobust.attacks.catalogue.table import ATTACKS
from blrobust.attacks.guard import Guard
from blrobust.data import datasets
from blrobust.device import resolve
from blrobust.models import model_names, zoo

IMAGES = 12
LEVEL = 2 / 255


@cache
def data() -> datasets.Dataset:
    return datasets.load("cifar10-sample").take(IMAGES)


@cache
def network(name: str) -> nn.Module:
    (parsed,) = model_names.parse_names(name)
    return zoo.load(parsed, arch="resnet20", dataset=data(), device=resolve("cpu")).module


@cache
def accuracy(name: str, kind: str, source: str | None = None, **parameters: int) -> float:
    """What is left of a model under an attack, or under one that sees the source."""
    spec = ATTACKS[kind]
    settings = {**spec.budget(), **parameters}
    seen = None if source is None else network(source)
    guard = Guard(kind, spec, seed=0, parameters=settings, source=seen)
    pixels = data().pixels(slice(0, IMAGES), torch.device("cpu"))
    outcome = guard(network(name), pixels, data().labels, level=LEVEL, draw=0, samples=range(IMAGES))
    return float((outcome["prediction"] == data().labels).float().mean())


@pytest.mark.parametrize("name", ["fft50", "fft85", "fft85-compact"])
def test_the_gradient_is_that_of_finite_differences(name: str) -> None:
    model = copy.deepcopy(network(name)).double()
    pixels = data().pixels(slice(0, 2), torch.device("cpu")).double()
    labels = data().labels[:2]
    source = torch.Generator().manual_seed(0)

    def loss(x: Tensor) -> Tensor:
        return F.cross_entropy(model(x), labels, reduction="sum")

    inputs = pixels.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(inputs), inputs)
    for _ in range(3):
        direction = torch.randn(pixels.shape, generator=source, dtype=torch.float64)
        step = 1e-9 * direction  # small enough to cross no corner of a ReLU
        with torch.no_grad():
            slope = (loss(pixels + step) - loss(pixels - step)) / 2e-9
        torch.testing.assert_close((gradient * direction).sum(), slope, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["fp32", "fft85"])
def test_attacks_by_gradients_break_at_least_as_much_as_others(name: str) -> None:
    other = "fft85" if name == "fp32" else "fp32"
    white = accuracy(name, "apgd-ce", steps=15)
    assert white <= accuracy(name, "pgd-linf", steps=15)
    assert white <= accuracy(name, "square-linf", queries=15)
    assert white <= accuracy(name, "pgd-linf", other, steps=15)
