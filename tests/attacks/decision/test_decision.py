"""Attacks that see decisions alone, on models so simple that the answer is known."""

from collections.abc import Callable
from typing import Any

import eagerpy as ep
import foolbox
import numpy as np
import pytest
import scipy.ndimage
import torch
from foolbox.attacks.base import AttackWithDistance, FixedEpsilonAttack, get_is_adversarial
from foolbox.criteria import Criterion, Misclassification, TargetedMisclassification
from foolbox.distances import l2, linf
from torch import Tensor, nn

from blrobust.attacks.building_blocks.distances import PixelDistance, Unmeasured
from blrobust.attacks.building_blocks.first_success import first_fooling
from blrobust.attacks.building_blocks.problem import Problem
from blrobust.attacks.decision.blended_uniform import BlendedUniformAttack
from blrobust.attacks.decision.blur import GaussianBlurAttack
from blrobust.attacks.decision.boundary import BoundaryAttack, HopSkipJumpAttack
from blrobust.attacks.decision.brendel_bethge import L2BrendelBethgeAttack, LinfBrendelBethgeAttack
from blrobust.attacks.decision.contrast import ContrastReductionAttack, InversionAttack
from blrobust.attacks.decision.pointwise import PointwiseAttack, restored
from blrobust.attacks.decision.single_pixel import SinglePixelAttack
from blrobust.attacks.decision.spatial import (
    RandomSpatialAttack,
    RotationAttack,
    SpatialAttack,
    TranslationAttack,
    move,
)
from blrobust.attacks.noise import additive_noise
from blrobust.errors import UserError
from blrobust.perturbations import random_numbers

SIZE = 6
CPU = torch.device("cpu")
UNIT = (0.0, 1.0)
LEGACY = (-2.4290657, 2.7537313)


class Threshold(nn.Module):
    """Class 1 where ``measure`` of an image is above ``limit``, else 0; class 2 never."""

    def __init__(self, measure: Callable[[Tensor], Tensor], limit: float) -> None:
        super().__init__()
        self.measure = measure
        self.limit = limit
        self.seen = 0
        self.eval()

    def forward(self, pixels: Tensor) -> Tensor:
        self.seen += len(pixels)
        margin = self.measure(pixels) - self.limit
        return torch.stack([-margin, margin, torch.full_like(margin, -9.0)], dim=1)


def mean(pixels: Tensor) -> Tensor:
    return pixels.mean(dim=(1, 2, 3))


def deviation(pixels: Tensor) -> Tensor:
    return pixels.std(dim=(1, 2, 3), correction=0)


class Weights(nn.Module):
    """A random linear classifier of three classes, in float64: no batch changes its answers."""

    def __init__(self, seed: int = 0, size: int = SIZE) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.weights = torch.randn(3, 3 * size * size, generator=generator, dtype=torch.float64)
        self.eval()

    def forward(self, pixels: Tensor) -> Tensor:
        return ((pixels.flatten(1).double() - 0.5) @ self.weights.T).float()


def target(model: nn.Module, bounds: tuple[float, float] = UNIT) -> foolbox.PyTorchModel:
    return foolbox.PyTorchModel(model, bounds=bounds, device=CPU)


def random_images(batch: int, size: int = SIZE, seed: int = 1) -> Tensor:
    return torch.rand(batch, 3, size, size, generator=torch.Generator().manual_seed(seed))


def grey(*values: float) -> Tensor:
    """Images of one value each."""
    return torch.tensor(values).view(-1, 1, 1, 1).expand(-1, 3, SIZE, SIZE).clone()


def labels_of(model: nn.Module, images: Tensor) -> Tensor:
    with torch.no_grad():
        labels: Tensor = model(images).argmax(1)
    return labels


def attacked(attack: Any, model: nn.Module, images: Tensor, **options: Any) -> Tensor:
    """What the attack makes of images that the model classifies correctly."""
    torch.manual_seed(0)
    criterion = Misclassification(labels_of(model, images))
    found = attack.run(target(model), images.clone(), criterion, **options)
    assert isinstance(found, Tensor)
    assert found.isfinite().all()
    assert found.min() >= 0
    assert found.max() <= 1
    return found


