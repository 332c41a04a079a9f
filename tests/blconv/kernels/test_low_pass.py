"""The low-pass form's kernel and operator: R x S^T, its adjoint, and where it runs."""

from itertools import product

import pytest
import torch

from blconv import tables
from blconv.band import AxisBand, Band
from blconv.functional import band_limited_conv2d
from blconv.kernels import launches, operators
from blconv.kernels.limits import low_pass_planes_fit
from blconv.kernels.low_pass.kernel import low_pass
from blconv.kernels.low_pass.sizes import LowPassSizes, operands
from blconv.kernels.runtime.program import launch
from blconv.layout import is_channels_last
from blrobust.device import full_precision

PRECISIONS = [("float32", "tf32", 2e-3), ("float32", "split", 2e-6), ("bfloat16", "tf32", 5e-3)]
PRECISIONS += [("float16", "tf32", 1e-3)]
# Channels, height and width, rows and columns of the result.
SMALL = [
    (4, 4, 4, 6, 6),
    (8, 6, 6, 4, 4),
    (6, 8, 8, 10, 10),  # two channels a vector, three vectors of a block's eight
    (3, 5, 7, 7, 9),
    (36, 2, 3, 3, 2),
    (2, 1, 1, 3, 3),
    (1, 3, 3, 1, 1),
    (1, 17, 2, 18, 3),
]
LARGE = [(64, 32, 32, 34, 34), (64, 34, 34, 32, 32), (12, 56, 56, 58, 58), (5, 40, 33, 37, 41)]
LARGE += [(2, 3, 50, 3, 2), (2, 9, 20, 2, 17), (128, 16, 16, 18, 18), (256, 10, 10, 8, 8), (512, 4, 4, 6, 6)]


def result_of(maps, rows, columns, x):
    """The kernel's answer, in memory that was not a number before."""
    layout = torch.channels_last if maps.channels_last else torch.contiguous_format
    y = torch.full((*x.shape[:2], maps.rows, maps.columns), torch.nan, dtype=x.dtype, device=x.device)
    y = y.contiguous(memory_format=layout)
    tables = [table.to(x.device) for table in operands(maps, rows, columns)]
    launch(low_pass(maps), maps.blocks(len(x)), x.contiguous(memory_format=layout), y, *tables, len(x))
    return y


def check_products(device, sizes, images, precisions=PRECISIONS):
    """Any two matrices, in both layouts."""
    torch.manual_seed(0)
    for channels, height, width, rows, columns in sizes:
        left, right = torch.randn(rows, height).double(), torch.randn(columns, width).double()
        for memory, precision, tolerance in precisions:
            x = torch.randn(images, channels, height, width).to(getattr(torch, memory))
            wanted = left @ x.double() @ right.T
            for last in (False, True):
                maps = LowPassSizes(channels, height, width, rows, columns, last, memory, precision)
                y = result_of(maps, left, right, x.to(device)).double().cpu()
                assert float((y - wanted).norm()) < tolerance * float(wanted.norm()), maps


def check_a_nan_stays_in_its_image(device):
    for memory, last in product(("float32", "bfloat16"), (False, True)):
        maps = LowPassSizes(6, 5, 5, 6, 6, last, memory, "tf32")
        x = torch.randn(3, 6, 5, 5, device=device).to(getattr(torch, memory))
        x[1, 2, 3, 4] = torch.nan
        y = result_of(maps, torch.randn(6, 5).double(), torch.randn(6, 5).double(), x)
        assert y[[0, 2]].isfinite().all()
        assert not y[1].isfinite().all()


def check_operator(device):
    """Values and both gradients against float64, and <A x, y> = <x, A^T y>, from memory of any kind."""
    torch.manual_seed(0)
    rows, columns = AxisBand(6, 1, 1, 16, 4), AxisBand(5, 2, 0, 7, 2)
    left, right = tables.low_pass(rows), tables.low_pass(columns)
    plain = torch.randn(2, 3, 6, 5).to(device)
    odd = torch.randn(plain.numel() + 1, device=device)[1:].view(plain.shape)
    last = torch.channels_last
    for given in (plain, plain.to(memory_format=last)):
        checks = ("test_schema", "test_autograd_registration", "test_faketensor")
        arguments = (given.clone().requires_grad_(), [*rows, *columns], False)
        torch.library.opcheck(operators.ops.low_pass, arguments, test_utils=checks)
    inputs = [odd, plain.to(memory_format=last), plain.mT.contiguous().mT, plain[:, :1], plain[:0]]
    for given in inputs:
        x = given.detach().requires_grad_()
        y = operators.low_pass(x, (rows, columns), False)
        wanted = left @ x.detach().cpu().double() @ right.T
        torch.testing.assert_close(y.detach().cpu().double(), wanted, rtol=0, atol=1e-5)
        cotangent = torch.randn_like(y.mT).mT.requires_grad_()  # in a layout of its own
        (gradient,) = torch.autograd.grad(y, x, cotangent, create_graph=True)
        wanted = left.T @ cotangent.detach().cpu().double() @ right
        torch.testing.assert_close(gradient.detach().cpu().double(), wanted, rtol=0, atol=1e-5)
        with torch.no_grad():
            assert float((y * cotangent).sum()) == pytest.approx(float((x * gradient).sum()), abs=1e-3)
        (again,) = torch.autograd.grad(gradient, cotangent, x)  # linear: its derivative is itself
        torch.testing.assert_close(again, y)
        assert is_channels_last(y) == is_channels_last(x) == is_channels_last(gradient)


