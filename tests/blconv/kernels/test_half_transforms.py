"""The 16-bit transforms: in Numba's simulator against the definition in float64, and as machine code."""

import math
import warnings

import pytest
import torch

pytest.importorskip("numba_cuda")

from blconv.geometry import TransformAxis
from blconv.kernels.runtime.program import launch
from blconv.kernels.transforms.half import analysis, analysis_tables, synthesis, synthesis_tables
from blconv.kernels.transforms.half_fragments import from_pixels, table_scale
from blconv.kernels.transforms.half_planes import HalfPlanes

# channels, (positions, start, step, size, kept) of rows and of columns, channels last, memory
CASES = [
    (4, (4, 1, 1, 6, 1), (4, 1, 1, 6, 1), True, "bfloat16"),  # the mean alone
    (2, (1, 1, 1, 3, 1), (1, 1, 1, 3, 1), False, "float16"),  # a single pixel
    (6, (1, 0, 1, 5, 2), (3, 2, 1, 7, 3), True, "float16"),  # vectors of 2 channels
    (3, (5, 1, 1, 7, 3), (7, 1, 1, 9, 2), True, "bfloat16"),  # odd and prime, channels one by one
    (3, (7, 1, 1, 11, 4), (5, 0, 1, 7, 3), False, "bfloat16"),  # pixels one by one
    (5, (3, 0, 2, 7, 3), (4, 0, 2, 9, 4), True, "float16"),  # strides
    (12, (5, 1, 3, 17, 5), (6, 1, 2, 13, 4), False, "bfloat16"),  # pixels in pairs, 2 tiles, steps
    (20, (3, 1, 1, 5, 2), (3, 1, 1, 5, 2), True, "bfloat16"),  # a second block, not full
    (8, (6, 1, 1, 8, 3), (12, 1, 1, 14, 5), False, "float16"),  # pixels in fours
    (8, (12, 1, 1, 14, 9), (3, 1, 1, 5, 2), True, "float16"),  # 4 warps; two tiles of frequencies
    (8, (2, 1, 1, 4, 2), (40, 1, 1, 42, 10), False, "bfloat16"),  # pixels in eights
]
TOLERANCE = {"bfloat16": 5e-3, "float16": 6e-4}

IMAGES, CPU = 2, torch.device("cpu")


def waves(rows, columns):
    """exp(-2 pi i (u i / size + v j / size)) of every coefficient kept, complex128 (Q, H, W), orthonormal."""
    q = [(u, 0) for u in range(rows.kept)]
    q += [(u, v) for v in range(1, columns.kept) for u in range(1 - rows.kept, rows.kept)]
    u, v = torch.tensor(q, dtype=torch.float64).T
    i = rows.start + rows.step * torch.arange(rows.positions).double()
    j = columns.start + columns.step * torch.arange(columns.positions).double()
    phase = u[:, None, None] * i[:, None] / rows.size + v[:, None, None] * j / columns.size
    return torch.exp(-2j * math.pi * phase) / math.sqrt(rows.size * columns.size)


def analysed(planes, axes, x):
    z = torch.full((planes.coefficient_count, IMAGES, planes.parts, planes.channels), math.nan, dtype=x.dtype)
    x = x.permute(0, 2, 3, 1).contiguous() if planes.channels_last else x
    launch(analysis(planes), IMAGES * planes.chunks, x, z, *analysis_tables(planes, *axes, CPU), IMAGES)
    return z


def synthesised(planes, axes, z):
    b, c, h, w = IMAGES, planes.channels, planes.height, planes.width
    y = torch.full((b, h, w, c) if planes.channels_last else (b, c, h, w), math.nan, dtype=z.dtype)
    launch(synthesis(planes), IMAGES * planes.chunks, z, y, *synthesis_tables(planes, *axes, CPU), IMAGES)
    return y.permute(0, 3, 1, 2) if planes.channels_last else y


def error(found, wanted):
    return float((found.double() - wanted).norm() / wanted.norm())


def check_values():
    for case in CASES:
        channels, rows, columns, channels_last, memory = case
        axes = TransformAxis(*rows), TransformAxis(*columns)
        planes = HalfPlanes(channels, rows[0], columns[0], rows[4], columns[4], channels_last, memory)
        dtype = getattr(torch, memory)
        x = torch.randn(IMAGES, channels, rows[0], columns[0]).abs().to(dtype)
        z = analysed(planes, axes, x)
        wave = waves(*axes)
        wanted = torch.view_as_real(torch.einsum("qij,bcij->qbc", wave, x.to(wave.dtype))).movedim(-1, 2)
        assert error(z, wanted[:, :, : planes.parts]) < TOLERANCE[memory], case
        z = torch.randn(z.shape).to(dtype)
        parts = torch.cat([z, torch.zeros_like(z)], 2)[:, :, :2].double()
        coefficients = torch.complex(parts[:, :, 0], parts[:, :, 1])
        wanted = torch.einsum("qij,qbc->bcij", wave.conj(), coefficients).real
        assert error(synthesised(planes, axes, z), wanted) < TOLERANCE[memory], case


def check_an_infinity_stays_in_its_plane():
    warnings.filterwarnings("ignore", "invalid value", RuntimeWarning)  # NumPy's, of inf * 0
    axes = TransformAxis(5, 1, 1, 7, 3), TransformAxis(6, 1, 1, 8, 3)
    for channels_last in (False, True):
        planes = HalfPlanes(8, 5, 6, 3, 3, channels_last, "float16")
        x = torch.randn(IMAGES, 8, 5, 6).half()
        z = analysed(planes, axes, x)
        x[0, 2, 4, 5] = z[3, 0, 0, 2] = math.inf
        found, others = analysed(planes, axes, x), [0, 1, 3, 4, 5, 6, 7]
        assert not found[:, 0, :, 2].isfinite().all()
        assert found[:, 0, :, others].isfinite().all()
        assert found[:, 1].isfinite().all()
        found = synthesised(planes, axes, z)
        assert not found[0, 2].isfinite().all()
        assert found[0, others].isfinite().all()
        assert found[1].isfinite().all()


@pytest.mark.parametrize("check", [check_values, check_an_infinity_stays_in_its_plane])
def test_in_the_simulator(check, simulate):
    simulate(check)


@pytest.mark.parametrize("size", [3, 4, 8, 10, 18, 34, 63, 128])
def test_the_mean_is_exact(size):
    axis = TransformAxis(size, 0, 1, size, 1)
    mean = from_pixels(axis, -1, 2, torch.bfloat16).view(torch.bfloat16).max().item()
    assert mean * table_scale(axis) == pytest.approx(1 / math.sqrt(size), rel=1e-12)
    assert math.frexp(mean)[0] == 0.5
    assert math.sqrt(0.5) <= table_scale(axis) <= math.sqrt(2)


@pytest.mark.parametrize("kernel", [analysis, synthesis])
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize(
    ("channels", "side", "kept", "memory", "capability"),
    [(64, 32, 12, "bfloat16", (9, 0)), (256, 8, 4, "float16", (8, 0)), (3, 7, 3, "bfloat16", (8, 0))],
)
def test_machine_code(channels, side, kept, memory, capability, channels_last, kernel, compile_kernel):
    planes = HalfPlanes(channels, side, side, kept, kept, channels_last, memory)
    code = compile_kernel(kernel(planes), capability)
    short = {"bfloat16": "bf16", "float16": "f16"}[memory]
    assert f"mma.sync.aligned.m16n8k16.row.col.f32.{short}.{short}.f32" in code.ptx
    assert code.registers <= 128