# Single pixel


def single_pixel_answers(model: nn.Module, image: Tensor) -> set[tuple[int, float]]:
    """Every (pixel, value) that fools the model, by trying each alone."""
    label = labels_of(model, image.unsqueeze(0))
    answers = set()
    for pixel in range(SIZE * SIZE):
        for value in UNIT:
            changed = image.clone()
            changed[:, pixel // SIZE, pixel % SIZE] = value
            if labels_of(model, changed.unsqueeze(0)) != label:
                answers.add((pixel, value))
    return answers


def test_single_pixel_agrees_with_brute_force() -> None:
    model, images = Weights(), random_images(40)
    found = attacked(SinglePixelAttack(), model, images)
    answers = [single_pixel_answers(model, image) for image in images]
    assert 5 < sum(map(bool, answers)) < 35
    for image, changed, legal in zip(images, found, answers, strict=True):
        if not legal:
            assert torch.equal(image, changed)
            continue
        (place,) = (image != changed).any(dim=0).nonzero().tolist()
        values = changed[:, *place].unique()
        assert len(values) == 1
        assert (place[0] * SIZE + place[1], values.item()) in legal


def test_single_pixel_returns_the_first_of_its_order() -> None:
    model, images = Weights(), random_images(20)
    found = attacked(SinglePixelAttack(seed=3), model, images, draw=2, samples=range(7, 27))
    for row, (image, changed) in enumerate(zip(images, found, strict=True)):
        source = random_numbers.generator(stream=random_numbers.SINGLE_PIXEL, seed=3, draw=2, sample=7 + row)
        order = source.random(SIZE * SIZE, dtype=np.float32).argsort(kind="stable")
        legal = single_pixel_answers(model, image)
        first = next(((p, v) for p in order.tolist() for v in UNIT if (p, v) in legal), None)
        expected = image.clone()
        if first is not None:
            expected.flatten(1)[:, first[0]] = first[1]
        assert torch.equal(changed, expected)


def test_single_pixel_finds_the_one_pixel_that_matters() -> None:
    model = Threshold(lambda pixels: pixels[:, :, 2, 4].amin(dim=1), 0.9)
    images = grey(0.2, 0.8, 0.95)
    found = attacked(SinglePixelAttack(), model, images)
    assert found[0, :, 2, 4].tolist() == found[1, :, 2, 4].tolist() == [1, 1, 1]
    assert found[2, :, 2, 4].tolist() == [0, 0, 0]
    assert PixelDistance()(images, found).tolist() == [1, 1, 1]


def test_single_pixel_asks_no_more_than_it_was_allowed() -> None:
    model, images = Threshold(mean, 2.0), grey(0.5, 0.5)
    labels_of(model, images)
    model.seen = 0
    SinglePixelAttack(pixels=5).run(target(model), images, Misclassification(torch.zeros(2).long()))
    assert model.seen == 2 * 2 * 5


# Contrast, inversion, blur


@pytest.mark.parametrize("bounds", [UNIT, LEGACY])
@pytest.mark.parametrize("epsilon", [0, 0.3, 1, 2, 2.8])
def test_contrast_moves_towards_the_middle(bounds: tuple[float, float], epsilon: float) -> None:
    lower, upper = bounds
    images = lower + (upper - lower) * random_images(3)
    found = ContrastReductionAttack().run(target(Weights(), bounds), images, None, epsilon=epsilon)
    expected = (1 - epsilon) * images.numpy() + epsilon * (lower + upper) / 2
    np.testing.assert_allclose(found.numpy(), expected.clip(lower, upper), atol=1e-6)


def test_contrast_falls_by_the_share_asked_for() -> None:
    images = random_images(4)
    model = Threshold(deviation, 0.6 * float(deviation(images).max()))
    for towards, grey_of in (("middle", torch.full((4,), 0.5)), ("mean", mean(images))):
        found = attacked(ContrastReductionAttack(towards=towards), model, images, epsilon=0.4001)  # type: ignore[arg-type]
        torch.testing.assert_close(deviation(found), 0.5999 * deviation(images))
        torch.testing.assert_close(mean(found), 0.5999 * mean(images) + 0.4001 * grey_of)
        assert labels_of(model, found).sum() == 0


def test_inversion_is_the_negative_and_its_own_inverse() -> None:
    images = (random_images(3) * 255).round() / 255
    found = attacked(InversionAttack(), Weights(), images)
    assert torch.equal(found, 1 - images)
    distances = linf(images, found)
    torch.testing.assert_close(distances, (1 - 2 * images).abs().flatten(1).amax(1))


@pytest.mark.parametrize("shape", [(6, 6), (8, 5), (32, 32)])
@pytest.mark.parametrize("epsilon", [0, 0.003, 0.05, 0.3, 1])
def test_blur_agrees_with_scipy(shape: tuple[int, int], epsilon: float) -> None:
    images = torch.rand(2, 3, *shape, generator=torch.Generator().manual_seed(1))
    found = GaussianBlurAttack().run(target(nn.Identity().eval()), images, None, epsilon=epsilon)
    sigma = epsilon * max(shape)
    expected = scipy.ndimage.gaussian_filter(images.double().numpy(), (0, 0, sigma, sigma))
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-6)


