"""Common random numbers: those of a sample depend only on (stream, seed, draw, sample).

`stream` is the number of a kind of noise or attack, `draw` the index of a repetition, and `sample` the
position of an image in the data set. So an image gets the same random numbers for every model, level, batch
size, device and order of work, and accuracy curves are paired across models and levels.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from blrobust import memory

# One stream per use of randomness, so that no two uses share numbers under one seed.
GAUSSIAN = 0
UNIFORM = 1
PIXEL = 2
SINGLE_PIXEL = 3
LOCAL_SEARCH = 4
SQUARE = 5
SIMBA = 6
NES = 7
APGD = 8
BAND_PGD = 9
GENETIC = 10
SPATIAL = 11
POINTWISE = 12
BASIS = 13
VAT = 14
BLENDED_UNIFORM = 15
SPARSE_L1 = 16

STEPS = 2**32  # added to a step of an attack to use it as `sample`; above the positions of all images
FEW_BYTES = 2**28  # a request of at most this size is not checked against the free memory
NUMBERS_BYTES = 2**29
CACHE_BYTES = 2**30  # one draw of 10,000 CIFAR-10 images takes 123 MB


def generator(*, stream: int, seed: int, draw: int, sample: int) -> np.random.Generator:
    """Return the Philox generator of one sample, seeded by `SeedSequence([stream, seed, draw, sample])`."""
    entropy = np.random.SeedSequence([stream, seed, draw, sample])
    return np.random.Generator(np.random.Philox(entropy))


def standard_normal(shape: Sequence[int], *, seed: int, draw: int, samples: Sequence[int]) -> Tensor:
    """Return N(0, 1) noise for the samples, float32 `(len(samples), *shape)`, on the CPU."""
    noise = np.empty((len(samples), *shape), np.float32)
    for row, sample in zip(noise, samples, strict=True):
        source = generator(stream=GAUSSIAN, seed=seed, draw=draw, sample=sample)
        source.standard_normal(dtype=np.float32, out=row)
    return torch.from_numpy(noise)


def fixed_noise(like: Tensor) -> Tensor:
    """Return the same N(0, 1) noise at each call, float32 of the shape of `like`, on its device."""
    noise = standard_normal(tuple(like.shape[1:]), seed=0, draw=0, samples=range(len(like)))
    return noise.to(like.device)


def uniform(shape: Sequence[int], *, seed: int, draw: int, samples: Sequence[int]) -> Tensor:
    """Return uniform noise in [-1, 1) for the samples, float32 `(len(samples), *shape)`, on the CPU."""
    noise = np.empty((len(samples), *shape), np.float32)
    for row, sample in zip(noise, samples, strict=True):
        source = generator(stream=UNIFORM, seed=seed, draw=draw, sample=sample)
        source.random(dtype=np.float32, out=row)
    return torch.from_numpy(noise).mul_(2).sub_(1)


def uniforms(
    count: int, *, stream: int, seed: int, draw: int, samples: Sequence[int], device: torch.device
) -> Tensor:
    """Return uniform numbers in [0, 1) for the random choices of an attack, float32 `(len(samples), count)`.

    The numbers are drawn sample by sample, so that those of a sample do not depend on its batch. Raises
    `UserError` if they do not fit into memory.
    """
    size = 4 * len(samples) * count
    if size > FEW_BYTES:
        what = f"{len(samples):,} x {count:,} random numbers"
        memory.check(size, what, legal="smaller parameters, or a smaller batch size")
    numbers = np.empty((len(samples), count), np.float32)
    for row, sample in zip(numbers, samples, strict=True):
        generator(stream=stream, seed=seed, draw=draw, sample=sample).random(dtype=np.float32, out=row)
    return torch.from_numpy(numbers).to(device)


def common(count: int, *, stream: int, seed: int, draw: int, step: int, device: torch.device) -> Tensor:
    """Return uniform numbers in [0, 1) that all samples share in a step of an attack, float32 `(count,)`."""
    source = generator(stream=stream, seed=seed, draw=draw, sample=STEPS + step)
    return torch.from_numpy(source.random(count, dtype=np.float32)).to(device)


def mixed(own: Tensor, shared: Tensor) -> Tensor:
    """Return the sum modulo 1 of each sample's `own` numbers and the numbers `shared` by all samples.

    The sum is uniform in [0, 1). With new numbers `shared` in every step of an attack, the sums are new too,
    although only `shared` is copied from the CPU in a step. The sums of two samples are independent within a
    step, but their difference is the same in all steps. If an attack combines several numbers of a sample
    within one step, each of these numbers needs its own column of `own`.
    """
    return (own + shared).frac_()


class UniformCache:
    """The results of the function `uniforms` for one stream, kept on the device for all models and levels.

    The cache is emptied before it exceeds `NUMBERS_BYTES`, and when the seed or the number of values per
    sample changes.
    """

    def __init__(self, stream: int) -> None:
        self._stream = stream
        self._key: tuple[object, ...] = ()
        self._places: dict[tuple[int, int], int] = {}  # (draw, sample) -> row of `_rows`
        self._rows = torch.empty(0)

    def __call__(
        self, count: int, *, seed: int, draw: int, samples: Sequence[int], device: torch.device
    ) -> Tensor:
        """Return uniform numbers in [0, 1), float32 (len(samples), count), as a copy that may be changed."""

        def drawn(samples: Sequence[int]) -> Tensor:
            return uniforms(count, stream=self._stream, seed=seed, draw=draw, samples=samples, device=device)

        rows = [(draw, sample) for sample in samples]
        missing = [sample for sample in samples if (draw, sample) not in self._places]
        room = NUMBERS_BYTES // (4 * count)
        if (count, seed, device) != self._key or len(self._places) + len(missing) > room:
            if len(rows) > room:
                return drawn(samples)
            self._key, self._places, missing = (count, seed, device), {}, list(samples)
            self._rows = torch.empty(0, count, device=device)
        if missing:
            start = len(self._rows)
            self._rows = torch.cat([self._rows, drawn(missing)])
            self._places |= {(draw, sample): start + i for i, sample in enumerate(missing)}
        places = [self._places[row] for row in rows]
        return self._rows[torch.tensor(places, dtype=torch.int64, device=device)]


class Cache:
    """Cache of the random numbers of blocks (batches) of samples in one draw, for all models and levels.

    `make(draw, samples)` computes the numbers of a block on the device on which they are used. The cache
    keeps at most `CACHE_BYTES` bytes. It drops the numbers of a draw when another draw starts.
    """

    def __init__(self, make: Callable[[int, range], Tensor]) -> None:
        self._make = make
        self._draw = -1
        self._blocks: dict[range, Tensor] = {}
        self._room = CACHE_BYTES

    def block(self, draw: int, samples: range) -> Tensor:
        """Return the random numbers of `samples` in `draw`, a tensor that must not be written to."""
        if draw != self._draw:
            self._draw, self._blocks, self._room = draw, {}, CACHE_BYTES
        if samples in self._blocks:
            return self._blocks[samples]
        block = self._make(draw, samples)
        if block.nbytes <= self._room:
            self._blocks[samples] = block
            self._room -= block.nbytes
        return block
