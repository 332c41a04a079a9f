"""Convolution, BatchNorm and ReLU that save little more than kept coefficients for the backward pass.

In torch, BatchNorm saves its input y, which is the convolution's output, and ReLU saves its own output. So
dropping only the convolution's input would save little memory. But y has no frequencies outside the band, so
its kept coefficients suffice to compute it again, and ReLU needs only one bit per element. For the three
layers together, these tensors are saved:

    z      the kept coefficients of the convolution's input
    Y      the kept coefficients of y
    the mean and the inverse standard deviation of each channel, ReLU's bits, and the parameters.

The convolution passes Y to the BatchNorm as an attribute of the tensor y, so that no layer refers to another.
If there is a layer between convolution and BatchNorm, or if one of the two is replaced, the result is still
correct; only the memory is not saved. A BatchNorm has a flag that states whether a ReLU follows
(`blconv.fused.relu_followers`). If the convolution does not use the method "spectral", convolution and
BatchNorm behave like those of torch.
"""

import math
from functools import lru_cache
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from blconv.band import FftSize
from blconv.energy import EnergyBand
from blconv.fused.relu import relu_backward, relu_forward, relu_from_bits
from blconv.geometry import Geometry
from blconv.kernels.limits import KERNEL_DTYPES, runs_operators
from blconv.layers import BandLimitedConv2d
from blconv.layout import is_channels_last
from blconv.methods.choice import Method, choose
from blconv.methods.spectral import convolve_keeping, synthesise

SOURCE, RELU_APPLIED = "_band_limited_source", "_relu_applied_version"


class Source(NamedTuple):
    """The data that determine a convolution's output y: its kept coefficients before the bias, and the bias.

    `version` is torch's version counter of y, which changes if y is changed in place.
    """

    coefficients: Tensor
    bias: Tensor | None
    geometry: Geometry
    version: int

    @staticmethod
    def of(y: Tensor) -> "Source | None":
        """Remove the `Source` that is attached to y and return it.

        Return None if there is none, or if y was changed in place since it was attached.
        """
        source: Source | None = getattr(y, SOURCE, None)
        if source is None:
            return None
        del vars(y)[SOURCE]
        return source if source.version == y._version else None


class BlockConv2d(BandLimitedConv2d):
    """A band-limited convolution that attaches the kept coefficients of its output to the output tensor.

    A `BlockNorm2d` after it saves these coefficients instead of the tensor.
    """

    def convolve(self, x: Tensor, geometry: Geometry) -> Tensor:
        """Compute the same as `BandLimitedConv2d`; attach a `Source` to the output if this saves memory."""
        if not (x.dim() == 4 and saves_for_backward() and _saves_memory(geometry)):
            return BandLimitedConv2d.convolve(self, x, geometry)
        if choose(x, self.weight, geometry, self.method).method != "spectral":
            return BandLimitedConv2d.convolve(self, x, geometry)
        y, coefficients = convolve_keeping(x, self.weight, geometry)
        y = _add_bias(y, self.bias)
        vars(y)[SOURCE] = Source(coefficients, self.bias, geometry, y._version)
        return y


@lru_cache(maxsize=4096)
def _saves_memory(geometry: Geometry) -> bool:
    """Return whether an output map has more values than coefficients; a strided or small map may not."""
    return 2 * geometry.coefficients < math.prod(geometry.out)


