"""What runs on kernels, what does not, and that what fits can be launched."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from blconv.functional import geometry_of
from blconv.geometry import TransformAxis
from blconv.kernels import limits
from blconv.kernels.transforms.fragments import from_pixels, to_pixels
from blconv.kernels.transforms.planes import Float32Planes
from blconv.methods import choice

OPT_IN_SHARED_BYTES = 163 * 1024  # of a block, in compute capability 8.0


def geometry(size, kernel=(3, 3), **options):
    return geometry_of(size, kernel, **({"compression": 0.5, "fft_size": "compact", "padding": 1} | options))


CUDA = torch.device("cuda", 0)
BEYOND = {
    "the CPU": (torch.device("cpu"), torch.float32, geometry((8, 8))),
    "double precision": (CUDA, torch.float64, geometry((8, 8))),
    "series": (CUDA, torch.float32, geometry((8,), (3,))),
    "groups": (CUDA, torch.float32, geometry((8, 8), groups=2)),
    "an axis that is not cut": (CUDA, torch.float32, geometry((8, 1), (3, 1), padding=0, compression=0.01)),
    "large filters": (CUDA, torch.float32, geometry((16, 16), (5, 11), padding=5)),
    "large planes": (CUDA, torch.float32, geometry((224, 224))),
    "long rows": (CUDA, torch.float32, geometry((4, 500))),
}


@pytest.mark.parametrize("name", BEYOND)
def test_what_runs_without_kernels(name, monkeypatch):
    monkeypatch.setattr(limits, "is_installed", lambda: True)
    assert not limits.runs_spectral_kernels(*BEYOND[name])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("size", [(32, 32), (16, 16), (8, 8), (4, 4), (2, 2), (7, 31)])
def test_what_runs_on_kernels(size, dtype, monkeypatch):
    monkeypatch.setattr(limits, "is_installed", lambda: True)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    for compression in (0.5, 0.85):
        assert limits.runs_spectral_kernels(CUDA, dtype, geometry(size, compression=compression))


def test_the_choice_is_made_again_within_transforms_of_torch_func(monkeypatch):
    """The method is cached, but a transform excludes our operators."""
    choice._cached_choice.cache_clear()
    monkeypatch.setattr(
        choice, "runs_operators", lambda device: not torch._C._are_functorch_transforms_active()
    )
    x, weight = torch.empty(2, 8, 32, 32, device="meta"), torch.empty(8, 8, 3, 3, device="meta")
    within = []

    def differentiated(x):
        within.append(choice.choose(x, weight, geometry((32, 32), compression=0.85)).method)
        return x.sum()

    for _ in range(2):
        assert choice.choose(x, weight, geometry((32, 32), compression=0.85)).method == "spectral"
        torch.func.grad(differentiated)(x)
    assert within == ["lowpass", "lowpass"]
    choice._cached_choice.cache_clear()


@given(
    st.tuples(st.integers(1, 72), st.integers(1, 72)),
    st.floats(0.05, 0.99),
    st.integers(1, 3),
    st.sampled_from([1, 3, 8, 20, 64]),
)
def test_what_fits_can_be_launched(size, compression, stride, channels):
    chosen = geometry(size, compression=compression, stride=stride)
    if min(chosen.out) < 1 or not limits.spectral_planes_fit(chosen):
        return
    rows, columns = chosen.band.axes
    for height, width in (chosen.input, chosen.out):
        for last in (False, True):
            planes = Float32Planes(channels, height, width, rows.kept, columns.kept, last, "split")
            assert planes.shared_bytes <= OPT_IN_SHARED_BYTES
            for length, axis, vector in ((height, rows, 1), (width, columns, planes.vector)):
                waves = TransformAxis(length, 0, 1, axis.size, axis.kept)
                for table in (from_pixels(waves, 1, vector, False), to_pixels(waves, 1, False)):
                    assert 2 * table.shape[0] * table.shape[1] <= limits.MAX_FRAGMENTS
