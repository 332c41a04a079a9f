import pytest
import torch
import torch.nn.functional as F
from support import oracle
from torch import nn

from blconv import BandLimitedConv1d, band_limit, effective_compression
from blconv.band import kept_frequencies, transform_size
from blconv.functional import band_limited_conv1d

GEOMETRIES = [
    ((2, 3, 16), (4, 3, 3), {"padding": 1}),
    ((1, 2, 17), (3, 2, 5), {"padding": 2, "stride": 2}),
    ((2, 4, 12), (6, 2, 3), {"padding": 1, "groups": 2}),
    ((1, 2, 13), (2, 2, 3), {"padding": "same", "dilation": 2}),
    ((1, 2, 13), (2, 2, 4), {"padding": "same"}),
    ((1, 6, 11), (6, 1, 3), {"groups": 6, "stride": 3}),
    ((1, 1, 1), (1, 1, 1), {}),
    ((1, 2, 1), (3, 2, 3), {"padding": 1}),
    ((2, 2, 3), (3, 2, 3), {"padding": 1}),
]
METHODS = ["auto", "lowpass", "spectral", "dense", "paper"]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@pytest.mark.parametrize("fft_size", ["paper", "compact", 41])
@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_every_method_is_the_definition(geometry, fft_size, method):
    shape, weight, options = geometry
    for compression in (0.0, 0.1, 0.5, 0.9, 0.999):
        x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
        w = torch.randn(weight, dtype=torch.float64, requires_grad=True)
        bias = torch.randn(weight[0], dtype=torch.float64, requires_grad=True)
        chosen = options | {"compression": compression, "fft_size": fft_size}
        found = band_limited_conv1d(x, w, bias, **chosen, method=method)
        wanted = oracle.conv1d(x, w, bias, **chosen)
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-10)
        cotangent = torch.randn_like(wanted)
        for ours, theirs in zip(
            torch.autograd.grad(found, (x, w, bias), cotangent),
            torch.autograd.grad(wanted, (x, w, bias), cotangent),
            strict=True,
        ):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-10)


def test_the_authors_rules():
    # 270 samples, filter of 8 taps padded to keep the length: 277 + 2 * 269 = 815 -> 1024.
    assert transform_size(277, 8, fft_size="paper", dims=1) == 1024
    assert kept_frequencies(1024, 0.5, dims=1) == 513 - (256 + 1)
    assert kept_frequencies(1024, 0.0, dims=1) == 513
    assert kept_frequencies(4, 0.99, dims=1) == 1


def test_layer_is_a_drop_in():
    plain = nn.Conv1d(3, 4, 5, padding=2, stride=2, padding_mode="circular")
    layer = BandLimitedConv1d(3, 4, 5, padding=2, stride=2, padding_mode="circular", compression=0.5)
    layer.load_state_dict(plain.state_dict())
    x = torch.randn(2, 3, 20)
    wanted = oracle.conv1d(
        F.pad(x, (2, 2), mode="circular").double(),
        plain.weight.double(),
        plain.bias.double(),
        stride=2,
        compression=0.5,
    )
    torch.testing.assert_close(layer(x).double(), wanted, rtol=0, atol=1e-5)
    torch.testing.assert_close(layer(x[0]), layer(x)[0])
    layer.compression = 0.0
    assert torch.equal(layer(x), plain(x))


def test_networks_of_series_are_converted():
    net = nn.Sequential(
        nn.Conv1d(1, 8, 8, padding="same"), nn.ReLU(), nn.Conv1d(8, 8, 1), nn.Conv1d(8, 4, 3, padding=1)
    )
    names = [layer.name for layer in effective_compression(band_limit(net, 0.5), (1, 60)).layers]
    assert names == ["0", "3"]
    first = effective_compression(net, (1, 60)).layers[0]
    # 60 + 7 samples and 2 * 59 more: N = 256, half = 129, k = 129 - 65.
    assert (first.fft_size, first.k, first.kept) == ((256,), (64,), (64,))
    assert first.effective == pytest.approx(1 - 64 / 129)
