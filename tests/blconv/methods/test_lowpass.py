import math

import numpy as np
import pytest
import torch

from blconv import tables
from blconv.band import AxisBand, Band
from blconv.methods.lowpass import low_pass

AXES = [
    AxisBand(8, 0, 0, 8, 3),
    AxisBand(8, 1, 1, 10, 3),
    AxisBand(9, 2, 2, 32, 7),
    AxisBand(7, 1, 2, 13, 6),
    AxisBand(1, 1, 1, 8, 1),
    AxisBand(5, 3, 0, 9, 4),
    AxisBand(32, 1, 1, 128, 26),
    AxisBand(11, 0, 0, 11, 1),
]
AXIS_IDS = [f"{a.before}+{a.length}+{a.after}of{a.size}k{a.kept}" for a in AXES]


def band(rows, columns=None):
    return Band((rows, columns or rows))


def matrix_of(axis):
    return tables.low_pass(axis)


@pytest.mark.parametrize("axis", AXES, ids=AXIS_IDS)
def test_matrix_is_pad_transform_cut_transform_back(axis):
    """Column j is the response to a unit impulse at pixel j, by numpy's transforms."""
    matrix = matrix_of(axis)
    assert matrix.shape == (axis.padded, axis.length)
    assert matrix.dtype == torch.float64
    padded = np.zeros((axis.length, axis.size))
    padded[:, axis.before : axis.before + axis.length] = np.eye(axis.length)
    spectrum = np.fft.rfft(padded)
    spectrum[:, axis.kept :] = 0
    wanted = np.fft.irfft(spectrum, axis.size)[:, : axis.padded].T
    np.testing.assert_allclose(matrix.numpy(), wanted, rtol=0, atol=1e-14)


@pytest.mark.parametrize("axis", AXES, ids=AXIS_IDS)
def test_matrix_is_the_dirichlet_kernel(axis):
    matrix = matrix_of(axis)
    for i in range(axis.padded):
        for j in range(axis.length):
            angle = math.pi * ((i - axis.before - j) % axis.size) / axis.size
            wide = 2 * axis.kept - 1
            wanted = wide if angle == 0 else math.sin(wide * angle) / math.sin(angle)
            assert float(matrix[i, j]) == pytest.approx(wanted / axis.size, abs=1e-13)


def test_where_nothing_is_cut_the_matrix_pads_exactly():
    matrix = matrix_of(AxisBand(3, 1, 2, 8, 5))
    wanted = [[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0], [0, 0, 0]]
    assert matrix.tolist() == wanted


@pytest.mark.parametrize(("size", "kept"), [(8, 3), (9, 2), (9, 4), (16, 1), (31, 9), (32, 16)])
def test_without_padding_it_is_the_projection_on_the_kept_waves(size, kept):
    matrix = matrix_of(AxisBand(size, 0, 0, size, kept))
    torch.testing.assert_close(matrix @ matrix, matrix, rtol=0, atol=1e-14)
    torch.testing.assert_close(matrix.T, matrix, rtol=0, atol=1e-14)
    assert float(matrix.trace()) == pytest.approx(2 * kept - 1)
    place = torch.arange(size, dtype=torch.float64)
    for frequency in range(size // 2 + 1):
        wave = torch.cos(2 * math.pi * frequency * place / size + 0.3)
        wanted = wave if frequency < kept else torch.zeros(size, dtype=torch.float64)
        torch.testing.assert_close(matrix @ wave, wanted, rtol=0, atol=1e-13)


def test_large_phases_lose_no_digit():
    size, kept, before = 1024, 400, 900
    matrix = matrix_of(AxisBand(100, before, 0, size, kept))
    for i, j in ((0, 0), (0, 99), (901, 0), (999, 3)):
        turns = [f * (i - before - j) % size for f in range(1, kept)]
        wanted = math.fsum([1, *(2 * math.cos(2 * math.pi * turn / size) for turn in turns)]) / size
        assert float(matrix[i, j]) == pytest.approx(wanted, abs=2e-16 * kept)


@pytest.mark.parametrize("shape", [(2, 3, 8, 9), (3, 8, 9), (0, 3, 8, 9), (1, 1, 8, 9), (2, 2, 3, 8, 9)])
def test_low_pass_of_planes(shape):
    rows, columns = AxisBand(8, 1, 1, 10, 3), AxisBand(9, 2, 2, 32, 7)
    x = torch.randn(shape, dtype=torch.float64)
    y = low_pass(x, band(rows, columns))
    assert y.shape == (*shape[:-2], rows.padded, columns.padded)
    left, right = matrix_of(rows), matrix_of(columns)
    torch.testing.assert_close(y, torch.einsum("ih,...hw,jw->...ij", left, x, right), rtol=0, atol=1e-13)


@pytest.mark.parametrize("requires_grad", [False, True])
def test_channels_last_stays(requires_grad):
    rows, columns = AxisBand(8, 1, 1, 10, 3), AxisBand(9, 2, 2, 32, 7)
    x = torch.randn(2, 5, 8, 9, dtype=torch.float64)
    last = x.to(memory_format=torch.channels_last).requires_grad_(requires_grad)
    y = low_pass(last, band(rows, columns))
    assert y.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(y, low_pass(x, band(rows, columns)), rtol=0, atol=1e-13)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_dtype_is_kept(dtype):
    assert low_pass(torch.ones(1, 1, 8, 8, dtype=dtype), band(AxisBand(8, 1, 1, 10, 3))).dtype == dtype


@pytest.mark.gpu
@pytest.mark.parametrize("length", [4, 16, 32, 33, 64])  # 33 and 64 pass the limit of the one-product form
@pytest.mark.parametrize("last", [False, True], ids=["contiguous", "channels_last"])
@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [(torch.float64, 1e-12), (torch.float32, 5e-6), (torch.bfloat16, 2e-2), (torch.float16, 3e-3)],
    ids=str,
)
def test_on_cuda(length, last, dtype, tolerance):
    axis = AxisBand.of(length, 3, padding=(1, 1), dilation=1, compression=0.5, fft_size="paper")
    x = torch.randn(4, 6, length, length, dtype=dtype, device="cuda")
    if last:
        x = x.to(memory_format=torch.channels_last)
    x.requires_grad_()
    matrix = matrix_of(axis)
    wanted = matrix @ x.detach().cpu().double() @ matrix.T
    y = low_pass(x, band(axis))
    assert (y.dtype, y.device.type) == (dtype, "cuda")
    if last:
        assert y.is_contiguous(memory_format=torch.channels_last)
    scale = float(wanted.abs().max())
    torch.testing.assert_close(y.cpu().double() / scale, wanted / scale, rtol=0, atol=tolerance)
    cotangent = torch.randn_like(y)
    (gradient,) = torch.autograd.grad(y, x, cotangent)
    wanted = matrix.T @ cotangent.cpu().double() @ matrix
    scale = float(wanted.abs().max())
    torch.testing.assert_close(gradient.cpu().double() / scale, wanted / scale, rtol=0, atol=tolerance)