class BlockNorm2d(nn.BatchNorm2d):
    """A BatchNorm that saves the coefficients attached to its input, if any, for the backward pass.

    If there are such coefficients and `applies_relu` is set, the BatchNorm also applies the ReLU that
    follows, and the `BlockReLU` after it returns its input unchanged.
    """

    applies_relu = False

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 (torch's own argument name)
        """Normalise `input`, (batch, C, H, W), as `nn.BatchNorm2d` does; the class documents the ReLU."""
        source = Source.of(input) if saves_for_backward() else None
        if source is None or input.numel() == input.shape[1]:  # torch raises for one value per channel
            return nn.BatchNorm2d.forward(self, input)
        counts = self.num_batches_tracked if self.training and self.track_running_stats else None
        factor = self.momentum or 0.0
        if counts is not None and self.momentum is None:
            factor, counts = 1 / float(counts.add_(1)), None
        running = (self.running_mean, self.running_var)
        by_batch = self.training or (running[0] is None and running[1] is None)
        if self.training and not self.track_running_stats:
            running = (None, None)
        y: Tensor = _batch_norm(
            input, source.coefficients, source.bias, self.weight, self.bias, *running, counts, by_batch,
            factor, self.eps, source.geometry, self.applies_relu,
        )  # fmt: skip
        if self.applies_relu:
            vars(y)[RELU_APPLIED] = y._version
        return y


class BlockReLU(nn.ReLU):
    """A ReLU that saves one bit per element for the backward pass."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        """Return max(input, 0) for an input of any shape."""
        if not saves_for_backward():
            return nn.ReLU.forward(self, input)
        if getattr(input, RELU_APPLIED, None) == input._version:
            return input
        y: Tensor = relu_from_bits(input, self.inplace)
        return y


class BandLimitedBlock(nn.Sequential):
    """A band-limited `conv`, then `norm`, then an optional `relu`, with little memory in training.

    The output is relu(gamma * (y - mean) / sqrt(var + eps) + beta), where y is the band-limited convolution
    of the input (paper section 3). The three arguments become the layers of the block; only their classes
    change. The state dict is that of `nn.Sequential(conv, norm, relu)`. `compression`, `fft_size` and
    `method` are those of `BandLimitedConv2d`.

    Shapes: (batch, in_channels, H, W) -> (batch, out_channels, H_out, W_out). Raises `ValueError` for an
    illegal compression, fft_size or method.
    """

    def __init__(
        self,
        conv: nn.Conv2d,
        norm: nn.BatchNorm2d,
        relu: nn.ReLU | None = None,
        *,
        compression: float | EnergyBand = 0.0,
        fft_size: FftSize = "paper",
        method: Method = "auto",
    ) -> None:
        BlockConv2d(1, 1, 1).configure(compression, fft_size, method)  # raises before anything changes
        super().__init__(conv, norm, *([] if relu is None else [relu]))
        conv.__class__ = BlockConv2d
        cast(BlockConv2d, conv).configure(compression, fft_size, method)
        use_fused_norm_relu(self, {norm} if relu is not None else set())


def use_fused_norm_relu(model: nn.Module, followed_by_relu: set[nn.BatchNorm2d]) -> None:
    """Turn the model's BatchNorm2d and ReLU, in place, into `BlockNorm2d` and `BlockReLU`.

    `followed_by_relu` are the BatchNorms whose output goes to one ReLU and nowhere else.
    """
    for module in model.modules():
        # Only the class changes: parameters, buffers, hooks and references stay.
        if type(module) in (nn.BatchNorm2d, BlockNorm2d):
            module.__class__ = BlockNorm2d
            cast(BlockNorm2d, module).applies_relu = module in followed_by_relu
        elif type(module) is nn.ReLU:
            module.__class__ = BlockReLU


class BatchNormFromCoefficients(torch.autograd.Function):
    """BatchNorm, with or without a ReLU after it, that saves the coefficients of its input y instead of y.

    Instead of the output of the ReLU, it saves one bit per element: 1 if the ReLU set the element to zero.
    """

    @staticmethod
    def forward(
        ctx: Any,
        y: Tensor,
        coefficients: Tensor,
        bias: Tensor | None,
        gamma: Tensor | None,
        beta: Tensor | None,
        mean: Tensor | None,
        variance: Tensor | None,
        counts: Tensor | None,
        by_batch: bool,
        factor: float,
        eps: float,
        geometry: Geometry,
        applies_relu: bool,
    ) -> Tensor:
        """Normalise y (batch, channels, H, W), by its own statistics if `by_batch`, else by the running ones.

        `mean` and `variance` are the running statistics, and `counts` is the number of batches so far. With
        `by_batch`, the running statistics are updated with the weight `factor`, and `counts` grows by 1.
        `coefficients`, `bias` and `geometry` are those of y's `Source`.
        """
        parameters = gamma, beta, mean, variance
        if by_batch and _runs_forward(y, parameters):
            from blconv.kernels.fused import batch_norm_forward as kernels  # Numba is slow to import

            tensors = kernels.Parameters(*parameters, counts)
            normal, statistics, bits = kernels.normalise(y, tensors, factor, eps, relu=applies_relu)
            state: list[Tensor | None] = [statistics, None, None]
            backend = 0  # torch's own, whose backward pass takes these statistics
        else:
            if counts is not None:
                counts.add_(1)
            normal, *state, backend = torch._batch_norm_impl_index(
                y, *parameters, by_batch, factor, eps, torch.backends.cudnn.enabled
            )
            bits = relu_forward(normal, inplace=True)[1] if applies_relu else None
        given = (None, None) if by_batch else (mean, variance)
        ctx.save_for_backward(coefficients, bias, gamma, *given, *state, bits)
        ctx.settings = by_batch, eps, backend, geometry, is_channels_last(y), is_channels_last(normal)
        return normal

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Recompute y from its coefficients and return the gradients of the arguments of `forward`.

        Our CUDA kernel computes the gradients if it can. Torch's functions compute them if a second
        derivative may follow, and in other cases that the kernel does not support.
        """
        coefficients, bias, gamma, mean, variance, *state, reserve, bits = ctx.saved_tensors
        by_batch, eps, backend, geometry, channels_last, bits_channels_last = ctx.settings
        needs = ctx.needs_input_grad
        if by_batch and needs[0] and channels_last == bits_channels_last and _runs_kernels(grad):
            from blconv.kernels.fused import batch_norm_backward  # here, because Numba is slow to import

            layout = torch.channels_last if channels_last else torch.contiguous_format
            grad = grad.contiguous(memory_format=layout)
            y = synthesise(coefficients, geometry, channels_last=channels_last)
            statistics = state[0] if reserve is None else torch.stack(state).float()
            if bias is not None:  # the mean of y before its bias is added
                statistics = statistics - torch.stack((bias, torch.zeros_like(bias)))
            to_gamma, to_beta = batch_norm_backward.differentiate(grad, y, bits, gamma, statistics)
            # Autograd casts them to the dtypes of their parameters.
            to_affine = to_gamma if needs[3] else None, to_beta if needs[4] else None
            return y, None, None, *to_affine, *[None] * 8
        if reserve is None:  # the kernels' statistics
            state = list(state[0])
            reserve = grad  # torch's own backward pass does not read it
        if bits is not None:
            grad = relu_backward(grad, bits, channels_last=bits_channels_last)
        y = grad  # with given statistics the map is affine: only gamma's gradient depends on y
        if by_batch or needs[3]:
            y = _add_bias(synthesise(coefficients, geometry, channels_last=channels_last), bias)
        to_y, to_gamma, to_beta = torch.ops.aten._batch_norm_impl_index_backward(
            backend, y, grad, gamma, mean, variance, *state, by_batch, eps,
            [needs[0], needs[3], needs[4]], reserve,
        )  # fmt: skip
        return to_y, None, None, to_gamma, to_beta, *[None] * 8


# The method `apply` also tests for transforms of `torch.func`, which `saves_for_backward` has excluded.
_batch_norm = super(torch.autograd.Function, BatchNormFromCoefficients).apply


def _runs_forward(y: Tensor, parameters: tuple[Tensor | None, ...]) -> bool:
    """Return whether the CUDA kernel can normalise y, which requires parameters in float32."""
    for tensor in parameters:
        if tensor is not None and (tensor.dtype != torch.float32 or tensor.data_ptr() % 16):
            return False
    dense = y.is_contiguous() or y.is_contiguous(memory_format=torch.channels_last)
    return dense and y.dtype in KERNEL_DTYPES and y.numel() > 0 and runs_operators(y.device)


def _runs_kernels(grad: Tensor) -> bool:
    """Return whether our CUDA kernel can compute the gradients for `grad`, the gradient of the output.

    Unlike torch's kernel, it needs no memory for another map, because it overwrites one of its inputs.
    """
    runs = grad.dtype in KERNEL_DTYPES and grad.numel() > 0 and runs_operators(grad.device)
    return runs and not torch.is_grad_enabled()


def _add_bias(y: Tensor, bias: Tensor | None) -> Tensor:
    return y if bias is None else y + bias.to(y.dtype).view(-1, 1, 1)


def saves_for_backward() -> bool:
    """Return whether a backward pass may follow, for which the layer itself must choose the tensors to save.

    The result is False under `torch.compile`, which itself chooses the tensors to save, and within
    `torch.func` transforms, which have no saved tensors.
    """
    return (
        torch.is_grad_enabled()
        and not torch.compiler.is_compiling()
        and not torch._C._are_functorch_transforms_active()
    )
