"""The kernels one by one: values in the simulator, generated code, memory and rounding."""

import math
import re

import numpy as np
import pytest
import torch
from support.simulator import kernels_on_cpu

from blconv.geometry import TransformAxis
from blconv.kernels.filters import sizes as filter_sizes
from blconv.kernels.filters.kernel import FilterSizes, fold, pack
from blconv.kernels.primitives import simulated, warp
from blconv.kernels.transforms.fragments import round_table
from blconv.kernels.transforms.planes import Float32Planes
from blconv.kernels.transforms.single import analysis, synthesis

OPT_IN_SHARED_BYTES = 163 * 1024  # of a block, in compute capability 8.0
REGISTERS = 65536  # of a block, at most
HALVES = {1: ("", "16"), 2: ("", "32"), 4: (".v2", "32")}  # how 1, 2 and 4 numbers of 16 bits are accessed
# Of the whole tensor, relative: products of rounded numbers, and rounded results.
TOLERANCES = {"split": 1e-6, "tf32": 1.5e-3, "bfloat16": 8e-3, "float16": 1.5e-3}
# Channels, then for rows and for columns (positions, first, step, size of the transform, kept).
MAPS = [
    (1, (1, 0, 1, 1, 1), (1, 0, 1, 1, 1)),
    (5, (1, 1, 1, 3, 1), (7, 1, 1, 9, 3)),
    (3, (7, 2, 1, 11, 5), (1, 0, 1, 4, 2)),
    (8, (4, 1, 1, 6, 1), (4, 1, 1, 6, 1)),
    (5, (3, 0, 3, 9, 2), (6, 0, 2, 13, 4)),
    (2, (13, 1, 1, 16, 3), (12, 3, 1, 32, 5)),
    (36, (2, 1, 1, 4, 2), (5, 1, 1, 7, 2)),
    (1, (9, 0, 2, 19, 9), (18, 1, 1, 20, 10)),
]
MEMORIES = [("float32", "split"), ("float32", "tf32"), ("bfloat16", "bfloat16"), ("float16", "float16")]


def frequencies(rows, columns):
    """(u, v) of the kept coefficients in their order, as indices of a full transform."""
    pairs = [(u, 0) for u in range(rows[-1])]
    pairs += [(u, v) for v in range(1, columns[-1]) for u in range(1 - rows[-1], rows[-1])]
    u, v = torch.tensor(pairs).T
    return u % rows[3], v


def positions(axis):
    count, first, step, *_ = axis
    return first + step * torch.arange(count)


def transform(x, rows, columns):
    """The kept coefficients (Q, images, parts, C) of x (images, C, H, W), by a full DFT in float64."""
    plane = x.new_zeros(*x.shape[:2], rows[3], columns[3], dtype=torch.float64)
    plane[:, :, positions(rows)[:, None], positions(columns)] = x.double()
    u, v = frequencies(rows, columns)
    z = torch.fft.fft2(plane, norm="ortho")[:, :, u, v].permute(2, 0, 1)
    return torch.stack([z.real, z.imag][: 1 if len(u) == 1 else 2], 2)


def inverse(z, rows, columns):
    """The real part at the wanted positions of a full inverse DFT of z (Q, images, parts, C)."""
    u, v = frequencies(rows, columns)
    parts = z.double().unbind(2)
    values = torch.complex(parts[0], parts[1] if len(parts) == 2 else torch.zeros_like(parts[0]))
    plane = torch.zeros(*values.shape[1:], rows[3], columns[3], dtype=torch.complex128)
    plane[:, :, u, v] = values.permute(1, 2, 0)
    y = torch.fft.ifft2(plane, norm="ortho").real
    return y[:, :, positions(rows)[:, None], positions(columns)]


def near(found, wanted, tolerance, case):
    assert found.shape == wanted.shape, case
    error = float((found.detach().double() - wanted.detach()).norm() / wanted.detach().norm())
    assert error < tolerance, (case, error)  # false for NaN


