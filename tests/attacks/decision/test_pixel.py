"""The table of attacks, and the pixel attack against plain numpy."""

import foolbox
import numpy as np
import pytest
import torch
from foolbox.attacks.base import Attack
from torch import Tensor, nn

from blrobust.attacks.building_blocks.distances import PixelDistance
from blrobust.attacks.building_blocks.early_stopping import FEW, should_check
from blrobust.attacks.building_blocks.level_checks import check_pixel_count
from blrobust.attacks.catalogue.table import ATTACKS
from blrobust.attacks.decision.pixel import PixelAttack
from blrobust.errors import UserError
from blrobust.perturbations import levels

BOUNDS = (0.0, 1.0)
SIZE = 12


class Classifier(nn.Module):
    """Any model: the pixel attack asks for no answers."""

    def forward(self, pixels: Tensor) -> Tensor:
        return pixels.flatten(1)[:, :4]


def target(bounds: tuple[float, float] = BOUNDS) -> foolbox.PyTorchModel:
    return foolbox.PyTorchModel(Classifier().eval(), bounds=bounds, device=torch.device("cpu"))


def grey(batch: int, size: int = SIZE) -> Tensor:
    """Images that no set pixel can leave as it was."""
    return torch.rand(batch, 3, size, size, generator=torch.Generator().manual_seed(1)) * 0.5 + 0.25


def attack(images: Tensor, count: int, *, seed: int = 0, draw: int = 0, first: int = 0) -> Tensor:
    labels = torch.zeros(len(images), dtype=torch.int64)
    samples = range(first, first + len(images))
    perturbed = PixelAttack(seed=seed).run(
        target(), images, labels, epsilon=count, draw=draw, samples=samples
    )
    assert isinstance(perturbed, Tensor)
    return perturbed


def positions(images: Tensor, perturbed: Tensor) -> np.ndarray:
    return (images.numpy() != perturbed.numpy()).any(axis=1)


# The table


@pytest.mark.parametrize("kind", ATTACKS)
def test_every_row_builds_and_has_a_grid(kind: str) -> None:
    spec = ATTACKS[kind]
    if kind.startswith("autoattack"):
        pytest.importorskip("pyautoattack")
    assert isinstance(spec.build(seed=0, parameters=spec.budget()), Attack)
    assert isinstance(spec.build(seed=0, parameters=spec.budget("paper")), Attack)
    # The norm and the loss are the row's: others would be measured under its name.
    assert set(spec.parameters) | set(spec.paper) <= {*spec.settable(), "norm", "loss"}
    grid = levels.parse(spec.grid)
    assert grid[0] == 0
    spec.check_levels(grid, (3, 32, 32))


def test_the_default_pixel_grid_is_the_published_one() -> None:
    assert levels.parse(ATTACKS["pixel"].grid) == tuple(range(0, 1001, 50))


# The pixel attack


@pytest.mark.parametrize("count", [0, 1, 7, 100, SIZE * SIZE])
def test_exactly_k_pixels_change_in_all_channels_to_a_bound(count: int) -> None:
    images = grey(5)
    perturbed = attack(images, count)
    changed = positions(images, perturbed)
    assert (changed.sum(axis=(1, 2)) == count).all()
    for image in range(5):
        values = perturbed[image].numpy()[:, changed[image]]  # (channels, k)
        assert ((values == 0) | (values == 1)).all()
        assert (values == values[:1]).all()
        assert (
            perturbed[image].numpy()[:, ~changed[image]] == images[image].numpy()[:, ~changed[image]]
        ).all()


@pytest.mark.parametrize("bounds", [(0.0, 1.0), (-2.4290657, 2.7537313)])
def test_values_are_the_bounds_of_the_model(bounds: tuple[float, float]) -> None:
    perturbed = PixelAttack().run(target(bounds), grey(3), torch.zeros(3), epsilon=SIZE * SIZE)
    assert set(perturbed.unique().tolist()) == set(torch.tensor(bounds).tolist())


def test_pixel_sets_are_nested_with_the_same_coins() -> None:
    images = grey(4)
    smaller, larger = attack(images, 20), attack(images, 60)
    inner, outer = positions(images, smaller), positions(images, larger)
    assert (outer | ~inner).all()
    kept = np.broadcast_to(inner[:, None], images.shape)
    assert (smaller.numpy()[kept] == larger.numpy()[kept]).all()


