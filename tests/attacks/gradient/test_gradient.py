"""Attacks by gradients, against closed forms on small models and the algorithms of the papers."""

import math
from collections.abc import Callable
from typing import Any

import eagerpy
import numpy as np
import pytest
import torch
from foolbox.attacks import (
    FGSM,
    L2PGD,
    DDNAttack,
    L2CarliniWagnerAttack,
    L2DeepFoolAttack,
    LinfDeepFoolAttack,
    LinfPGD,
)
from foolbox.attacks.fast_minimum_norm import L1FMNAttack, LInfFMNAttack
from foolbox.criteria import Misclassification, TargetedMisclassification
from foolbox.distances import l1, linf
from foolbox.models.pytorch import PyTorchModel
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from blconv.band import kept_frequencies
from blrobust.attacks.building_blocks.gradient_scaling import power_of_two
from blrobust.attacks.building_blocks.losses import cross_entropy as our_cross_entropy
from blrobust.attacks.building_blocks.losses import log_odds, logits_ratio, targeted_logits_ratio
from blrobust.attacks.building_blocks.norm_balls import BALLS
from blrobust.attacks.building_blocks.problem import Problem
from blrobust.attacks.counting_model import CountingModel
from blrobust.attacks.frequency.band_pgd import BandPGD
from blrobust.attacks.frequency.spectral_band import SpectralBand, project
from blrobust.attacks.gradient.apgd import APGD, TargetedAPGD, checkpoints
from blrobust.attacks.gradient.carlini_wagner import EAD, CarliniWagner
from blrobust.attacks.gradient.deepfool import L2DeepFool, LinfDeepFool
from blrobust.attacks.gradient.fmn import L0FMN, L1FMN, L2FMN, LinfFMN
from blrobust.attacks.gradient.newtonfool import NewtonFool
from blrobust.attacks.gradient.sparse_l1 import SparseL1Descent
from blrobust.attacks.gradient.vat import VAT, change
from blrobust.data import datasets
from blrobust.models import zoo
from blrobust.perturbations import random_numbers
from blrobust.perturbations.input_space import PIXELS

CPU = torch.device("cpu")
SHAPE = (2, 8, 8)
CLASSES = 5


class Linear(nn.Module):
    """Logits w x + b; sample by sample, so that the batch changes no bit."""

    def __init__(self, gain: float = 1.0, bias: float = 0.0) -> None:
        super().__init__()
        source = torch.Generator().manual_seed(3)
        self.w = gain * torch.randn(CLASSES, math.prod(SHAPE), generator=source)
        self.b = bias * torch.randn(CLASSES, generator=source)
        self.eval()

    def forward(self, pixels: Tensor) -> Tensor:
        # Images are near 1/2 grey, which is the origin here.
        return ((pixels.flatten(1) - 0.5)[:, None] * self.w).sum(2) + self.b


class Waves(Linear):
    """A bent Linear whose answer for class 0 is above all the others: nothing fools it."""

    def forward(self, pixels: Tensor) -> Tensor:
        return (3 * super().forward(pixels)).sin() + 2.5 * nn.functional.one_hot(
            torch.zeros(len(pixels), dtype=torch.int64), CLASSES
        )


class Bent(Linear):
    """A bent Linear: its linearisation is not the model."""

    def forward(self, pixels: Tensor) -> Tensor:
        logits = super().forward(pixels)
        return logits + 0.4 * (2 * logits).sin()


class Constant(nn.Module):
    """Logits whose gradient is exactly 0; a black image alone is class 1."""

    def forward(self, pixels: Tensor) -> Tensor:
        black = (pixels.flatten(1).amax(1) == 0).float()
        return (
            torch.stack([1 - 2 * black, 0 * black, -black, -black], 1) + 0 * pixels.flatten(1).sum(1)[:, None]
        )


def target(model: nn.Module, bounds: tuple[float, float] = (0.0, 1.0)) -> PyTorchModel:
    return PyTorchModel(model.eval(), bounds=bounds, device=CPU)


def images(count: int) -> Tensor:
    return 0.5 + 0.04 * torch.randn(count, *SHAPE, generator=torch.Generator().manual_seed(5))


def distances(model: Linear, x: Tensor, labels: Tensor, *, dual: float) -> Tensor:
    """The least norm that reaches each other class, (m, classes); 0 for the label's own."""
    logits = model(x)
    gaps = logits.gather(1, labels[:, None]) - logits
    differences = (model.w[labels][:, None] - model.w[None]).norm(p=dual, dim=2)
    return torch.where(differences > 0, gaps / differences, 0)


def nearest(model: Linear, x: Tensor, labels: Tensor, *, dual: float) -> Tensor:
    reach = distances(model, x, labels, dual=dual)
    return reach.scatter(1, labels[:, None], torch.inf).amin(1)


def fooled(model: nn.Module, x: Tensor, labels: Tensor) -> Tensor:
    with torch.no_grad():
        wrong: Tensor = model(x).argmax(1) != labels
    return wrong