# Rotation and translation


@pytest.mark.parametrize("shape", [(6, 6), (7, 5), (28, 28), (32, 32)])
@pytest.mark.parametrize(("right", "down"), [(0, 0), (2, 0), (0, -3), (-1, 4)])
def test_whole_pixels_are_exact(shape: tuple[int, int], right: int, down: int) -> None:
    height, width = shape
    images = torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(1))
    found = move(images, torch.zeros(2), torch.full((2,), right), torch.full((2,), down), fill=0.0)
    padded = nn.functional.pad(images, (5, 5, 5, 5))
    expected = padded.roll((down, right), dims=(2, 3))[:, :, 5 : 5 + height, 5 : 5 + width]
    assert torch.equal(found, expected)


@pytest.mark.parametrize("degrees", [-40.0, 3.0, 90.0, 180.0])
def test_rotation_agrees_with_scipy(degrees: float) -> None:
    images = random_images(2, size=9)
    zero = torch.zeros(2)
    found = move(images, zero + degrees, zero, zero, fill=0.0)
    padded = np.pad(images.numpy(), ((0, 0), (0, 0), (4, 4), (4, 4)))
    expected = scipy.ndimage.rotate(padded, degrees, axes=(2, 3), reshape=False, order=1)
    np.testing.assert_allclose(found.numpy(), expected[:, :, 4:-4, 4:-4], atol=1e-5)


def test_it_turns_first_and_shifts_then() -> None:
    images, zero = random_images(1), torch.zeros(1)
    quarter = move(images, zero + 90, zero, zero, fill=0.0)
    both = move(images, zero + 90, zero + 2, zero - 1, fill=0.0)
    torch.testing.assert_close(both, move(quarter, zero, zero + 2, zero - 1, fill=0.0), atol=1e-5, rtol=0)


def test_what_comes_in_is_zero_or_the_nearest_bound() -> None:
    for bounds, fill in ((UNIT, 0.0), (LEGACY, 0.0), ((0.25, 1.0), 0.25), ((-2.0, -1.0), -1.0)):
        value = bounds[1] - 0.125
        model = Threshold(lambda pixels, v=value: (pixels[:, 0, 0, 0] - v).abs(), 0.0625)  # type: ignore[misc]
        labels = torch.zeros(1, dtype=torch.int64)
        found = TranslationAttack(shifts=3).run(target(model, bounds), grey(value), labels, epsilon=1)
        assert found[0, 0, 0, 0] == fill


def grid_of_moves(limit: float, counts: tuple[int, int]) -> list[tuple[float, float, float]]:
    angles, shifts = (np.linspace(-1, 1, count) if count > 1 else np.zeros(1) for count in counts)
    return [(limit * a, limit * r, limit * d) for a in angles for r in shifts for d in shifts]


