import pytest
import torch
from torch import nn

from blconv import BandLimitedConv2d, band_limit, explain, summary
from blconv.functional import geometry_of
from blconv.methods.choice import choose, multiply_adds


def test_dense_arithmetic_of_two_by_two_maps():
    """layer.md of the paper's follow-up: 16 multiply-adds a pair of channels against 36."""
    weight = torch.empty(8, 8, 3, 3)
    geometry = geometry_of((2, 2), (3, 3), padding=1, compression=0.5, fft_size="paper")
    costs = multiply_adds(weight.shape, geometry)
    assert costs["ordinary"] == 36 * 64
    assert costs["dense"] == pytest.approx(16 * 64, rel=0.2)
    assert choose(torch.empty(1, 8, 2, 2), weight, geometry).method == "dense"


@pytest.mark.parametrize(
    ("channels", "size", "compression", "fft_size", "method"),
    [
        (256, 8, 0.85, "compact", "spectral"),
        (16, 32, 0.84, "paper", "lowpass"),
        (64, 2, 0.5, "paper", "dense"),
    ],
)
def test_explain_names_the_method_and_the_costs(channels, size, compression, fft_size, method):
    layer = BandLimitedConv2d(channels, channels, 3, padding=1, compression=compression, fft_size=fft_size)
    text = explain(layer, (channels, size, size))
    assert text.startswith(f"{method}: million multiply-adds per image: lowpass ")
    assert text == explain(layer, (64, channels, size, size))


def test_explain_of_what_is_asked_for_and_of_what_cannot_be():
    layer = BandLimitedConv2d(4, 4, 3, compression=0.5, method="paper")
    assert explain(layer, (4, 9, 9)) == "paper: chosen by name"
    assert explain(layer.half(), (4, 9, 9)).startswith("lowpass: paper needs float32")
    grouped = BandLimitedConv2d(4, 4, 3, groups=2, compression=0.5, method="dense")
    assert explain(grouped, (4, 9, 9)) == "lowpass: dense has no groups"
    assert explain(BandLimitedConv2d(4, 4, 3), (4, 9, 9)).startswith("ordinary: ")


def test_summary_says_what_is_saved_for_the_backward_pass():
    """What autograd really keeps, counted by its own hooks."""
    layer = BandLimitedConv2d(64, 64, 3, padding=1, compression=0.85, fft_size="compact", method="spectral")
    x = torch.randn(4, 64, 32, 32, requires_grad=True)
    storages = {}

    def note(tensor):
        storages[tensor.untyped_storage().data_ptr()] = tensor.numel() if tensor.shape[-1] == 64 else 0
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        layer(x)
    assert x.data_ptr() not in storages
    (row,) = summary(layer, (64, 32, 32)).layers
    # N = 34, half = 18, k = 6: 66 complex coefficients for 1024 pixels.
    assert row.saved == 2 * 66 / 1024
    assert row.choice.method == "spectral"
    assert row.multiply_adds < 0.25


def test_summary_without_band_limited_layers_is_empty():
    assert summary(nn.Conv2d(3, 3, 3), (3, 8, 8)).layers == ()


def test_methods_can_be_named_and_are_checked():
    model = band_limit(nn.Sequential(nn.Conv2d(3, 3, 3)), 0.5, method="spectral")
    assert "method='spectral'" in repr(model)
    with pytest.raises(ValueError, match="method must be one of auto, lowpass, spectral, dense, paper"):
        band_limit(model, 0.5, method="fft")