def test_coins_are_fair_and_positions_uniform() -> None:
    images = grey(300)
    perturbed = attack(images, SIZE * SIZE // 2)
    changed = positions(images, perturbed)
    tosses = int(changed.sum())
    heads = int((perturbed[:, 0].numpy()[changed] == 1).sum())
    assert abs(heads - tosses / 2) < 5 * np.sqrt(tosses) / 2
    per_position = changed.sum(axis=0)
    assert abs(per_position - 150).max() < 5 * np.sqrt(300) / 2


def test_coins_do_not_depend_on_the_place_in_the_order() -> None:
    images = grey(400)
    first = attack(images, 1)
    bright = (first.numpy() == 1).any(axis=(1, 2, 3)).sum()
    assert abs(bright - 200) < 5 * np.sqrt(400) / 2


def test_the_batch_does_not_matter() -> None:
    images = grey(7)
    whole = attack(images, 30, first=40)
    parts = torch.cat([attack(images[:3], 30, first=40), attack(images[3:], 30, first=43)])
    singles = torch.cat([attack(images[i : i + 1], 30, first=40 + i) for i in range(7)])
    assert torch.equal(whole, parts)
    assert torch.equal(whole, singles)


def test_samples_seeds_and_draws_differ_and_repeat() -> None:
    image = grey(1)
    once = attack(image, 30)
    assert torch.equal(once, attack(image, 30))
    others = [attack(image, 30, first=1), attack(image, 30, seed=1), attack(image, 30, draw=1)]
    for other in others:
        assert not torch.equal(once, other)


def test_one_attack_serves_several_sizes() -> None:
    tool = PixelAttack(seed=3)
    for size in (5, 9, 5):
        images = grey(2, size)
        perturbed = tool.run(target(), images, torch.zeros(2), epsilon=4)
        assert (positions(images, perturbed).sum(axis=(1, 2)) == 4).all()


def test_it_is_an_ordinary_foolbox_attack() -> None:
    images, labels = grey(3), torch.zeros(3, dtype=torch.int64)
    raw, clipped, success = PixelAttack()(target(), images, labels, epsilons=[0, 5, 50])
    assert success.shape == (3, 3)
    for perturbed, kept, count in zip(raw, clipped, (0, 5, 50), strict=True):
        assert torch.equal(perturbed, kept)
        assert PixelDistance()(images, perturbed).tolist() == [count] * 3


def test_repr_prints_the_parameters() -> None:
    assert repr(PixelAttack(seed=5)) == "PixelAttack(seed=5)"


def test_unknown_keywords_raise() -> None:
    with pytest.raises(TypeError, match="steps"):
        PixelAttack().run(target(), grey(1), torch.zeros(1), epsilon=1, steps=3)


@pytest.mark.parametrize("strength", [0.5, -1.0, 145.0])
def test_illegal_strengths_name_themselves_and_the_pixels_there_are(strength: float) -> None:
    message = f"got strength {strength:g}; legal: .* 0 to 144, .* 12 x 12"
    with pytest.raises(UserError, match=message):
        check_pixel_count(strength, (3, SIZE, SIZE))
    with pytest.raises(UserError, match=message):
        PixelAttack().run(target(), grey(1), torch.zeros(1), epsilon=strength)


def test_distance_counts_pixels_that_truly_differ() -> None:
    images = torch.full((2, 3, 4, 4), 0.5)
    perturbed = images.clone()
    perturbed[0, :, 1, 2] = 1.0  # three channels, one pixel
    perturbed[0, 2, 3, 3] = 0.0
    perturbed[1, :, 0, 0] = 0.5  # set to what it was
    assert PixelDistance()(images, perturbed).tolist() == [2.0, 0.0]
    assert PixelDistance().clip_perturbation(images, perturbed, 2) is perturbed
    with pytest.raises(NotImplementedError, match="more than 1 pixels differ"):
        PixelDistance().clip_perturbation(images, perturbed, 1)


def test_the_default_grid_ends_where_small_images_do():
    spec = ATTACKS["pixel"]
    assert spec.feasible(levels.parse(spec.grid), (1, 28, 28)) == tuple(range(0, 751, 50))
    assert spec.feasible([0, 0.5, 3], (3, 2, 2)) == (0, 3)


def test_a_look_is_due_where_it_costs_nothing_and_now_and_then_elsewhere() -> None:
    many, few = (torch.empty(count, device="meta") for count in (FEW, FEW - 1))  # not on the CPU
    assert [step for step in range(25) if should_check(step, many)] == [0, 10, 20]
    assert all(should_check(step, few) for step in range(25))
    assert all(should_check(step, torch.zeros(FEW)) for step in range(25))