@pytest.mark.parametrize(
    ("attack", "counts", "limits"),
    [
        (RotationAttack(angles=7), (7, 1), (40.0, 0.0)),
        (TranslationAttack(shifts=5), (1, 5), (0.0, 2.0)),
        (SpatialAttack(angles=3, shifts=3), (3, 3), (30.0, 3.0)),
    ],
)
def test_the_grid_is_searched_to_its_end(
    attack: FixedEpsilonAttack, counts: tuple[int, int], limits: tuple[float, float]
) -> None:
    model, images = Weights(), random_images(12)
    epsilon = 1.0 if isinstance(attack, SpatialAttack) else max(limits)
    found = attacked(attack, model, images, epsilon=epsilon)
    labels = labels_of(model, images)
    for row in range(12):
        expected = images[row]
        for angle, right, down in grid_of_moves(1.0, counts):
            numbers = (angle * limits[0], right * limits[1], down * limits[1])
            moved = move(images[row : row + 1], *(torch.tensor([n]).float() for n in numbers), fill=0.0)
            if labels_of(model, moved) != labels[row]:
                expected = moved[0].clamp(0, 1)
                break
        torch.testing.assert_close(found[row], expected, atol=1e-6, rtol=0)


def test_rotation_by_nothing_changes_nothing() -> None:
    images = random_images(5)
    assert torch.equal(attacked(RotationAttack(), Weights(), images, epsilon=0), images)


def test_random_moves_lie_within_the_limits() -> None:
    """A dot in the middle ends within 3 pixels, a model that calls every move wrong sees the first."""
    images = torch.zeros(60, 3, 13, 13)
    images[:, :, 6, 6] = 1
    model = Threshold(lambda pixels: -pixels[:, 0, 6, 6], -0.999999)
    found = attacked(RandomSpatialAttack(tries=2), model, images, epsilon=1)
    weight = found[:, 0] / found[:, 0].sum(dim=(1, 2), keepdim=True)
    places = torch.arange(13.0) - 6
    down, right = (weight.sum(2) * places).sum(1), (weight.sum(1) * places).sum(1)
    for shift in (down, right):
        assert shift.abs().max() <= 3.05  # the turned grid cuts the dot's edges unevenly
        assert shift.abs().max() > 2.5
        assert abs(shift.mean()) < 5 * 3 / 3**0.5 / 60**0.5


# Starts

DARK, LIMIT = 0.1, 0.2  # grey images of class 0, 1 above; noise is of class 1
NEAREST = (LIMIT - DARK) * (3 * SIZE * SIZE) ** 0.5  # what every pixel must rise by, as an L2 norm


class Nearest:
    """In place of Brendel-Bethge's solver, which takes half a minute to compile.

    The step to the point of the hyperplane that is nearest to the original: exact for a linear model.
    """

    def __init__(self) -> None:
        self.radii: list[float] = []

    def __repr__(self) -> str:
        return "Nearest()"  # without its address: tests are named after it

    def solve(
        self, x0: np.ndarray, x: np.ndarray, b: np.ndarray, low: float, high: float, c: float, r: float
    ) -> np.ndarray:
        self.radii.append(r)
        home = x0.astype(np.float64) - x
        return home + b * (c - b @ home) / (b @ b)


class QuickL2(L2BrendelBethgeAttack):
    def instantiate_optimizer(self) -> Nearest:
        return Nearest()


class QuickLinf(LinfBrendelBethgeAttack):
    def instantiate_optimizer(self) -> Nearest:
        return Nearest()


WALKS: list[Callable[[], Any]] = [
    lambda: BoundaryAttack(steps=400),
    lambda: HopSkipJumpAttack(steps=10, initial_gradient_eval_steps=60),
    lambda: QuickL2(steps=20),
    lambda: QuickLinf(steps=20),
]
NAMES = ["boundary", "hopskipjump", "brendel-bethge-l2", "brendel-bethge-linf"]


