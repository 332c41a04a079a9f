"""The method "spectral" on our kernels, forward and backward, as a program for each pass.

    V = pack(w)    z = analyse(x)    Y = z V    y = synthesise(Y)
    g = analyse(dy)    dV = z^T g    dw = fold(dV)    dz = g V^T    dx = synthesise(dz)

x, w and y are the input, the filters and the output; z and Y are the kept coefficients of x and y, and V are
matrices made from w. dx, dw, dy, dz and dV are gradients, and g is the gradient of Y. The shapes are those of
`blconv.kernels.operators`. Everything that does not depend on the batch is computed once per layer shape. So
a call only allocates its results and calls compiled code once.
"""

from functools import cached_property, lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from blconv.geometry import Geometry, TransformAxis
from blconv.kernels.plans import aligned, filter_plan, transform_plan
from blconv.kernels.runtime.program import Buffer, Fork, Join, Place, Product, Program, Step
from blconv.kernels.transforms.fragments import coefficient_count, part_count


class LayerAxes(NamedTuple):
    """The transform axes of a layer's input, output and filters."""

    inputs: tuple[TransformAxis, ...]
    outputs: tuple[TransformAxis, ...]
    filters: tuple[TransformAxis, ...]

    @staticmethod
    def of(geometry: Geometry) -> "LayerAxes":
        """Return the axes of a convolution with these sizes."""
        return LayerAxes(geometry.input_axes, geometry.output_axes, geometry.filter_axes)


axes_of = lru_cache(maxsize=4096)(LayerAxes.of)