def check_in_the_simulator():
    """On the CPU, with the operator's CUDA code registered for it, in this process alone."""
    library = torch.library.Library("blconv", "IMPL")
    library.impl("low_pass", operators.KERNELS["low_pass"], "CPU")
    check_products("cpu", SMALL[:2], 2)
    check_products("cpu", SMALL[2:], 2, PRECISIONS[1:3])
    check_a_nan_stays_in_its_image("cpu")
    check_operator("cpu")


def test_in_the_simulator(simulate):
    simulate(check_in_the_simulator)


@pytest.mark.parametrize("last", [False, True], ids=["contiguous", "channels_last"])
@pytest.mark.parametrize(("memory", "precision", "tolerance"), PRECISIONS[:3])
def test_registers_and_instructions(memory, precision, tolerance, last, compile_kernel):
    for sizes, capability in ((LARGE[0], (8, 0)), (LARGE[0], (9, 0)), (LARGE[1], (9, 0))):
        code = compile_kernel(low_pass(LowPassSizes(*sizes, last, memory, precision)), capability)
        kind = "m16n8k16.row.col.f32.bf16" if last and memory == "bfloat16" else "m16n8k8.row.col.f32.tf32"
        assert f"mma.sync.aligned.{kind}" in code.ptx
        assert code.registers <= 168


@pytest.mark.parametrize("last", [False, True], ids=["contiguous", "channels_last"])
def test_what_fits_is_what_the_kernels_hold(last):
    for side in (1, 2, 7, 32, 56, 57, 64, 70, 71, 200):
        axis = AxisBand(side, 1, 1, side + 2, 1)
        there, back = ((side, side, side + 2, side + 2), (side + 2, side + 2, side, side))
        kinds = product((there, back), PRECISIONS)
        held = [LowPassSizes(3, *sizes, last, *kind[:2]).shared_bytes for sizes, kind in kinds]
        if low_pass_planes_fit(Band((axis, axis)), channels_last=last):
            assert max(held) <= 112 * 1024
        else:
            assert side > (56 if last else 70)
    empty = Band((AxisBand(0, 1, 1, 4, 1), AxisBand(4, 0, 0, 4, 1)))
    assert not low_pass_planes_fit(empty, channels_last=last)


@pytest.mark.gpu
class TestOnCuda:
    def test_products(self):
        check_products("cuda", SMALL + LARGE, 5)

    def test_a_nan_stays_in_its_image(self):
        check_a_nan_stays_in_its_image("cuda")

    def test_operator(self):
        with full_precision():
            check_operator("cuda")

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_under_autocast_it_reads_and_writes_half_the_bytes(self, dtype, monkeypatch):
        seen = []
        monkeypatch.setattr(
            launches, "low_pass", lambda x, *rest: seen.append(x.dtype) or x.new_zeros(2, 8, 8, 8)
        )
        x, weight = torch.randn(2, 8, 6, 6, device="cuda"), torch.randn(8, 8, 3, 3, device="cuda")
        with torch.autocast("cuda", dtype=dtype):
            y = band_limited_conv2d(x, weight, padding=1, compression=0.5, method="lowpass")
        assert seen == [dtype]
        assert y.dtype == dtype

    def test_the_same_bits_again(self):
        x = torch.randn(8, 64, 32, 32, device="cuda")
        bands = (AxisBand(32, 1, 1, 128, 30),) * 2
        for layout in (torch.contiguous_format, torch.channels_last):
            given = x.contiguous(memory_format=layout)
            assert torch.equal(
                operators.low_pass(given, bands, False), operators.low_pass(given, bands, False)
            )