@pytest.mark.parametrize("make", WALKS, ids=NAMES)
def test_walks_come_close_to_the_nearest_adversarial(make: Callable[[], Any]) -> None:
    model, images = Threshold(mean, LIMIT), grey(DARK, DARK, DARK)
    found = attacked(make(), model, images)
    assert labels_of(model, found).tolist() == [1, 1, 1]
    assert (l2(images, found) < 1.3 * NEAREST).all()
    assert (l2(images, found) >= NEAREST * (1 - 1e-5)).all()


@pytest.mark.parametrize("make", WALKS, ids=NAMES)
def test_a_sample_without_a_start_stays_and_leaves_the_others(make: Callable[[], Any]) -> None:
    model, images = Threshold(mean, LIMIT), grey(0.08, 0.1, 0.12)

    def run(rows: list[int], targets: list[int]) -> Tensor:
        torch.manual_seed(4)
        criterion = TargetedMisclassification(torch.tensor(targets))
        found = make().run(target(model), images[rows], criterion)
        assert isinstance(found, Tensor)
        return found

    whole = run([0, 1, 2], [1, 2, 1])  # no input is of class 2
    assert torch.equal(whole[1], images[1])
    assert torch.equal(whole[[0, 2]], run([0, 2], [1, 1]))
    assert labels_of(model, whole).tolist() == [1, 0, 1]
    assert torch.equal(run([0, 1], [2, 2]), images[:2])


@pytest.mark.parametrize("make", WALKS, ids=NAMES)
def test_another_image_is_the_start_where_noise_fools_nobody(make: Callable[[], Any]) -> None:
    """Noise is of class 0, as the first two images are; the third is the only one of class 1."""
    model, images = Threshold(mean, 0.7), grey(0.5, 0.6, 0.9)
    found = attacked(make(), model, images)
    assert labels_of(model, found).tolist() == [1, 1, 0]
    alone = attacked(make(), model, images[:2])
    assert torch.equal(alone, images[:2])


def test_hopskipjump_keeps_to_other_bounds() -> None:
    model, images = Threshold(mean, -1.0), grey(-1.5, -1.25)
    attack = HopSkipJumpAttack(steps=5, initial_gradient_eval_steps=40)
    torch.manual_seed(0)
    found = attack.run(target(model, LEGACY), images, torch.zeros(2, dtype=torch.int64))
    assert labels_of(model, found).tolist() == [1, 1]
    assert found.min() >= LEGACY[0]
    assert (l2(images, found) < 1.5 * torch.tensor([0.5, 0.25]) * (3 * SIZE * SIZE) ** 0.5).all()


def test_hopskipjump_directions_have_length_one_in_any_batch() -> None:
    attack = HopSkipJumpAttack()
    images = ep.astensor(grey(LIMIT, LIMIT, LIMIT))
    is_adversarial = get_is_adversarial(
        Misclassification(torch.zeros(3, dtype=torch.int64)), target(Threshold(mean, LIMIT))
    )
    torch.manual_seed(0)
    found = attack.approximate_gradients(is_adversarial, images, 20, ep.full(images, 3, 0.1))
    torch.testing.assert_close(found.raw.flatten(1).norm(dim=1), torch.ones(3))


def test_brendel_bethge_trusts_the_same_region_in_any_batch() -> None:
    model, radii = Threshold(mean, LIMIT), []
    for batch in (1, 3):
        attack = QuickL2(steps=5, lr_num_decay=1)
        attacked(attack, model, grey(*[DARK] * batch))
        radii += attack._optimizer.radii[:batch]
    assert radii == pytest.approx([1e-3 * 3 * SIZE * SIZE] * 4)


def test_blended_uniform_stops_at_the_first_blend() -> None:
    model, images = Threshold(mean, LIMIT), grey(DARK)
    found = attacked(BlendedUniformAttack(steps=200), model, images)
    own, shared = (
        random_numbers.generator(stream=random_numbers.BLENDED_UNIFORM, seed=0, draw=0, sample=sample).random(
            3 * SIZE * SIZE, dtype=np.float32
        )
        for sample in (0, random_numbers.STEPS)  # the sample's own, and those that all samples share
    )
    noise = (own + shared) % 1
    share = np.ceil((LIMIT - DARK) / (noise.mean() - DARK) * 200) / 200
    expected = DARK + share * (noise - DARK)
    np.testing.assert_allclose(found.numpy().ravel(), expected, atol=1e-6)