# Scaling and losses


def test_power_of_two_brings_the_largest_magnitude_to_a_half_or_more_and_loses_no_bit() -> None:
    values = torch.tensor(
        [[3e-30, -5e-31], [-7.0, 2.0], [0.5, 0.0], [8e37, 1e-38], [0.0, 0.0], [1e-42, 0.0], [torch.nan, 1.0]]
    )
    factor = power_of_two(values)
    largest = (values * factor).abs().amax(1)
    assert ((largest[:4] >= 0.5) & (largest[:4] < 1)).all()
    assert ((factor > 0) & factor.isfinite()).all()
    assert torch.equal(factor.frexp().mantissa, torch.full_like(factor, 0.5))
    assert torch.equal((values * factor / factor)[:3], values[:3])


def test_losses_follow_the_paper() -> None:
    z = torch.tensor([[4.0, 1.0, 3.0, -2.0], [0.0, 5.0, 1.0, 2.0]])
    y, t = torch.tensor([0, 3]), torch.tensor([2, 0])
    assert logits_ratio(z, y).tolist() == pytest.approx([-(4 - 3) / (4 - 1), -(2 - 5) / (5 - 1)])
    wanted = [-(4 - 3) / (4 - (1 - 2) / 2), -(2 - 0) / (5 - (1 + 0) / 2)]
    assert targeted_logits_ratio(z, y, t).tolist() == pytest.approx(wanted)
    torch.testing.assert_close(our_cross_entropy(z, y), cross_entropy(z, y, reduction="none"))
    p = z.double().softmax(1).gather(1, y[:, None])[:, 0]
    assert log_odds(z, y).double().tolist() == pytest.approx((p / (1 - p)).log().tolist(), rel=1e-5)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float16, 1e-2), (torch.float32, 0)])
def test_gradients_of_a_sure_network_pass_through_16_bits(dtype: torch.dtype, tolerance: float) -> None:
    class Sure(nn.Module):
        def forward(self, pixels: Tensor) -> Tensor:
            weights = torch.linspace(-1, 1, 12).view(3, 4).to(dtype)
            return pixels.to(dtype).flatten(1) @ weights.T * 20

    x = torch.tensor([[[[0.1, 0.5], [0.75, 1.0]]], [[[0.5, 0.5], [0.5, 0.25]]]])
    gradients = []
    for model in (CountingModel(Sure(), PIXELS), Sure()):
        at = x.clone().requires_grad_()
        loss = our_cross_entropy(model(at).float(), torch.tensor([2, 2])).sum()
        gradients.append(torch.autograd.grad(loss, at)[0])
    reference = Sure()(x).double().softmax(1)  # the true one, in double precision
    reference[:, 2] = -reference[:, :2].sum(1)
    true = (reference @ torch.linspace(-20, 20, 12).view(3, 4).double()).view_as(x)
    torch.testing.assert_close(gradients[0].double(), true, rtol=max(tolerance, 1e-4), atol=0)
    if dtype == torch.float32:
        assert torch.equal(gradients[0], gradients[1])
    else:
        assert (gradients[1][0] == 0).all()  # what is lost without


# Auto-PGD


def test_checkpoints_are_the_papers() -> None:
    assert checkpoints(100) == (22, 41, 57, 70, 80, 87, 93, 99)
    p = [0.0, 0.22]
    while p[-1] < 1:
        p.append(p[-1] + max(p[-1] - p[-2] - 0.03, 0.06))
    for steps in (10, 37, 1000):
        wanted = {math.ceil(round(q * steps, 9)) for q in p[1:] if q <= 1}
        assert set(checkpoints(steps)) == wanted


@pytest.mark.parametrize(("norm", "dual"), [("linf", 1), ("l2", 2)])
@pytest.mark.parametrize(
    ("make", "enough"), [(APGD, 1.5), (lambda **k: APGD(loss="dlr", **k), 1.5), (TargetedAPGD, 1.02)]
)
def test_apgd_fools_a_linear_model_exactly_beyond_its_margin(
    make: Callable[..., Any], enough: float, norm: str, dual: int
) -> None:
    model, x = Linear(bias=5), images(6)
    labels = model(x).argmax(1)
    margins = nearest(model, x, labels, dual=dual)
    for image in range(len(x)):
        for factor in (0.98, enough):
            one, label = x[image : image + 1], labels[image : image + 1]
            epsilon = factor * margins[image].item()
            found = make(norm=norm, steps=40).run(
                target(model), one, Misclassification(label), epsilon=epsilon
            )
            assert fooled(model, found, label).item() == (factor > 1), (image, factor)
            assert BALLS[norm].distance(one, found).item() <= epsilon * (1 + 1e-5) + 1e-7


def test_apgd_reaches_a_target() -> None:
    model, x = Linear(), images(8)
    goal = (model(x).argmax(1) + 2) % CLASSES
    for attack in (APGD(steps=20), TargetedAPGD(steps=20)):
        found = attack.run(target(model), x, TargetedMisclassification(goal), epsilon=0.2)
        assert torch.equal(model(found).argmax(1), goal)


