import numpy as np
import pytest
import torch

from blrobust.perturbations import random_numbers

SHAPE = (2, 3, 4)


def philox(*key):
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(list(key))))


def test_normal_noise_is_numpys_philox_per_sample():
    noise = random_numbers.standard_normal(SHAPE, seed=5, draw=2, samples=range(7, 10))
    assert noise.dtype == torch.float32
    for row, sample in enumerate(range(7, 10)):
        wanted = philox(0, 5, 2, sample).standard_normal(SHAPE, dtype=np.float32)
        assert np.array_equal(noise[row].numpy(), wanted)


def test_uniform_noise_is_numpys_philox_per_sample():
    noise = random_numbers.uniform(SHAPE, seed=5, draw=2, samples=range(7, 10))
    for row, sample in enumerate(range(7, 10)):
        wanted = 2 * philox(1, 5, 2, sample).random(SHAPE, dtype=np.float32) - 1
        assert np.array_equal(noise[row].numpy(), wanted)


@pytest.mark.parametrize("make", [random_numbers.standard_normal, random_numbers.uniform])
def test_a_sample_does_not_see_its_neighbours(make):
    whole = make(SHAPE, seed=1, draw=0, samples=range(50))
    assert torch.equal(make(SHAPE, seed=1, draw=0, samples=range(13, 14))[0], whole[13])
    assert torch.equal(make(SHAPE, seed=1, draw=0, samples=range(31, 40)), whole[31:40])


@pytest.mark.parametrize("make", [random_numbers.standard_normal, random_numbers.uniform])
def test_seed_draw_and_sample_each_change_the_noise(make):
    base = make(SHAPE, seed=0, draw=0, samples=range(1))
    for seed, draw, sample in [(1, 0, 0), (0, 1, 0), (0, 0, 1)]:
        other = make(SHAPE, seed=seed, draw=draw, samples=range(sample, sample + 1))
        assert not torch.equal(other, base)


def test_distributions():
    normal = random_numbers.standard_normal((1000,), seed=0, draw=0, samples=range(200)).numpy()
    assert abs(normal.mean()) < 0.01
    assert abs(normal.std() - 1) < 0.01
    flat = random_numbers.uniform((1000,), seed=0, draw=0, samples=range(200)).numpy()
    assert flat.min() >= -1
    assert flat.max() < 1
    assert abs(flat.mean()) < 0.01
    assert abs(flat.var() - 1 / 3) < 0.01


class TestCache:
    def make(self):
        made = []

        def block(draw, samples):
            made.append((draw, samples))
            return torch.full((len(samples), 4), float(draw))

        return random_numbers.Cache(block), made

    def test_a_block_is_made_once_a_draw(self):
        cache, made = self.make()
        first = cache.block(0, range(3))
        assert cache.block(0, range(3)) is first
        cache.block(0, range(3, 6))
        cache.block(1, range(3))
        cache.block(0, range(3))
        assert made == [(0, range(3)), (0, range(3, 6)), (1, range(3)), (0, range(3))]

    def test_what_does_not_fit_is_made_anew(self, monkeypatch):
        monkeypatch.setattr(random_numbers, "CACHE_BYTES", 100)
        cache, made = self.make()
        for _ in range(2):
            cache.block(0, range(5))  # 80 bytes
            cache.block(0, range(5, 10))
        assert made == [(0, range(5)), (0, range(5, 10)), (0, range(5, 10))]


def test_numbers_are_drawn_once_and_stay_what_they_are(monkeypatch):
    cpu = torch.device("cpu")
    numbers = random_numbers.UniformCache(random_numbers.APGD)

    def drawn(samples, seed=3, draw=1, count=5):
        return random_numbers.uniforms(
            count, stream=random_numbers.APGD, seed=seed, draw=draw, samples=samples, device=cpu
        )

    def kept(samples, seed=3, draw=1, count=5):
        return numbers(count, seed=seed, draw=draw, samples=samples, device=cpu)

    for samples in (range(4), (2, 9, 0), range(0), (9, 9)):
        assert torch.equal(kept(samples), drawn(samples))
    kept(range(4)).zero_()
    assert torch.equal(kept(range(4)), drawn(range(4)))
    for key in ({"seed": 4}, {"draw": 0}, {"count": 6}):
        assert torch.equal(kept(range(3), **key), drawn(range(3), **key))
    made, uniforms = [], random_numbers.uniforms
    monkeypatch.setattr(
        random_numbers,
        "uniforms",
        lambda *given, **more: made.append(more["samples"]) or uniforms(*given, **more),
    )
    for draw in (5, 6, 5, 6):  # as restarts ask
        kept(range(3), draw=draw)
    assert made == [[0, 1, 2], [0, 1, 2]]
    monkeypatch.undo()
    monkeypatch.setattr(random_numbers, "NUMBERS_BYTES", 4 * 5 * 4)
    for samples in (range(7), range(3), range(2, 5), (8, 8), (8, 1)):
        assert torch.equal(kept(samples), drawn(samples))