def setting(accuracy):
    """float32 in full for "split", as one product a number for "tf32"."""
    torch.backends.cuda.matmul.allow_tf32 = accuracy == "tf32"


def check_transforms():
    """Both transforms against full DFTs, over layouts, types and odd sizes."""
    from blconv.kernels import operators

    library = kernels_on_cpu()
    for n, (channels, rows, columns) in enumerate(MAPS):
        for last in (False, True):
            memory, accuracy = MEMORIES[(n + last) % len(MEMORIES)]
            case = (channels, rows, columns, last, accuracy)
            dtype, layout = getattr(torch, memory), (torch.contiguous_format, torch.channels_last)[last]
            setting(accuracy)
            axes = TransformAxis(*rows), TransformAxis(*columns)
            x = torch.randn(2, channels, rows[0], columns[0]).to(dtype)
            z = operators.analyse(x.contiguous(memory_format=layout), axes)
            wanted = transform(x, rows, columns)
            near(z.view(wanted.shape), wanted, TOLERANCES[accuracy], ("analysis", *case))
            z = torch.randn(wanted.shape).to(dtype)
            y = operators.synthesise(z.flatten(2), axes, channels, last)
            assert y.is_contiguous(memory_format=layout), case
            near(y, inverse(z, rows, columns), TOLERANCES[accuracy], ("synthesis", *case))
    del library


NCHW, NHWC = torch.contiguous_format, torch.channels_last
# Weights, their layout and dilation, and (size, kept) of the transforms of rows and of columns.
WEIGHTS = [
    ((1, 1, 1, 1), NCHW, (1, 1), (5, 2), (4, 2)),
    ((33, 9, 3, 3), NHWC, (1, 1), (6, 2), (6, 2)),
    ((3, 34, 2, 3), NHWC, (2, 1), (9, 3), (8, 4)),
    ((5, 3, 1, 7), NCHW, (1, 1), (4, 2), (15, 3)),
    ((8, 5, 3, 3), NHWC, (1, 1), (6, 1), (6, 1)),
    ((34, 9, 3, 2), NCHW, (1, 2), (6, 2), (6, 2)),
]


def spectra(weight, dilation, rows, columns):
    """The real form (Q, parts C, parts O) of conj(DFT(weight)), times its share of the spectrum."""
    spread = weight.new_zeros(*weight.shape[:2], rows[0], columns[0])
    taps = [torch.arange(n) * d for n, d in zip(weight.shape[2:], dilation, strict=True)]
    spread[:, :, taps[0][:, None], taps[1]] = weight
    u, v = frequencies((0, 0, 1, *rows), (0, 0, 1, *columns))
    spectrum = torch.fft.fft2(spread)[:, :, u, v].conj().permute(2, 1, 0)
    spectrum = spectrum * torch.where(torch.arange(len(u)) == 0, 1, 2)[:, None, None]
    if len(u) == 1:
        return spectrum.real
    upper, lower = [spectrum.real, spectrum.imag], [-spectrum.imag, spectrum.real]
    return torch.cat([torch.cat(upper, 2), torch.cat(lower, 2)], 1)


def check_filters():
    """Packing against full DFTs, folding against their gradient; several frequencies a block, too."""
    from blconv.kernels import launches, operators

    library = kernels_on_cpu()
    filter_sizes.PACKING_BLOCKS = 4
    for n, (shape, layout, dilation, rows, columns) in enumerate(WEIGHTS):
        memory, accuracy = MEMORIES[n % len(MEMORIES)]
        case = (shape, layout, dilation, rows, columns, accuracy)
        setting(accuracy)
        weight = torch.randn(shape).to(getattr(torch, memory)).contiguous(memory_format=layout)
        sizes = zip(shape[2:], dilation, (rows, columns), strict=True)
        axes = tuple(TransformAxis(taps, 0, step, *points) for taps, step, points in sizes)
        exact = weight.detach().double().requires_grad_()
        wanted = spectra(exact, dilation, rows, columns)
        weight.requires_grad_()
        v = operators.pack(weight, axes)
        near(v, wanted, TOLERANCES[accuracy], ("pack", *case))
        cotangent = torch.randn(v.shape).to(v.dtype)
        (found,) = torch.autograd.grad(v, weight, cotangent)
        (gradient,) = torch.autograd.grad(wanted, exact, cotangent.double())
        near(found, gradient, TOLERANCES[accuracy], ("fold", *case))
        turned = launches.pack(weight.detach(), axes, transposed=True)
        assert torch.equal(turned.mT, v), case
    del library