def plain_apgd(
    model: nn.Module, x: Tensor, label: Tensor, start: Tensor, *, epsilon: float, steps: int
) -> Tensor:
    """Algorithm 1 of Croce & Hein 2020 on one image, linf and cross-entropy, written down step by step."""

    def value(at: Tensor) -> tuple[float, Tensor]:
        at = at.clone().requires_grad_()
        loss = our_cross_entropy(model(at), label).sum()
        return loss.item(), torch.autograd.grad(loss, at)[0].sign()

    def inside(at: Tensor) -> Tensor:
        return (x + (at - x).clamp(-epsilon, epsilon)).clamp(0, 1)

    points, eta = [inside(x + start)], 2 * epsilon
    f, sign = value(points[0])
    values, signs = [f], [sign]
    top, top_at = f, 0
    last, eta_last, top_last = 0, eta, f
    for k in range(steps):
        if k in checkpoints(steps):
            rises = sum(values[i + 1] > values[i] for i in range(last, k))
            unchanged = eta == eta_last and top == top_last
            few = rises < 0.75 * (k - last)
            last, eta_last, top_last = k, eta, top
            if few or unchanged:
                eta = eta / 2
                points[-1], values[-1], signs[-1] = points[top_at], values[top_at], signs[top_at]
        z = inside(points[-1] + eta * signs[-1])
        if k > 0:
            z = inside(points[-1] + 0.75 * (z - points[-1]) + 0.25 * (points[-1] - points[-2]))
        points.append(z)
        f, sign = value(z)
        values.append(f)
        signs.append(sign)
        if f > top:
            top, top_at = f, k + 1
    return points[top_at]


def test_apgd_halves_and_restarts_as_the_algorithm_says() -> None:
    model, x = Waves(), images(6)
    labels = torch.zeros(6, dtype=torch.int64)
    attack = APGD(steps=60, seed=4)
    found = attack.run(target(model), x, Misclassification(labels), epsilon=0.1)
    for image in range(6):
        start = random_numbers.uniforms(
            x[0].numel(),
            stream=random_numbers.APGD,
            seed=4,
            draw=0,
            samples=range(image, image + 1),
            device=CPU,
        )
        one, label = x[image : image + 1], labels[:1]
        wanted = plain_apgd(model, one, label, (2 * start.view_as(one) - 1) * 0.1, epsilon=0.1, steps=60)
        torch.testing.assert_close(found[image : image + 1], wanted, rtol=0, atol=1e-6)


def test_apgd_is_at_or_below_pgd_on_a_bundled_model() -> None:
    data = datasets.load("cifar10-sample").take(12)
    model = zoo.load("fp32", dataset=data, device=CPU).module
    x, labels = data.pixels(slice(0, 12)), data.labels
    left = {}
    for attack in (APGD(steps=20), APGD(steps=20, loss="dlr"), LinfPGD(steps=20, rel_stepsize=0.1)):
        torch.manual_seed(0)
        found = attack.run(target(model), x.clone(), Misclassification(labels), epsilon=1 / 255)
        left[str(attack)] = int((~fooled(model, found, labels)).sum())
    *ours, pgd = left.values()
    assert max(ours) <= pgd
    assert min(ours) < int((~fooled(model, x, labels)).sum())


# Bands


@pytest.mark.parametrize("compression", [0.0, 0.48, 0.84, 0.99])
def test_a_band_is_what_the_first_layer_keeps(compression: float) -> None:
    edge = math.sqrt(1 - compression)
    kept = kept_frequencies(128, compression)  # of a transform of 128 points, for 32 padded to 34
    mask = SpectralBand(0, edge).mask(32, 32, device=CPU)
    for row in range(32):
        for column in range(17):
            inside = 4 * min(row, 32 - row) < kept and 4 * column < kept
            assert mask[row, column].item() == inside
    if compression:
        rest = SpectralBand(edge, 1).mask(32, 32, device=CPU)
        assert torch.equal(rest, ~mask)


def test_projection_keeps_waves_of_the_band_and_removes_others() -> None:
    mask = SpectralBand(0.3, 0.6).mask(16, 16, device=CPU)
    y, x = np.mgrid[:16, :16] / 16
    for frequency, stays in [
        ((0, 1), False),
        ((2, 2), False),
        ((4, 0), True),
        ((-1, 4), True),
        ((7, 3), False),
    ]:
        wave = torch.from_numpy(np.cos(2 * np.pi * (frequency[0] * y + frequency[1] * x) + 0.4)).float()
        wanted = wave if stays else torch.zeros_like(wave)
        torch.testing.assert_close(project(wave[None, None], mask)[0, 0], wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("norm", "foolbox"), [("linf", LinfPGD), ("l2", L2PGD)])
