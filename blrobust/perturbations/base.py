"""The interface of perturbations, the blocks (batches) of samples that models get, and predictions."""

import math
from collections.abc import Iterator, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from blrobust.errors import UserError, describe, message

# Networks always get blocks of one size, because the order of their sums, and so the last bits of
# their logits, depends on the batch size.
BLOCK = 100
# A GPU finishes 100 small images sooner than the CPU launches the next block. So its blocks have up to 5,000
# images if they fit into memory: a gradient through ResNet-20 needs 2 to 5 MB per CIFAR-10 image.
GPU_BLOCK = 5000
GPU_BYTES = 2**24 // (3 * 32 * 32)  # bytes of GPU memory per colour value of an image, as an estimate


class Perturbation(Protocol):
    """One kind of noise or attack in one input space, at any level."""

    @property
    def kind(self) -> str:
        """The name of the perturbation in results: "gaussian", "uniform" or the name of an attack."""

    @property
    def space(self) -> str:
        """The input space in which levels are measured: "normalized", "pixel" or "legacy"."""

    @property
    def one_search_for_all_levels(self) -> bool:
        """Whether the attack searches only once for all levels, so that all levels are measured together."""

    @property
    def passes(self) -> int:
        """The number of forward passes of single images since this object was made.

        Those of an unfinished block are included.
        """

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
        """Perturb a block (batch) of samples; return for each level a dict of tensors `(len(samples),)`.

        `pixels` is float32 `(b, C, H, W)` in [0, 1], and `labels` is int64 `(b,)`. Other calls use the same
        two tensors, so they must not be written to. `samples` are the positions of the images in the data
        set, and `draw` is the index of a repetition; each repetition has other random numbers.

        A dict has the entries of the function `classification.classify` for the evaluated input: the
        perturbed input, or the clean one if an attack failed or its result was rejected. The entries
        `forwards` and `backwards` (int32) are passes per sample; if they are missing, there was one forward
        and no backward pass. Attacks add further entries (success, distance, reason), and with `keep` the
        evaluated inputs as `pixels`. The tensors may be on any device.
        """

    def picture(
        self, pixels: Tensor, labels: Tensor, *, level: float, draw: int, samples: range
    ) -> Tensor | None:
        """Return the perturbed images for display, within [0, 1]; None if there is nothing to show."""


def predict(model: nn.Module, pixels: Tensor) -> Tensor:
    """Return the predicted classes, int16 `(b,)`, with -1 for samples whose logits are not all finite.

    Raises the errors of `checked_logits`.
    """
    return classes_of(checked_logits(model, pixels))


def checked_logits(model: nn.Module, pixels: Tensor) -> Tensor:
    """Return the logits `(b, classes)` of a block of samples.

    Raises `UserError` if the model fails or does not return logits. Raises `torch.OutOfMemoryError` if memory
    is full.
    """
    try:
        logits: Tensor = model(pixels)
    except (KeyboardInterrupt, UserError, torch.OutOfMemoryError):
        raise
    except BaseException as error:  # whatever the user's own model raises
        if is_out_of_memory(error):
            raise torch.OutOfMemoryError(message(error)) from error
        raise UserError(f"the network failed: {describe(error)}") from error
    if logits.ndim != 2 or len(logits) != len(pixels):
        raise UserError(
            f"the network returned logits of shape {tuple(logits.shape)} for {len(pixels)} images; "
            "legal: (images, classes)"
        )
    return logits


def classes_of(logits: Tensor) -> Tensor:
    """Return the classes of the largest logits `(b, classes)`, int16 `(b,)`; -1 where not all are finite.

    -1 is never correct. `argmax` would treat NaN as the largest logit, so that class 0 could look robust.
    """
    finite = logits.isfinite().all(1)
    return torch.where(finite, logits.argmax(1), -1).to(torch.int16)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error means that memory is full; torch has an error class for this on CUDA only."""
    texts = ("can't allocate memory", "MPS backend out of memory")
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(t in message(error) for t in texts)


def block_size(shape: Sequence[int], device: torch.device) -> int:
    """Return the number of images of `shape` (C, H, W) in a block (batch): 100, or up to 5,000 on a GPU.

    The size depends on the total memory of the GPU, not on its free memory, so that it is always the same for
    one GPU.
    """
    if device.type != "cuda":
        return BLOCK
    memory = torch.cuda.get_device_properties(device).total_memory
    fitting = memory // (GPU_BYTES * math.prod(shape)) // BLOCK * BLOCK
    return min(max(fitting, BLOCK), GPU_BLOCK)


def blocks(n: int, size: int) -> Iterator[tuple[range, int]]:
    """Yield blocks (batches) of exactly `min(size, n)` of the `n` samples, as pairs (samples, skip).

    All blocks have the same size. The last block is therefore filled with samples of the block before: its
    first `skip` samples, whose results are to be dropped. `skip` is 0 for all other blocks.
    """
    size = min(size, n)
    for start in range(0, n, size):
        first = min(start, n - size)
        yield range(first, first + size), start - first
