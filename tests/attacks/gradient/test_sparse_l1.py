"""Sparse L1 descent, against Foolbox's step, a root finder's projection, and closed forms."""

import math
from typing import Any

import eagerpy
import numpy as np
import pytest
import torch
from foolbox.attacks import SparseL1DescentAttack
from foolbox.criteria import Misclassification, TargetedMisclassification
from foolbox.models.pytorch import PyTorchModel
from foolbox.types import Bounds
from scipy.optimize import brentq
from torch import Tensor, nn

from blrobust.attacks.building_blocks import l1_ball
from blrobust.attacks.catalogue.table import ATTACKS
from blrobust.attacks.gradient.sparse_l1 import SparseL1Descent
from blrobust.attacks.guard import Guard
from blrobust.attacks.status import Status
from blrobust.data import datasets
from blrobust.models import zoo

CPU = torch.device("cpu")
CLASSES = 4
KINDS = ("pgd-l1", "bim-l1")


class Linear(nn.Module):
    """Logits w (x - 1/2) of images (3, 8, 8)."""

    def __init__(self, classes: int = CLASSES) -> None:
        super().__init__()
        self.w = 3 * torch.randn(classes, 192, generator=torch.Generator().manual_seed(1))
        self.eval()

    def forward(self, pixels: Tensor) -> Tensor:
        return (pixels.flatten(1) - 0.5) @ self.w.T


class Bright(nn.Module):
    """Class 1 of images whose mean is above `edge`: the gradient is the same at every number."""

    def __init__(self, edge: float) -> None:
        super().__init__()
        self.edge = nn.Parameter(torch.tensor(edge))
        self.eval()

    def forward(self, pixels: Tensor) -> Tensor:
        above = 100 * (pixels.mean(dim=(1, 2, 3)) - self.edge)
        return torch.stack([-above, above], 1)


def at(model: nn.Module, bounds: tuple[float, float] = (0.0, 1.0)) -> PyTorchModel:
    return PyTorchModel(model, bounds=bounds, device=CPU)


def images(count: int, spread: float = 0.1) -> Tensor:
    return 0.5 + spread * torch.randn(count, 3, 8, 8, generator=torch.Generator().manual_seed(2))


def test_the_projection_is_that_of_a_root_finder() -> None:
    delta = images(12, spread=1.0) - 0.5
    for epsilon in (0.01, 1.0, 30.0, 1e4):
        found = l1_ball.project(delta, epsilon).double().numpy()
        for one, projected in zip(delta.double().numpy(), found, strict=True):
            sizes = np.abs(one)
            if sizes.sum() <= epsilon:
                assert np.array_equal(projected, one)
                continue

            def excess(cut: float, sizes: Any = sizes, epsilon: float = epsilon) -> float:
                return float(np.maximum(sizes - cut, 0).sum() - epsilon)

            cut = brentq(excess, 0, sizes.max(), xtol=1e-14)
            wanted = np.sign(one) * np.maximum(sizes - cut, 0)
            np.testing.assert_allclose(projected, wanted, rtol=1e-4, atol=1e-6)
            assert np.abs(projected).sum() == pytest.approx(epsilon, rel=1e-5)


@pytest.mark.parametrize("quantile", [0.0, 0.5, 0.9, 0.99])
def test_the_step_is_foolboxes_where_no_two_components_are_alike(quantile: float) -> None:
    gradient = images(6, spread=1.0) - 0.5
    theirs = SparseL1DescentAttack(quantile=quantile).normalize(
        eagerpy.astensor(gradient), x=eagerpy.astensor(torch.full_like(gradient, 0.5)), bounds=Bounds(0, 1)
    )
    torch.testing.assert_close(l1_ball.steepest(gradient, quantile), theirs.raw)