def test_the_full_band_is_pgd(norm: str, foolbox: Any) -> None:
    model, x = Waves(), images(5)
    labels = torch.tensor([0, 0, 0, 1, 2])
    start = random_numbers.uniforms(
        x[0].numel(), stream=random_numbers.BAND_PGD, seed=7, draw=2, samples=range(5), device=CPU
    )
    delta = BALLS[norm].start(start.view_as(x), 0.3)

    class Started(foolbox):  # type: ignore[misc]
        def get_random_start(self, x0: Any, epsilon: float) -> Any:
            return x0 + type(x0)(delta)

    for bounds in ((0.0, 1.0), (0.4, 0.62)):
        x = x.clamp(*bounds)
        at = target(model, bounds)
        wanted = Started(steps=9, rel_stepsize=0.2).run(at, x, Misclassification(labels), epsilon=0.3)
        ours = BandPGD(norm=norm, steps=9, rel_stepsize=0.2, seed=7)
        assert torch.equal(ours.run(at, x, Misclassification(labels), epsilon=0.3, draw=2), wanted)


def test_one_whole_step_without_a_random_start_is_fgsm() -> None:
    model, x = Linear(), images(5)
    labels = model(x).argmax(1)
    wanted = FGSM().run(target(model), x, Misclassification(labels), epsilon=0.03)
    one = BandPGD(steps=1, rel_stepsize=1.0, random_start=False)
    assert torch.equal(one.run(target(model), x, Misclassification(labels), epsilon=0.03), wanted)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize(("low", "high"), [(0.0, 0.4), (0.4, 0.7), (0.7, 1.0)])