# Pointwise


def greedily_undone(model: nn.Module, image: Tensor, point: Tensor, keys: Tensor) -> Tensor:
    """The definition: pixel by pixel in the order of the keys, over and over until none can go back."""
    label = labels_of(model, image.unsqueeze(0))
    clean, point = image.flatten(1), point.clone().flatten(1)
    changed = True
    while changed:
        changed = False
        for pixel in keys.argsort(stable=True).tolist():
            tried = point.clone()
            tried[:, pixel] = clean[:, pixel]
            fooled = labels_of(model, tried.view(1, *image.shape)) != label
            if fooled and not torch.equal(tried, point):
                point, changed = tried, True
    return point.view_as(image)


def test_undoing_equals_its_definition_pixel_by_pixel() -> None:
    model, images = Weights(), random_images(25)
    generator = torch.Generator().manual_seed(2)
    labels = labels_of(model, images)
    points = (torch.rand(images.shape, generator=generator) < 0.5).float()
    points = torch.where(torch.rand(25, 1, SIZE, SIZE, generator=generator) < 0.6, points, images)
    fooled = labels_of(model, points) != labels
    assert 5 < fooled.sum() < 25
    keys = torch.rand(25, SIZE * SIZE, generator=generator)
    problem = Problem.of(target(model), images, Misclassification(labels))
    found = restored(problem, points, keys, among=fooled)
    for row in range(25):
        expected = points[row]
        if fooled[row]:
            expected = greedily_undone(model, images[row], points[row], keys[row])
        assert torch.equal(found[row], expected)


def test_pointwise_needs_as_many_pixels_as_brightness_does() -> None:
    """Each white pixel raises the mean of a grey image of 0.1 by 0.9 / 36; four make it 0.2."""
    model, images = Threshold(mean, 0.19), grey(DARK, DARK)
    found = attacked(PointwiseAttack(), model, images)
    assert PixelDistance()(images, found).tolist() == [4, 4]
    assert set(found.unique().tolist()) == {float(np.float32(DARK)), 1.0}


def test_pointwise_leaves_what_has_no_start() -> None:
    model, images = Threshold(mean, 0.19), grey(0.1, 0.15)
    criterion = TargetedMisclassification(torch.tensor([2, 1]))
    found = PointwiseAttack().run(target(model), images, criterion)
    assert PixelDistance()(images, found).tolist() == [0, 2]


# Noise


@pytest.mark.parametrize("epsilon", [1 / 255, 0.031, 0.5, 2.0])
@pytest.mark.parametrize("name", ["Gaussian", "Uniform"])
@pytest.mark.parametrize("repeated", ["", "Repeated"])
def test_clipping_aware_noise_has_its_size(repeated: str, name: str, epsilon: float) -> None:
    attack = getattr(additive_noise, f"L2ClippingAware{repeated}Additive{name}NoiseAttack")()
    images = (random_images(20, size=16) * 1.5 - 0.25).clamp(0, 1)  # many pixels at a bound
    found = attacked(attack, Threshold(lambda pixels: -mean(pixels), -9.0), images, epsilon=epsilon)
    sizes = (found.double() - images.double()).flatten(1).norm(dim=1)
    if repeated:  # nothing fools this model
        assert (sizes == 0).all()
    else:
        assert sizes.numpy() == pytest.approx(epsilon, rel=2e-5)


