"""The interface of perturbations, blocks of samples, and predictions."""

import math
from collections.abc import Iterator, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from blrobust.errors import UserError, describe

# Networks always get blocks of one size, because the order of their sums, and so the last bits of
# their logits, depends on the batch size.
BLOCK = 100
# A GPU finishes a block of 100 small images before the next one is launched, so its blocks have up to
# 5,000, as its memory allows: a gradient through ResNet-20 keeps 2 to 5 MB for an image of CIFAR-10.
GPU_BLOCK = 5000
GPU_BYTES = 2**24 // (3 * 32 * 32)  # of memory for each value of an image


class Perturbation(Protocol):
    """One kind of noise or attack, in one space, at any level."""

    @property
    def kind(self) -> str:
        """Its name in results: "gaussian", "uniform", "pixel"."""

    @property
    def space(self) -> str:
        """The space of its levels: "normalized", "pixel" or "legacy"."""

    @property
    def one_search_for_all_levels(self) -> bool:
        """Whether one search serves all levels, so that they are measured together."""

    @property
    def passes(self) -> int:
        """Images that went through models so far, also those of an unfinished block."""

    def measure(
        self,
        model: nn.Module,
        pixels: Tensor,
        labels: Tensor,
        *,
        levels: Sequence[float],
        draw: int,
        samples: range,
        keep: bool = False,
    ) -> list[dict[str, Tensor]]:
        """Perturb a block and return, level by level, arrays `(len(samples),)`, on any device.

        `pixels` is float32 `(b, C, H, W)` in [0, 1], `labels` int64 `(b,)`; both are shared between
        calls and must not be written to. `prediction` (int16) is the class of the evaluated input: the
        perturbed one, or the clean one if an attack failed or its result was rejected. `forwards` and
        `backwards` (int32), if present, are passes per sample; otherwise there is one forward and no
        backward pass. Attacks add further outcomes (success, distance, reason), and with `keep`
        the evaluated inputs, `pixels`.
        """

    def picture(
        self, pixels: Tensor, labels: Tensor, *, level: float, draw: int, samples: range
    ) -> Tensor | None:
        """Return the perturbed block for display, within [0, 1], or `None` without a picture."""


def predict(model: nn.Module, pixels: Tensor) -> Tensor:
    """Return the predicted classes, int16 `(b,)`; -1, which is never correct, where a logit is not finite.

    `argmax` treats NaN as the largest logit, which would make class 0 look robust. Raises `UserError`
    where the model fails or does not return logits, `torch.OutOfMemoryError` where memory is full.
    """
    try:
        logits = model(pixels)
    except (UserError, torch.OutOfMemoryError):
        raise
    except (Exception, SystemExit) as error:  # whatever the user's own model raises
        if is_out_of_memory(error):
            raise torch.OutOfMemoryError(str(error)) from error
        raise UserError(f"the network failed: {describe(error)}") from error
    if logits.ndim != 2 or len(logits) != len(pixels):
        raise UserError(
            f"the network returned logits of shape {tuple(logits.shape)} for {len(pixels)} images; "
            "legal: (images, classes)"
        )
    finite = logits.isfinite().all(1)
    return torch.where(finite, logits.argmax(1), -1).to(torch.int16)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error means that memory is full; torch has an error class for CUDA only."""
    texts = ("can't allocate memory", "MPS backend out of memory")
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(t in str(error) for t in texts)


def block_size(shape: Sequence[int], device: torch.device) -> int:
    """Return the number of images of `shape` (C, H, W) in a block: 100, or up to 5,000 on a GPU.

    It depends on the total memory of the GPU, not on the free part, so that a GPU always has one block size.
    """
    if device.type != "cuda":
        return BLOCK
    memory = torch.cuda.get_device_properties(device).total_memory
    fitting = memory // (GPU_BYTES * math.prod(shape)) // BLOCK * BLOCK
    return min(max(fitting, BLOCK), GPU_BLOCK)


def blocks(n: int, size: int) -> Iterator[tuple[range, int]]:
    """Yield (samples, skip) over `n` samples: blocks of exactly `min(size, n)` samples.

    The last block is filled up with earlier samples; its first `skip` samples belong to the previous
    block, and their results are dropped.
    """
    size = min(size, n)
    for start in range(0, n, size):
        first = min(start, n - size)
        yield range(first, first + size), start - first