def test_a_band_attack_stays_in_its_band_and_its_ball(norm: str, low: float, high: float) -> None:
    model, x = Linear(), images(5)
    labels = model(x).argmax(1)
    attack = BandPGD(norm=norm, low=low, high=high, steps=10, rel_stepsize=0.2)
    delta = attack.run(target(model), x, Misclassification(labels), epsilon=0.1) - x  # no bound is near
    assert BALLS[norm].distance(x, x + delta).max().item() <= 0.1 * (1 + 1e-5)
    frequency = np.abs(np.fft.fftfreq(8) * 8)
    larger = np.maximum(frequency[:, None], frequency[None])
    size = 32  # of the transform for 8 points padded to 10
    first, last = (int((size // 2 + 1) * edge) for edge in (low, high))
    inside = (larger * size / 8 >= first) & (larger * size / 8 < last)
    energy = np.abs(np.fft.fft2(delta.double().numpy())) ** 2
    assert energy[..., ~inside].sum() < 1e-10 * energy.sum()
    assert energy[..., inside].sum() > 0
    raised = cross_entropy(model(x + delta), labels) - cross_entropy(model(x), labels)
    assert raised.item() > 0


# NewtonFool and the virtual adversarial direction


def test_newtonfools_step_is_the_papers() -> None:
    model, x = Linear(0.2), images(6)
    labels = model(x).argmax(1)
    for stepsize in (1e-4, 10.0):  # the first and the second of the two lengths
        w, b, at = model.w.double(), model.b.double(), (x.double() - 0.5).flatten(1)
        p = (at @ w.T + b).softmax(1)
        own = p.gather(1, labels[:, None])
        g = own * (w[labels] - p @ w)
        norm = g.norm(dim=1, keepdim=True)
        size = x.double().flatten(1).norm(dim=1, keepdim=True)
        delta = torch.minimum(stepsize * size * norm, own - 1 / CLASSES)
        wanted = -delta * g / norm**2
        problem = Problem.of(target(model), x, Misclassification(labels))
        step, _ = NewtonFool()._step(problem, x, torch.arange(6), (stepsize * size[:, 0]).float())
        torch.testing.assert_close(step.flatten(1).double(), wanted, rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("gain", [1.0, 1e3])
def test_newtonfool_fools_however_sure_the_network_is(gain: float) -> None:
    model, x = Linear(gain), images(6)
    labels = model(x).argmax(1)
    margins = nearest(model, x, labels, dual=2)
    found = NewtonFool().run(target(model), x, Misclassification(labels))
    assert fooled(model, found, labels).all()
    length = (found - x).flatten(1).norm(dim=1)
    assert (length >= margins * (1 - 1e-4)).all()
    # Steps are at most 0.01 |x| long, and towards the nearest classes' mixture.
    assert (length <= 3 * margins + 0.01 * x.flatten(1).norm(dim=1)).all()


@pytest.mark.parametrize("gap", [0.0, 3.0, 60.0])
def test_change_is_the_difference_of_softmaxes(gap: float) -> None:
    source = torch.Generator().manual_seed(0)
    clean = torch.randn(4, CLASSES, generator=source)
    clean[:, 2] += 4 + gap
    moved = clean + 0.3 * torch.randn(4, CLASSES, generator=source)
    p = clean.double().softmax(1)
    rest = p.clone()
    rest[:, 2] = 0
    # In double precision the difference cancels too: p_t's is minus the sum of the others'.
    wanted = (moved.double().softmax(1) - p).clone()
    wanted[:, 2] = 0
    wanted[:, 2] = -wanted.sum(1)
    wanted = wanted / rest.sum(1, keepdim=True)
    torch.testing.assert_close(change(clean, moved).double(), wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("bias", [0.0, 20.0])
def test_vat_finds_the_main_direction_of_the_fisher_matrix(bias: float) -> None:
    model, x = Linear(0.3, bias), images(3)
    labels = model(x).argmax(1)
    found = VAT(steps=60, xi=0.01).run(target(model), x, Misclassification(labels), epsilon=0.1)
    delta = (found - x).flatten(1).double()
    assert delta.norm(dim=1).tolist() == pytest.approx([0.1] * 3, rel=1e-4)
    w = model.w.double()
    for image in range(3):
        p = model(x[image : image + 1]).double().softmax(1)[0]
        fisher = w.T @ (torch.diag(p) - torch.outer(p, p)) @ w
        main = torch.linalg.eigh(fisher).eigenvectors[:, -1]
        assert abs(float(main @ delta[image])) / 0.1 > 0.98


# Attacks of the least norm


@pytest.mark.parametrize(
    ("attack", "factor"),
    [
        (L2FMN(steps=100), 1.02),
        (LinfFMN(steps=100), 1.02),
        (L1FMN(steps=200), 1.1),
        (DDNAttack(steps=100), 1.02),
        (L2DeepFool(), 1.03),
        (LinfDeepFool(), 1.08),
        (CarliniWagner(binary_search_steps=6, steps=100, initial_const=0.1), 1.1),
    ],
    ids=lambda value: type(value).__name__,
)
def test_least_norms_are_near_the_distance_to_the_hyperplane(attack: Any, factor: float) -> None:
    model, x = Linear(bias=5), images(40)
    labels = model(x).argmax(1)
    norm = {linf: math.inf, l1: 1}.get(attack.distance, 2)
    wanted = nearest(model, x, labels, dual={math.inf: 1, 1: math.inf}.get(norm, 2))
    rows = (wanted > (0.002 if norm == math.inf else 0.02)).nonzero()[
        :6, 0
    ]  # DDN starts at 1 and shrinks by 5 % a step
    x, labels, wanted = x[rows], labels[rows], wanted[rows]
    found = attack.run(target(model), x.clone(), Misclassification(labels))
    length = (found - x).flatten(1).norm(p=norm, dim=1)
    assert (length >= wanted * (1 - 1e-3)).all()
    assert (length <= wanted * factor).all()  # DeepFool goes 1e-4 too far on purpose


def test_l0_keeps_the_largest_changes_and_no_more() -> None:
    delta = torch.tensor([[4.0, -3.0, 2.0, 1.0], [1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 5.0]]).view(3, 1, 2, 2)
    epsilon = torch.tensor([2.0, 4.0, 1.0])
    kept = L0FMN().project(delta, epsilon).flatten(1)
    assert kept.tolist() == [[4, -3, 0, 0], [1, 1, 1, 1], [0, 0, 0, 5]]


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [(LinfFMN(steps=60), LInfFMNAttack(steps=60)), (L1FMN(steps=60), L1FMNAttack(steps=60))],
)
def test_fast_minimum_norm_goes_the_way_of_foolbox_where_that_is_right(ours: Any, theirs: Any) -> None:
    model, x = Linear(bias=5), images(12)
    labels = model(x).argmax(1)
    found = [attack.run(target(model), x.clone(), Misclassification(labels)) for attack in (ours, theirs)]
    lengths = [ours.distance(x, each) for each in found]
    both = [fooled(model, each, labels) for each in found]
    assert both[0].all()
    assert (lengths[0] <= lengths[1] * 1.001)[both[1]].all()


@pytest.mark.parametrize("attack", [L0FMN(steps=50), L1FMN(steps=50), L2FMN(steps=50), LinfFMN(steps=50)])
def test_one_number_without_a_gradient_does_not_stop_the_search(attack: Any) -> None:
    class Cornered(Linear):
        """The root's slope at 0 is infinite, times that of the square, which is 0: NaN."""

        def forward(self, pixels: Tensor) -> Tensor:
            first = pixels.flatten(1)[:, :1]
            return super().forward(pixels) + (first - first.detach()).square().sqrt()

    model, x = Cornered(bias=5), images(20)
    labels = model(x).argmax(1)
    found = attack.run(target(model), x.clone(), Misclassification(labels))
    assert found.isfinite().all()
    assert fooled(model, found, labels).float().mean() >= 0.8


def test_l0_finds_few_numbers() -> None:
    model, x = Linear(), images(6)
    labels = model(x).argmax(1)
    found = L0FMN(steps=100).run(target(model), x, Misclassification(labels))
    assert fooled(model, found, labels).all()
    count = (found != x).flatten(1).sum(1)
    logits, w = model(x), model.w
    for image in range(6):  # the greedy choice for each class is the least there is
        best = math.inf
        for other in range(CLASSES):
            if other != labels[image]:
                direction = w[other] - w[labels[image]]
                at = x[image].flatten()
                gains = torch.where(direction > 0, direction * (1 - at), -direction * at)
                gap = logits[image, labels[image]] - logits[image, other]
                sums = gains.sort(descending=True).values.cumsum(0)
                best = min(best, int((sums <= gap).sum()) + 1)
        assert best <= count[image].item() <= 3 * best


@pytest.mark.parametrize(
    ("ours", "theirs", "settings"),
    [
        (L2DeepFool, L2DeepFoolAttack, {"steps": 3}),
        (L2DeepFool, L2DeepFoolAttack, {"steps": 20, "candidates": 3, "loss": "crossentropy"}),
        (LinfDeepFool, LinfDeepFoolAttack, {"steps": 20, "candidates": None, "overshoot": 0.1}),
        (CarliniWagner, L2CarliniWagnerAttack, {"steps": 30, "abort_early": False}),
        (CarliniWagner, L2CarliniWagnerAttack, {"steps": 12, "binary_search_steps": 11, "confidence": 0.3}),
    ],
)
def test_the_faster_forms_go_the_way_of_foolbox(ours: Any, theirs: Any, settings: dict[str, Any]) -> None:
    model, x = Bent(), images(7)
    labels = model(x).argmax(1)
    if ours is CarliniWagner:
        settings = {"binary_search_steps": 4, "initial_const": 0.01, **settings}
    found = ours(**settings).run(target(model), x.clone(), Misclassification(labels))
    assert fooled(model, found, labels).any()
    # One by one, as Foolbox's loss is that of the batch.
    for image in range(7):
        alone = slice(image, image + 1)
        wanted = theirs(**settings).run(target(model), x[alone].clone(), Misclassification(labels[alone]))
        wanted = torch.where(wanted.flatten(1).any(1).view(-1, 1, 1, 1), wanted, x[alone])
        torch.testing.assert_close(found[alone], wanted, rtol=0, atol=2e-5)


def test_carlini_and_wagner_reach_a_target_with_confidence() -> None:
    model, x = Linear(), images(6)
    targets = (model(x).argmax(1) + 1) % CLASSES
    attack = CarliniWagner(binary_search_steps=8, steps=150, initial_const=0.1, confidence=0.5)
    found = attack.run(target(model), x.clone(), TargetedMisclassification(targets))
    logits = model(found)
    own = logits.gather(1, targets[:, None])[:, 0]
    rest = logits.scatter(1, targets[:, None], -math.inf).amax(1)
    assert (own - rest >= 0.5 - 1e-4).all()


def test_deepfool_leaves_alone_what_is_fooled() -> None:
    """It runs forwards for those that are left only, and once for all classes."""
    model, x = CountingModel(Bent(), PIXELS), images(7)
    labels = model.model(x).argmax(1)
    L2DeepFool(steps=20, candidates=CLASSES).run(target(model), x, Misclassification(labels))
    steps = model.backwards // (CLASSES - 1)
    assert model.backwards == steps * (CLASSES - 1)
    assert model.forwards == 7 + 2 * steps  # at first, and in each step once for the slopes and once to look
    assert steps < 7 * 20


def test_carlini_and_wagner_take_gradients_in_any_layout(device: str) -> None:
    class Last(Linear):
        def forward(self, pixels: Tensor) -> Tensor:
            w, b = self.w.to(pixels), self.b.to(pixels)
            seen = pixels.contiguous(memory_format=torch.channels_last)
            return (seen.flatten(1) - 0.5) @ w.T + b

    at = PyTorchModel(Last(), bounds=(0, 1), device=torch.device(device))
    x = images(4).to(device)
    labels = Last()(x).argmax(1)
    for given in (x, x.contiguous(memory_format=torch.channels_last), x.mT.contiguous().mT):
        found = CarliniWagner(binary_search_steps=4, steps=40).run(at, given, Misclassification(labels))
        assert (Last()(found).argmax(1) != labels).all()


def test_deepfool_refuses_what_foolbox_refuses() -> None:
    x, labels = images(2), torch.zeros(2, dtype=torch.int64)
    unknown: Any = "nonsense"
    for attack in (L2DeepFool(loss=unknown), LinfDeepFool(candidates=1)):
        with pytest.raises(ValueError, match="legal: logits, crossentropy, and 2 classes or more"):
            attack.run(target(Linear()), x, Misclassification(labels))


@pytest.mark.parametrize("attack", [APGD(steps=5, norm="l2"), NewtonFool(steps=5), VAT(), L2FMN(steps=9)])
def test_float64_is_taken_as_it_is(attack: Any) -> None:
    class Double(Linear):
        def forward(self, pixels: Tensor) -> Tensor:
            return ((pixels.flatten(1) - 0.5)[:, None] * self.w.double()).sum(2)

    x = images(3).double()
    keys = {"epsilon": 0.1} if not isinstance(attack, NewtonFool | L2FMN) else {}
    found = attack.run(target(Double()), x, Misclassification(Double()(x).argmax(1)), **keys)
    assert found.dtype == torch.float64


@pytest.mark.parametrize("attack", [CarliniWagner, EAD])
def test_nothing_found_is_the_input_and_not_a_black_image(attack: Any) -> None:
    x = images(3)
    found = attack(binary_search_steps=2, steps=5).run(
        target(Constant()), x.clone(), Misclassification(torch.zeros(3, dtype=torch.int64))
    )
    assert torch.equal(found, x)


# All of them

FIXED = [
    APGD(steps=12),
    APGD(steps=12, norm="l2", restarts=2),
    APGD(steps=12, loss="dlr"),
    TargetedAPGD(steps=12, targets=2),
    BandPGD(steps=5, high=0.5),
    BandPGD(steps=5, norm="l2", low=0.3),
    VAT(),
    SparseL1Descent(steps=5),
    SparseL1Descent(steps=5, random_start=True),
]
KEYED = {repr(attack): attack for attack in FIXED}
OURS: dict[str, Any] = {
    **KEYED,
    "NewtonFool": NewtonFool(steps=15),
    "L2DeepFool": L2DeepFool(steps=5),
    "LinfDeepFool": LinfDeepFool(steps=5),
    "CarliniWagner": CarliniWagner(binary_search_steps=4, steps=20, initial_const=0.1),
}
UNTARGETED = ("NewtonFool", repr(VAT()), "L2DeepFool", "LinfDeepFool")


def strength(attack: Any) -> dict[str, float]:
    return {"epsilon": 0.02} if attack in FIXED else {}


@pytest.mark.parametrize("name", OURS)
def test_the_batch_does_not_matter(name: str) -> None:
    attack, model, x = OURS[name], Linear(), images(5)
    labels = model(x).argmax(1)
    keys: dict[str, Any] = {"draw": 1} if name in KEYED else {}
    at = target(model)
    samples = {"samples": (4, 9, 2, 30, 31)} if name in KEYED else {}
    whole = attack.run(at, x, Misclassification(labels), **strength(attack), **keys, **samples)
    for image in range(5):
        samples = {"samples": (4, 9, 2, 30, 31)[image : image + 1]} if name in KEYED else {}
        one = attack.run(
            at,
            x[image : image + 1],
            Misclassification(labels[image : image + 1]),
            **strength(attack),
            **keys,
            **samples,
        )
        torch.testing.assert_close(whole[image : image + 1], one, rtol=0, atol=1e-6)
    again = attack.run(
        at,
        x,
        Misclassification(labels),
        **strength(attack),
        **keys,
        **({"samples": (4, 9, 2, 30, 31)} if name in KEYED else {}),
    )
    assert torch.equal(whole, again)


@pytest.mark.parametrize("name", OURS)
def test_no_gradient_is_no_reason_for_nan(name: str) -> None:
    attack, x = OURS[name], images(3)
    labels = torch.zeros(3, dtype=torch.int64)
    found = attack.run(target(Constant()), x, Misclassification(labels), **strength(attack))
    assert found.isfinite().all()
    assert not fooled(Constant(), found, labels).any()


@pytest.mark.parametrize("name", OURS)
def test_images_come_back_as_they_are_given(name: str) -> None:
    """Foolbox's `__call__` wraps them in tensors of eagerpy."""
    attack, model, x = OURS[name], target(Linear()), images(2)
    criterion = Misclassification(Linear()(x).argmax(1))
    plain = attack.run(model, x, criterion, **strength(attack))
    wrapped = attack.run(model, eagerpy.astensor(x), criterion, **strength(attack))
    assert isinstance(wrapped, eagerpy.PyTorchTensor)
    assert torch.equal(wrapped.raw, plain)


@pytest.mark.parametrize("name", OURS)
def test_what_cannot_be_raises(name: str) -> None:
    attack, x, model = OURS[name], images(3), target(Linear())
    labels = torch.zeros(3, dtype=torch.int64)
    keys = strength(attack)
    with pytest.raises(TypeError, match="colour"):
        attack.run(model, x, Misclassification(labels), colour=1, **keys)
    with pytest.raises(ValueError, match=r"got images from -.*; legal: the model's bounds, 0 to 1"):
        attack.run(model, x - 1, Misclassification(labels), **keys)
    with pytest.raises(ValueError, match=r"shape \(2,\) for 3 images"):
        attack.run(model, x, Misclassification(labels[:2]), **keys)
    with pytest.raises(TypeError, match="torch tensor"):
        attack.run(model, x.numpy(), Misclassification(labels), **keys)
    if name in UNTARGETED:
        with pytest.raises(ValueError, match="TargetedMisclassification; legal: Misclassification"):
            attack.run(model, x, TargetedMisclassification(labels), **keys)


def test_dlr_needs_three_classes_and_no_target() -> None:
    class Two(Linear):
        def forward(self, pixels: Tensor) -> Tensor:
            return super().forward(pixels)[:, :2]

    x, labels = images(2), torch.zeros(2, dtype=torch.int64)
    with pytest.raises(ValueError, match=r"got a model of 2 classes; .*: at least 3"):
        APGD(loss="dlr").run(target(Two()), x, Misclassification(labels), epsilon=0.1)
    with pytest.raises(ValueError, match=r"got a model of 2 classes; .*: at least 4"):
        TargetedAPGD().run(target(Two()), x, Misclassification(labels), epsilon=0.1)
    with pytest.raises(
        ValueError, match="TargetedMisclassification; legal for the loss dlr: Misclassification"
    ):
        APGD(loss="dlr").run(target(Linear()), x, TargetedMisclassification(labels), epsilon=0.1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: APGD(norm="l7"), "got norm='l7'; legal: linf, l2"),
        (lambda: APGD(loss="cw"), "got loss='cw'; legal: ce, dlr"),
        (lambda: APGD(steps=0), "got steps=0; legal: whole numbers from 1"),
        (lambda: TargetedAPGD(targets=0), "got targets=0"),
        (lambda: BandPGD(low=0.5, high=0.5), "got low=0.5, high=0.5; legal: 0 <= low < high <= 1"),
        (lambda: BandPGD(rel_stepsize=0.0), "got rel_stepsize=0.0; legal: numbers above 0"),
        (lambda: NewtonFool(stepsize=-1.0), "got stepsize=-1.0; legal: numbers above 0"),
        (lambda: SparseL1Descent(quantile=1.0), "got quantile=1.0; legal: numbers from 0, below 1"),
        (lambda: VAT(xi=0.0), "got xi=0.0; legal: numbers above 0"),
        (lambda: L1FMN(gamma=1.5), "got gamma=1.5; legal: numbers above 0, below 1"),
    ],
)
def test_illegal_parameters_name_themselves(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_a_band_without_a_frequency_raises() -> None:
    with pytest.raises(
        ValueError, match=r"got low=0\.1, high=0\.2, between which images of 4 x 4 have no frequency"
    ):
        SpectralBand(0.1, 0.2).mask(4, 4, device=CPU)


@pytest.mark.parametrize("value", [0.1, 0.3, 0.7, 0.97])
def test_what_rounding_adds_on_a_flat_image_is_taken_off(value):
    """Every number of x + delta is rounded alike, so the norm is off by the root of their count."""
    origin = torch.full((200, 3, 32, 32), value)
    radii = torch.linspace(0.05, 0.3, 200, dtype=torch.float64)
    for norm, order in (("l2", 2), ("linf", torch.inf)):
        ball = BALLS[norm]
        steps = radii / math.sqrt(3072) if norm == "l2" else radii
        beyond = 0
        for row, (radius, step) in enumerate(zip(radii.tolist(), steps.tolist(), strict=True)):
            x = origin[row : row + 1]
            found = ball.settle((x + step).clamp(0, 1), x, radius)
            before = float(((x + step).clamp(0, 1).double() - x.double()).flatten().norm(p=order))
            after = float((found.double() - x.double()).flatten().norm(p=order))
            beyond += before > radius * (1 + 1e-6) + 2**-24
            assert after <= radius * (1 + 1e-6) + 2**-24
            assert after >= before - 4 * 2**-24 * math.sqrt(3072) * value
        assert (beyond > 0) == (norm == "l2")


@pytest.mark.parametrize("attack", [APGD(steps=7), TargetedAPGD(targets=2), BandPGD(low=0.1), VAT(steps=3)])
def test_repr_is_the_call_that_builds_it(attack):
    assert repr(eval(repr(attack))) == repr(attack)
    assert "=7" in repr(APGD(steps=7))


@pytest.mark.parametrize(
    ("attack", "order", "dual"), [(L2FMN(steps=60), 2, 2), (L1FMN(steps=60), 1, math.inf)]
)
def test_fast_minimum_norm_arrives_where_most_pixels_lie_at_a_bound(attack, order, dual):
    model = Linear(bias=5)
    x = (images(40) > 0.5).float()
    labels = model(x).argmax(1)
    found = attack.run(target(model), x.clone(), Misclassification(labels))
    got = fooled(model, found, labels)
    assert got.float().mean() >= 0.9
    # No nearer than if no pixel were at a bound.
    length = (found - x).flatten(1).norm(p=order, dim=1)
    assert (length >= nearest(model, x, labels, dual=dual) * (1 - 1e-3))[got].all()


def test_what_settles_does_not_depend_on_the_other_images():
    dark, white = torch.full((1, 3, 32, 32), 0.1), torch.ones(1, 3, 32, 32)
    both = torch.cat([dark, white])
    found = (both + 0.3 * torch.tensor([1.0, -1.0]).view(2, 1, 1, 1)).clamp(0, 1)
    epsilon = 0.3 * math.sqrt(3072) * (1 - 2e-6)
    alone = BALLS["l2"].settle(found[:1], dark, epsilon)
    assert not torch.equal(alone, found[:1])
    assert torch.equal(BALLS["l2"].settle(found, both, epsilon)[:1], alone)