def test_clipping_aware_factors_against_bisection() -> None:
    """Numbers at a bound, without noise, of one value; and lengths that nothing reaches."""
    images = (random_images(30, size=5) * 1.5 - 0.25).clamp(0, 1)
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(1))
    noise[:5, :, 0] = 0
    noise[5:10] = 0.25
    noise[10:15, :, 1] *= 1e-9
    images[15] = 0.5
    for epsilon in (1e-4, 0.3, 2.0, 5.0, 50.0):
        found = additive_noise.clipping_aware_factors(images, noise, epsilon, (0, 1))

        def length(factor: Tensor) -> Tensor:
            moved = (images.double() + factor.view(-1, 1, 1, 1) * noise.double()).clamp(0, 1)
            return (moved - images.double()).flatten(1).norm(dim=1)

        low, high = torch.zeros(30).double(), torch.full((30,), 1e15).double()
        longest = length(high)
        for _ in range(200):
            middle = (low + high) / 2
            short = length(middle) < epsilon
            low, high = torch.where(short, middle, low), torch.where(short, high, middle)
        assert found.isfinite().all()
        reached = length(found.double())
        wanted = longest.clamp(max=epsilon)
        assert reached.numpy() == pytest.approx(wanted.numpy(), rel=1e-6)
        within = longest > epsilon * (1 + 1e-9)
        assert found.flatten()[within].numpy() == pytest.approx(high[within].numpy(), rel=1e-4)


@pytest.mark.parametrize("epsilon", [1 / 255, 0.1])
def test_linf_noise_has_its_size(epsilon: float) -> None:
    images = random_images(50) * 0.5 + 0.25
    found = attacked(additive_noise.LinfAdditiveUniformNoiseAttack(), Weights(), images, epsilon=epsilon)
    assert linf(images, found).numpy() == pytest.approx(epsilon, abs=1e-7)
    repeated = additive_noise.LinfRepeatedAdditiveUniformNoiseAttack(repeats=20)
    model = Threshold(lambda pixels: pixels[:, 0, 0, 0], float(images[0, 0, 0, 0]))
    found = attacked(repeated, model, images[:1], epsilon=epsilon)
    assert labels_of(model, found) != labels_of(model, images[:1])
    assert linf(images[:1], found).numpy() == pytest.approx(epsilon, abs=1e-7)


# All

KEYED: list[Any] = [
    SinglePixelAttack(seed=1),
    RandomSpatialAttack(seed=1),
    PointwiseAttack(seed=1),
    BlendedUniformAttack(seed=1, steps=50),
]
PLAIN: list[Any] = [
    ContrastReductionAttack(),
    ContrastReductionAttack(towards="mean"),
    InversionAttack(),
    GaussianBlurAttack(),
    RotationAttack(angles=9),
    TranslationAttack(),
    SpatialAttack(),
]
OWN = [*KEYED, *PLAIN]
ALL = [*OWN, *(make() for make in WALKS)]


def strength(attack: AttackWithDistance, epsilon: float) -> dict[str, float]:
    return {"epsilon": epsilon} if isinstance(attack, FixedEpsilonAttack) else {}


@pytest.mark.parametrize("attack", OWN, ids=repr)
def test_the_batch_does_not_matter(attack: AttackWithDistance) -> None:
    model, images = Weights(), random_images(9)
    options: dict[str, Any] = strength(attack, 30 if isinstance(attack, RotationAttack) else 0.7)

    def run(first: int, last: int) -> Tensor:
        places = {"samples": range(40 + first, 40 + last), "draw": 3} if attack in KEYED else {}
        return attacked(attack, model, images[first:last], **options, **places)

    whole = run(0, 9)
    singles = torch.cat([run(row, row + 1) for row in range(9)])
    torch.testing.assert_close(whole, singles, atol=1e-6, rtol=0)
    assert torch.equal(whole, run(0, 9))
    assert not torch.equal(whole, images)


@pytest.mark.parametrize("attack", KEYED, ids=repr)
def test_samples_seeds_and_draws_differ(attack: Any) -> None:
    model, images = Weights(), random_images(9)
    options: dict[str, Any] = strength(attack, 1)
    once = attacked(attack, model, images, **options)
    for changed in ({"draw": 1}, {"samples": range(1, 10)}, {"samples": tuple(range(5, 14))}):
        assert not torch.equal(once, attacked(attack, model, images, **options, **changed))
    assert not torch.equal(once, attacked(type(attack)(seed=2), model, images, **options))