@pytest.mark.parametrize("check", [check_transforms, check_filters])
def test_in_the_simulator(check, simulate):
    simulate(check)


# Of every kind: with vectors of 1, 2 and 4, blocks of 8, 16 and 32 channels, the oldest GPU and the newest.
KERNELS = {
    "analysis nhwc split": ((8, 0), lambda: analysis(Float32Planes(16, 9, 9, 3, 4, True, "split"))),
    "analysis nhwc": ((9, 0), lambda: analysis(Float32Planes(64, 16, 16, 7, 7, True, "tf32"))),
    "analysis nchw split": ((9, 0), lambda: analysis(Float32Planes(8, 16, 16, 4, 4, False, "split"))),
    "analysis nchw": ((8, 0), lambda: analysis(Float32Planes(64, 7, 10, 3, 3, False, "tf32"))),
    "analysis nhwc of 3": ((8, 0), lambda: analysis(Float32Planes(3, 5, 5, 2, 2, True, "tf32"))),
    "analysis nchw of 3": ((9, 0), lambda: analysis(Float32Planes(3, 5, 5, 1, 1, False, "tf32"))),
    "synthesis nhwc split": ((9, 0), lambda: synthesis(Float32Planes(16, 9, 9, 3, 4, True, "split"))),
    "synthesis nhwc": ((8, 0), lambda: synthesis(Float32Planes(64, 16, 16, 7, 7, True, "tf32"))),
    "synthesis nchw split": ((8, 0), lambda: synthesis(Float32Planes(8, 16, 16, 4, 4, False, "split"))),
    "synthesis nchw": ((9, 0), lambda: synthesis(Float32Planes(64, 7, 10, 3, 3, False, "tf32"))),
    "synthesis nhwc of 3": ((9, 0), lambda: synthesis(Float32Planes(3, 5, 5, 1, 1, True, "tf32"))),
    "synthesis nchw of 3": ((8, 0), lambda: synthesis(Float32Planes(3, 5, 5, 2, 2, False, "tf32"))),
    "pack": (
        (9, 0),
        lambda: pack(FilterSizes(64, 64, 9, 265, (2, 2), True, False, "float32", rounds_to_tf32=True)),
    ),
    "pack turned": (
        (8, 0),
        lambda: pack(FilterSizes(5, 3, 9, 6, (2, 2), True, True, "bfloat16", transposed=True)),
    ),
    "fold": ((8, 0), lambda: fold(FilterSizes(64, 64, 9, 265, (2, 2), True, False, "float32"))),
    "fold fp16": ((9, 0), lambda: fold(FilterSizes(5, 3, 49, 1, (1, 1), False, True, "float16"))),
}


@pytest.mark.parametrize("name", KERNELS)
def test_code(name, compile_kernel):
    capability, make = KERNELS[name]
    kernel = make()
    code = compile_kernel(kernel, capability)
    assert ("mma.sync.aligned" in code.body) == name.startswith(("analysis", "synthesis"))
    assert kernel.shared_bytes <= OPT_IN_SHARED_BYTES
    assert code.registers * kernel.threads <= REGISTERS


@pytest.mark.parametrize("make", [analysis, synthesis])
@pytest.mark.parametrize("last", [False, True], ids=["nchw", "nhwc"])
def test_code_of_a_resnets_largest_tables(make, last, compile_kernel):
    kernel = make(Float32Planes(64, 32, 32, 12, 12, last, "split"))
    assert compile_kernel(kernel, (9, 0)).registers * kernel.threads <= REGISTERS


