import numpy as np
import pytest
import torch
from support import stand_in
from torch import nn

from blrobust.errors import UserError
from blrobust.perturbations import input_space, paper_space
from blrobust.perturbations.noise import Noise

CPU = torch.device("cpu")
LOW, HIGH = -2.4290657, 2.7537313


def philox(stream, seed, draw, sample):
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([stream, seed, draw, sample])))


def z(kind, samples, shape, *, seed, draw):
    if kind == "gaussian":
        rows = [philox(0, seed, draw, s).standard_normal(shape, dtype=np.float32) for s in samples]
    else:
        rows = [philox(1, seed, draw, s).random(shape, dtype=np.float32) * 2 - 1 for s in samples]
    return np.stack(rows).astype(np.float64)


class Keep(nn.Module):
    """Remembers what it was fed."""

    def forward(self, pixels):
        self.fed = pixels.clone()
        return torch.zeros(len(pixels), 3)


def fed(kind, space, *, level, channels=2, samples=range(30, 42)):
    data = stand_in.dataset(60, channels=channels)
    noise = Noise(kind, space=space, dataset=data, seed=4, device=CPU)
    pixels = data.pixels(list(samples), CPU)
    before = pixels.clone()
    keep = Keep()
    labels = data.labels[list(samples)]
    (answer,) = noise.measure(keep, pixels, labels, levels=[level], draw=3, samples=samples)
    assert torch.equal(pixels, before), "the shared block was written into"
    assert set(answer) == {"prediction", "probability_label", "probability_prediction", "margin"}
    assert answer["prediction"].dtype == torch.int16
    exact = data.images[list(samples)].numpy().astype(np.float64) / 255
    draw = z(kind, samples, tuple(data.images.shape[1:]), seed=4, draw=3)
    picture = noise.picture(pixels, labels, level=level, draw=3, samples=samples)
    assert np.allclose(picture.numpy(), keep.fed.numpy().clip(0, 1), atol=1e-6)
    return keep.fed.numpy(), exact, draw


def channelwise(values):
    return np.array(values).reshape(-1, 1, 1)


@pytest.mark.parametrize("kind", ["gaussian", "uniform"])
@pytest.mark.parametrize("level", [0.0, 0.3, 2.0])
def test_normalized_noise_is_scaled_by_the_std_of_the_data_and_not_clipped(kind, level):
    got, pixels, draw = fed(kind, "normalized", level=level)
    wanted = pixels + level * channelwise(stand_in.STD) * draw
    assert np.allclose(got, wanted, atol=1e-6)
    if level == 2.0:
        assert got.min() < 0
        assert got.max() > 1


@pytest.mark.parametrize("kind", ["gaussian", "uniform"])
@pytest.mark.parametrize("level", [0.0, 0.1, 1.0])
def test_pixel_noise_is_clipped(kind, level):
    got, pixels, draw = fed(kind, "pixel", level=level)
    assert np.allclose(got, np.clip(pixels + level * draw, 0, 1), atol=1e-6)


@pytest.mark.parametrize("kind", ["gaussian", "uniform"])
@pytest.mark.parametrize("level", [0.0, 0.4, 1.0])
def test_legacy_noise_is_clipped_to_one_pair_of_normalised_bounds(kind, level):
    got, pixels, draw = fed(kind, "legacy", level=level, channels=3)
    mean, std = channelwise(stand_in.CIFAR_MEAN), channelwise(stand_in.CIFAR_STD)
    width = level if kind == "gaussian" else level**2 * (HIGH - LOW)
    normal = np.clip((pixels - mean) / std + width * draw, LOW, HIGH)
    assert np.allclose(got, normal * std + mean, atol=1e-6)


@pytest.mark.parametrize("space", ["normalized", "pixel"])
def test_level_0_is_the_image_itself(space):
    got, _, _ = fed("gaussian", space, level=0.0)
    data = stand_in.dataset(60)
    assert np.array_equal(got, data.pixels(list(range(30, 42)), CPU).numpy())


def test_the_legacy_space_is_of_cifar10_alone():
    with pytest.raises(UserError, match="cifar10"):
        Noise("gaussian", space="legacy", dataset=stand_in.dataset(), seed=0, device=CPU)


@pytest.mark.parametrize(("kind", "space"), [("pink", "pixel"), ("gaussian", "fourier")])
def test_unknown_kinds_and_spaces_name_the_legal_ones(kind, space):
    with pytest.raises(UserError, match="legal: "):
        Noise(kind, space=space, dataset=stand_in.dataset(), seed=0, device=CPU)


def test_noise_in_the_published_space_leaves_gradients_there_alone():
    input_space._moments.cache_clear()
    fed("gaussian", "legacy", level=0.1, channels=3)
    published = paper_space.space(stand_in.dataset(4, channels=3))
    inputs = torch.zeros(4, 3, 6, 6, requires_grad=True)
    published.leave(inputs).sum().backward()
    assert np.allclose(inputs.grad, channelwise(stand_in.CIFAR_STD) + np.zeros((4, 3, 6, 6)))