@pytest.mark.parametrize("attack", ALL, ids=repr)
def test_an_ordinary_foolbox_attack(attack: Any) -> None:
    model, images = Weights(), random_images(4)
    torch.manual_seed(0)
    labels = labels_of(model, images)
    epsilons = [0.0, 1.0] if isinstance(attack, FixedEpsilonAttack) else [50.0, 100.0]
    _, clipped, success = attack(target(model), images, labels, epsilons=epsilons)
    assert success.shape == (2, 4)
    assert torch.equal(success[1], labels_of(model, clipped[1]) != labels)


@pytest.mark.parametrize("attack", ALL, ids=repr)
def test_what_is_wrong_is_named(attack: Any) -> None:
    images, labels = random_images(2), torch.zeros(2, dtype=torch.int64)
    options: dict[str, Any] = strength(attack, 1)
    with pytest.raises(TypeError, match="steps"):
        attack.run(target(Weights()), images, labels, steps=3, **options)
    with pytest.raises(ValueError, match=r"got images from .* to 1\.5; legal: the model's bounds, 0 to 1"):
        attack.run(target(Weights()), images.index_fill(3, torch.tensor(0), 1.5), labels, **options)
    if options:
        with pytest.raises(UserError, match="got strength -1; legal"):
            attack.run(target(Weights()), images, labels, epsilon=-1)


@pytest.mark.parametrize("attack", [a for a in ALL if type(a) not in map(type, PLAIN[:4])], ids=repr)
def test_another_criterion_is_refused(attack: Any) -> None:
    class Never(Criterion):
        def __repr__(self) -> str:
            return "Never()"

        def __call__(self, perturbed: Any, outputs: Any) -> Any:
            return outputs[:, 0] * 0 != 0

    with pytest.raises(ValueError, match="got the criterion Never; legal: Misclassification"):
        attack.run(target(Weights()), random_images(2), Never(), **strength(attack, 1))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SinglePixelAttack(pixels=0), "got pixels=0; legal: whole numbers from 1"),
        (lambda: RotationAttack(angles=0), "angles=0"),
        (lambda: TranslationAttack(shifts=-1), "shifts=-1"),
        (lambda: SpatialAttack(angles=0), "angles=0"),
        (lambda: RandomSpatialAttack(tries=0), "tries=0"),
        (lambda: ContrastReductionAttack(towards="black"), "'black'; legal: middle, mean"),  # type: ignore[arg-type]
        (lambda: PointwiseAttack(starts=0), "starts=0"),
        (lambda: PointwiseAttack(steps=0), "steps=0"),
        (lambda: BlendedUniformAttack(directions=0), "directions=0"),
        (lambda: BlendedUniformAttack(steps=0), "steps=0"),
    ],
)
def test_illegal_parameters_are_named(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_inputs_at_the_bounds_are_legal_where_float32_rounds_them() -> None:
    images = torch.tensor(LEGACY).view(2, 1, 1, 1).expand(2, 3, SIZE, SIZE)
    found = InversionAttack().run(target(Weights(), LEGACY), images, None)
    torch.testing.assert_close(found, images.flip(0))


def test_the_first_candidate_is_found_beyond_many_passes() -> None:
    """Image i is fooled by every candidate from i * 30 on."""
    images = torch.arange(8.0).view(8, 1, 1, 1) * 30

    def make(rows: Tensor, candidate_ids: Tensor) -> Tensor:
        return candidate_ids.float().view(1, -1, 1, 1, 1) - images[rows].unsqueeze(1)

    model = Threshold(lambda pixels: pixels[:, 0, 0, 0], -0.5)
    problem = Problem.of(target(model, (-500, 500)), images, torch.zeros(8, dtype=torch.int64))
    among = torch.arange(8) != 2
    found, done = first_fooling(problem, make, 200, among=among)
    assert done.tolist() == [True, True, False, True, True, True, True, False]
    assert found.flatten()[done].tolist() == [0] * 6
    assert found.flatten()[~done].tolist() == [60, 210]


def test_what_no_norm_describes_is_not_a_number() -> None:
    images = random_images(2)
    assert Unmeasured()(images, images).isnan().tolist() == [True, True]
    assert Unmeasured().clip_perturbation(images, images + 1, 0.5) is not images