def test_starts_are_on_the_sphere_and_alike_in_every_number() -> None:
    uniforms = torch.rand(4000, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    uniforms[0, 0, 0, 0] = 0
    found = l1_ball.start(uniforms, 2.5)
    assert found.isfinite().all()
    torch.testing.assert_close(found.abs().flatten(1).sum(1), torch.full((4000,), 2.5))
    shares = found.flatten(1).abs() / 2.5  # of a point of the simplex: Beta(1, 11)
    torch.testing.assert_close(shares.mean(0), torch.full((12,), 1 / 12), rtol=0.06, atol=0)
    deviation = math.sqrt(11 / (12**2 * 13))
    torch.testing.assert_close(shares.std(0), torch.full((12,), deviation), rtol=0.08, atol=0)
    assert found.flatten(1).mean(0).abs().max() < 0.02


@pytest.mark.parametrize("random_start", [False, True])
def test_a_linear_model_is_fooled_beyond_its_margin_and_not_before(*, random_start: bool) -> None:
    model, x = Linear(2), images(8, spread=0.01)
    logits = model(x)
    labels = logits.argmax(1)
    slope = (model.w[0] - model.w[1]).abs().max()  # the dual norm of L1
    margins = (logits[:, 0] - logits[:, 1]).abs() / slope
    attack = SparseL1Descent(quantile=0.9999, steps=40, random_start=random_start)
    for factor in (0.98, 1.02):
        for image, margin in enumerate(margins.tolist()):
            one, label = x[image : image + 1], labels[image : image + 1]
            found = attack.run(at(model), one, Misclassification(label), epsilon=factor * margin)
            assert (model(found).argmax(1) != label).item() == (factor > 1), (image, factor)
            assert (found - one).abs().sum().item() <= factor * margin * (1 + 1e-6) + 1e-6


def test_targets_are_reached_and_only_the_largest_components_change() -> None:
    model, x = Linear(), images(8, spread=0.01)
    goal = (model(x).argmax(1) + 1) % CLASSES
    found = SparseL1Descent().run(at(model), x, TargetedMisclassification(goal), epsilon=3.0)
    assert torch.equal(model(found).argmax(1), goal)
    one_step = SparseL1Descent(steps=1, quantile=0.95).run(
        at(model), x, Misclassification(model(x).argmax(1)), epsilon=0.5
    )
    assert ((one_step != x).flatten(1).sum(1) == 10).all()  # of 192 numbers


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("grey", [0.0, 0.1, 0.3, 0.7, 0.97])
def test_flat_images_whose_gradients_are_all_alike(kind: str, grey: float) -> None:
    """Every number moves by the same amount, and rounds by it: no input may leave the ball."""
    edge, epsilon = grey + 1e-3, 3072 * 2e-3
    if grey == 0.97:
        edge = grey + 3e-4
    spec = ATTACKS[kind]
    guard = Guard(kind, spec, seed=0)
    pixels = torch.full((3, 3, 32, 32), grey)
    labels = torch.zeros(3, dtype=torch.int64)
    levels = [0.0, *(epsilon * share for share in (0.1, 0.25, 0.9, 1.0))]
    outcomes = guard.measure(Bright(edge), pixels, labels, levels=levels, draw=0, samples=range(3))
    reasons = {Status(code) for outcome in outcomes for code in outcome["reason"].tolist()}
    assert reasons <= {Status.NOT_ATTACKED, Status.ADVERSARIAL, Status.NOT_ADVERSARIAL}
    assert not outcomes[1]["success"].any()  # the mean rises by 0.0002 at most
    assert outcomes[-1]["success"].all()
    for level, outcome in zip(levels[1:], outcomes[1:], strict=True):
        assert (outcome["distance"] <= level * (1 + 1e-6) + 4e-6).all()


def test_without_a_gradient_the_image_stays() -> None:
    class Still(nn.Module):
        def forward(self, pixels: Tensor) -> Tensor:
            return torch.eye(2)[torch.zeros(len(pixels), dtype=torch.int64)] + 0 * pixels.sum()

    x = images(2)
    criterion = Misclassification(torch.zeros(2, dtype=torch.int64))
    assert torch.equal(SparseL1Descent().run(at(Still().eval()), x, criterion, epsilon=1.0), x)


def test_rounding_is_taken_off_and_no_more() -> None:
    for grey in (0.1, 0.3, 0.7, 0.97):
        origin = torch.full((50, 3, 32, 32), grey)
        epsilon = 5.0
        delta = torch.linspace(0.2, 1.0, 50).view(-1, 1, 1, 1) * epsilon / 3072
        found = l1_ball.settle(origin + delta, origin, epsilon)
        lengths = (found.double() - origin.double()).abs().flatten(1).sum(1)
        before = ((origin + delta).double() - origin.double()).abs().flatten(1).sum(1)
        assert (lengths <= epsilon * (1 + 1e-6)).all()
        assert (lengths >= before - 4 * 2**-24 * 3072).all()
        within = before <= epsilon
        assert torch.equal(found[within], (origin + delta)[within])


@pytest.mark.parametrize("kind", KINDS)
def test_it_comes_near_the_distances_of_a_search_for_the_smallest(kind: str) -> None:
    """The dense step, along the whole gradient, leaves 8 of these 12 images right at this strength."""
    data = datasets.load("cifar10-sample").take(12)
    model = zoo.load("fp32", dataset=data, device=CPU).module
    x, labels, level = data.pixels(slice(0, 12)), data.labels, 2.0

    def left(name: str) -> int:
        spec = ATTACKS[name]
        outcome = Guard(name, spec, seed=0)(model, x, labels, level=level, draw=0, samples=range(12))
        return int((outcome["prediction"] == labels).sum())

    assert left(kind) <= left("fmn-l1") + 1 <= 6
    assert ATTACKS[kind].revision == 2