def test_assembly_of_vectors():
    assert warp.load_assembly("float32", 4) == "ld.global.nc.v4.f32 {$0,$1,$2,$3}, [$4];"
    assert warp.load_assembly("float32", 1) == "ld.global.nc.f32 $0, [$1];"
    assert warp.store_assembly("float32", 2) == "st.global.v2.f32 [$0], {$1,$2};"
    assert warp.store_assembly("float32", 1) == "st.global.f32 [$0], $1;"
    for width in (1, 2, 4):
        for dtype, short in (("bfloat16", "bf16"), ("float16", "f16")):
            load, store = warp.load_assembly(dtype, width), warp.store_assembly(dtype, width)
            for text in (load, store):
                assert text.count("{") == text.count("}")
                assert {int(n) for n in re.findall(r"\$(\d+)", text)} == set(range(width + 1))
            # One access to memory, of all the numbers.
            assert re.findall(r"ld\.global\.nc(\.v\d)?\.b(\d+)", load) == [HALVES[width]]
            assert re.findall(r"st\.global(\.v\d)?\.b(\d+)", store) == [HALVES[width]]
            assert store.count(f"cvt.rn.{short}") == max(1, width // 2)


@pytest.mark.parametrize("width", [1, 2, 4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_simulators_memory_is_torchs(dtype, width):
    """Reading is exact; writing rounds_to_tf32 to nearest, ties to even, as a conversion in torch does."""
    name = str(dtype).removeprefix("torch.")
    ties = torch.tensor([1 + 2.0**-8, 1 + 3 * 2.0**-8, 1 + 2.0**-11, 1 + 3 * 2.0**-11, -1 - 2.0**-8])
    special = torch.tensor([0.0, -0.0, torch.inf, -torch.inf, torch.nan, 3e-8, 65519.0, 65520.0, 1e38, 0.1])
    values = torch.cat([ties, special, torch.randn(49)])
    memory = torch.empty(64, dtype=dtype)
    words = memory if dtype is torch.float32 else memory.view(torch.uint16)
    read, write = simulated.loader(name, width), simulated.storer(name, width)
    with np.errstate(over="ignore"):
        for at in range(0, 64, width):
            part = values[at : at + width].tolist()
            write(words.numpy(), at, part[0] if width == 1 else part)
    same = {"rtol": 0, "atol": 0, "equal_nan": True}
    torch.testing.assert_close(memory, values.to(dtype), **same)
    found = [np.ravel(read(words.numpy(), at)) for at in range(0, 64, width)]
    torch.testing.assert_close(torch.tensor(np.concatenate(found)), memory.float(), **same)


def nearest(x):
    """x with 11 significant bits, ties away from zero."""
    fraction, exponent = math.frexp(x)
    return math.copysign(math.ldexp(math.floor(abs(fraction) * 2**11 + 0.5), exponent - 11), x)


def test_rounding_to_tf32():
    ties = [1 + 2.0**-11, 1 + 3 * 2.0**-11, -1 - 2.0**-11, 2 - 2.0**-11, 0.0, -0.0, 1e-30, -3e38]
    values = torch.cat([torch.tensor(ties), torch.randn(500) * 10 ** (10 * torch.randn(500)).clamp(-30, 30)])
    wanted = torch.tensor([nearest(x) for x in values.tolist()])
    assert torch.equal(torch.tensor([simulated.tf32(x) for x in values.tolist()]), wanted)
    assert torch.equal(round_table(values.double(), split=False), wanted)
    table = torch.randn(500, dtype=torch.float64)
    high, low = round_table(table, split=True).double()
    assert torch.equal(high, torch.tensor([nearest(x) for x in high.tolist()], dtype=torch.float64))
    assert torch.equal(low, torch.tensor([nearest(x) for x in low.tolist()], dtype=torch.float64))
    assert float(((high + low - table) / table).abs().max()) < 2**-22