class Convolution:
    """A convolution of x (batch, C, H, W) with filters w (O, C, K_h, K_w), for given sizes and layouts."""

    def __init__(
        self,
        axes: LayerAxes,
        dtype: torch.dtype,
        channels: int,
        outputs: int,
        layouts: tuple[bool, bool],
        split: bool,
        device: torch.device,
    ) -> None:
        """Plan all kernels. `channels` is C, and `outputs` is O.

        `layouts` states for x and for w whether channels are last in memory; the output y has the memory
        format of x. `split` states whether matrix products have full float32 precision.
        """
        last, w_last = layouts
        count = coefficient_count(axes.inputs[0].kept, axes.inputs[1].kept)
        parts = part_count(count)
        self._dtype, self._device, self._outputs = dtype, device, outputs
        self._layout = torch.channels_last if last else torch.contiguous_format
        self._count, self._inner, self._outer = count, parts * channels, parts * outputs
        self.axes, self.channels, self.last = axes, channels, last
        self._image = _Memory(channels, axes.inputs, last)
        self._result = _Memory(outputs, axes.outputs, last)
        self._filters = _Memory(channels, axes.filters, w_last)
        # All constants exist from the first call on, not only from the first backward pass: a CUDA graph of
        # that pass must not hold the only copy.
        setting = last, split, device
        self._analyse_x = transform_plan("analysis", dtype, channels, axes.inputs, *setting)
        self._synthesise_x = transform_plan("synthesis", dtype, channels, axes.inputs, *setting)
        self._analyse_y = transform_plan("analysis", dtype, outputs, axes.outputs, *setting)
        self._synthesise_y = transform_plan("synthesis", dtype, outputs, axes.outputs, *setting)
        shape = outputs, channels, *(axis.positions for axis in axes.filters)
        rounds = dtype == torch.float32 and not split
        self._pack_transposed = filter_plan("pack", dtype, shape, axes.filters, w_last, True, rounds, device)
        self._pack = filter_plan("pack", dtype, shape, axes.filters, w_last, False, rounds, device)
        self._fold = filter_plan("fold", dtype, shape, axes.filters, w_last, False, False, device)

    def forward(self, x: Tensor, w: Tensor, keep: bool) -> tuple[Tensor, ...]:
        """Return (y, z), the output and the coefficients of x; or with `keep` (y, z, Y), also those of y.

        x and w must be dense in memory, with the layouts that this object was made for.
        """
        batch = x.shape[0]
        z, y = x.new_empty(self._count, batch, self._inner), self._result.empty(x, batch)
        if keep:
            coefficients = x.new_empty(self._count, batch, self._outer)
            self._forward_keeping.run(batch, x, w, z, y, coefficients)
            return y, z, coefficients
        self._forward.run(batch, x, w, z, y)
        return y, z

    def backward(
        self, z: Tensor, w: Tensor, dy: Tensor, *, to_x: bool, to_w: bool
    ) -> tuple[Tensor | None, Tensor | None]:
        """Return the gradients of x (if `to_x`, else None) and of w (if `to_w`, else None).

        `z` are the coefficients of x from `forward`, and `dy` is the output's gradient. w must be dense.
        """
        batch = z.shape[1]
        dy = aligned(dy.contiguous(memory_format=self._layout))
        dx = self._image.empty(z, batch) if to_x else None
        dw = self._filters.empty(w, self._outputs) if to_w else None
        program = self._backward if to_x and to_w else self._backward_to_one[to_w]
        program.run(batch, dy, z, w, z if dx is None else dx, w if dw is None else dw)
        return dx, dw

    @cached_property
    def _forward(self) -> Program:
        buffers = [self._coefficients(self._outer), self._transposed_matrices]
        return Program(self._device, self._forward_steps(), 4, buffers)

    @cached_property
    def _forward_keeping(self) -> Program:
        return Program(self._device, self._forward_steps(), 5, [self._transposed_matrices])

    def _forward_steps(self) -> list[Step]:
        x, w, z, y, coefficients, v = (Place(n) for n in range(1, 7))
        return [
            Fork(),
            # The summed index is contiguous in both operands: tensor cores read this layout fastest.
            self._pack_transposed.step(w, v, aside=True),
            self._analyse_x.step(x, z),
            Join(),
            self._product(z, v, coefficients, None, self._inner, self._outer, right_transposed=True),
            self._synthesise_y.step(coefficients, y),
        ]

    @cached_property
    def _backward(self) -> Program:
        return self._backward_program(to_x=True, to_w=True)

    @cached_property
    def _backward_to_one(self) -> tuple[Program, Program]:
        """The programs of the backward pass to x alone and to w alone."""
        return (
            self._backward_program(to_x=True, to_w=False), self._backward_program(to_x=False, to_w=True),
        )  # fmt: skip

    def _backward_program(self, *, to_x: bool, to_w: bool) -> Program:
        dy, z, w, dx, dw, g, v, dz, dv = (Place(n) for n in range(1, 10))
        steps: list[Step] = [Fork()]
        if to_x:
            steps += [self._pack.step(w, v, aside=True)]
        steps += [self._analyse_y.step(dy, g), Join()]
        if to_w:
            steps += [
                self._product(z, g, dv, self._inner, None, self._outer, left_transposed=True),
                Fork(),
                self._fold.step(dv, dw, aside=True),
            ]
        if to_x:
            steps += [
                self._product(g, v, dz, None, self._outer, self._inner, right_transposed=True),
                self._synthesise_x.step(dz, dx),
            ]
        if to_w:
            steps += [Join()]
        buffers = [
            self._coefficients(self._outer),
            Buffer((self._count * to_x, self._inner, self._outer), self._dtype),
            self._coefficients(self._inner * to_x),
            Buffer((self._count * to_w, self._inner, self._outer), self._dtype),
        ]
        return Program(self._device, steps, 5, buffers)

    def _coefficients(self, width: int) -> Buffer:
        return Buffer((self._count, None, width), self._dtype)

    @property
    def _transposed_matrices(self) -> Buffer:
        return Buffer((self._count, self._outer, self._inner), self._dtype)

    def _product(
        self, left: Place, right: Place, out: Place, rows: int | None, inner: int | None, columns: int,
        *, left_transposed: bool = False, right_transposed: bool = False,
    ) -> Product:  # fmt: skip
        sizes = self._count, rows, inner, columns
        return Product(left, right, out, *sizes, self._dtype, left_transposed, right_transposed)


class _Memory:
    """The sizes and strides of images, or of filters, of C channels in one layout."""

    def __init__(self, channels: int, axes: tuple[TransformAxis, ...], channels_last: bool) -> None:
        rows, columns = (axis.positions for axis in axes)
        self._sizes = channels, rows, columns
        numbers = channels * rows * columns
        if channels_last:
            self._strides = numbers, 1, columns * channels, channels
        else:
            self._strides = numbers, rows * columns, columns, 1

    def empty(self, like: Tensor, count: int) -> Tensor:
        """Return an uninitialised tensor for `count` images or filters, with dtype and device of `like`."""
        return like.new_empty_strided((count, *self._sizes), self._strides)


convolution = lru_cache(maxsize=4096)(Convolution)
