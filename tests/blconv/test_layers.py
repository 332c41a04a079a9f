import copy
import io
import pickle

import pytest
import torch
import torch.nn.functional as F
from support import oracle
from torch import nn

from blconv import BandLimitedConv2d

OPTIONS = [
    {"kernel_size": 3},
    {"kernel_size": 3, "padding": 1, "stride": 2},
    {"kernel_size": (3, 5), "padding": (1, 2), "stride": (1, 2), "bias": False},
    {"kernel_size": 3, "padding": "same", "dilation": 2},
    {"kernel_size": (2, 4), "padding": "same"},
    {"kernel_size": 3, "padding": "valid", "groups": 2},
    {"kernel_size": 3, "groups": 4, "padding": 1},
    {"kernel_size": 1},
]


def id_of(options):
    return ",".join(f"{key}={value}" for key, value in options.items()).replace(" ", "")


@pytest.mark.parametrize("options", OPTIONS, ids=id_of)
@pytest.mark.parametrize("fft_size", ["paper", "compact", 31])
def test_forward_is_the_definition(options, fft_size):
    layer = BandLimitedConv2d(4, 8, **options, compression=0.6, fft_size=fft_size).double()
    x = torch.randn(2, 4, 11, 9, dtype=torch.float64)
    known = {key: value for key, value in options.items() if key not in ("kernel_size", "bias")}
    wanted = oracle.conv2d(x, layer.weight, layer.bias, **known, compression=0.6, fft_size=fft_size)
    torch.testing.assert_close(layer(x), wanted, rtol=0, atol=1e-12)
    torch.testing.assert_close(layer(x[0]), wanted[0], rtol=0, atol=1e-12)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@pytest.mark.parametrize("options", OPTIONS, ids=id_of)
def test_without_compression_it_is_torchs_layer(options):
    torch.manual_seed(3)
    ours = BandLimitedConv2d(4, 8, **options)
    torch.manual_seed(3)
    theirs = nn.Conv2d(4, 8, **options)
    x = torch.randn(2, 4, 11, 9)
    assert torch.equal(ours.weight, theirs.weight)
    assert torch.equal(ours(x), theirs(x))
    assert isinstance(ours, nn.Conv2d)


def test_arguments_by_position_as_in_torch():
    arguments = (4, 8, (3, 3), (2, 2), (1, 1), (1, 1), 2, False, "reflect", "cpu", torch.float64)
    ours, theirs = BandLimitedConv2d(*arguments, compression=0.5), nn.Conv2d(*arguments)
    shared = ["in_channels", "kernel_size", "stride", "padding", "dilation", "groups", "bias", "padding_mode"]
    assert [getattr(ours, name) for name in shared] == [getattr(theirs, name) for name in shared]
    assert ours.weight.dtype == torch.float64


@pytest.mark.parametrize("mode", ["reflect", "circular", "replicate"])
@pytest.mark.parametrize("padding", [1, (2, 1), "same"])
@pytest.mark.parametrize("fft_size", ["paper", "compact"])
def test_padding_modes_pad_first(mode, padding, fft_size):
    layer = BandLimitedConv2d(
        2, 3, (3, 4), padding=padding, padding_mode=mode, compression=0.5, fft_size=fft_size
    ).double()
    x = torch.randn(2, 2, 9, 8, dtype=torch.float64)
    (top, bottom), (left, right) = oracle.pads(padding, (3, 4), 1)
    padded = F.pad(x, (left, right, top, bottom), mode=mode)
    wanted = oracle.conv2d(padded, layer.weight, layer.bias, compression=0.5, fft_size=fft_size)
    torch.testing.assert_close(layer(x), wanted, rtol=0, atol=1e-12)
    band = layer.geometry(9, 8).band
    assert (band.axes[0].padded, band.axes[1].padded) == (9 + top + bottom, 8 + left + right)
    layer.compression = 0.0
    plain = nn.Conv2d(2, 3, (3, 4), padding=padding, padding_mode=mode).double()
    plain.load_state_dict(layer.state_dict())
    torch.testing.assert_close(layer(x), plain(x), rtol=0, atol=1e-12)


def test_band_is_the_papers():
    layer = BandLimitedConv2d(3, 64, 3, padding=1, compression=0.84)
    band = layer.geometry(32, 16).band
    assert (band.axes[0].size, band.axes[0].kept) == (128, 26)
    assert (band.axes[1].size, band.axes[1].kept) == (64, 13)


@pytest.mark.parametrize("options", OPTIONS, ids=id_of)
def test_state_dicts_are_torchs_both_ways(options):
    ours = BandLimitedConv2d(4, 8, **options, compression=0.5)
    theirs = nn.Conv2d(4, 8, **options)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    theirs.load_state_dict(ours.state_dict())
    assert torch.equal(theirs.weight, ours.weight)
    ours.load_state_dict(nn.Conv2d(4, 8, **options).state_dict())
    assert ours.compression == 0.5


def test_a_deep_copy_is_independent():
    layer = BandLimitedConv2d(2, 3, 3, compression=0.5, fft_size="compact")
    twin = copy.deepcopy(layer)
    assert (twin.compression, twin.fft_size) == (0.5, "compact")
    twin.compression = 0.8
    with torch.no_grad():
        twin.weight.zero_()
    assert layer.compression == 0.5
    assert layer.weight.any()


def test_it_pickles():
    layer = BandLimitedConv2d(2, 3, 3, compression=0.5, fft_size=20)
    twin = pickle.loads(pickle.dumps(layer))
    x = torch.randn(1, 2, 8, 8)
    assert torch.equal(twin(x), layer(x))
    file = io.BytesIO()
    torch.save(layer.state_dict(), file)
    file.seek(0)
    assert torch.load(file, weights_only=True).keys() == layer.state_dict().keys()


def test_of_copies_everything():
    conv = nn.Conv2d(4, 8, 3, 2, "valid", 2, 2, bias=True, padding_mode="circular", dtype=torch.float64)
    conv.weight.requires_grad_(False)
    conv.eval()
    twin = BandLimitedConv2d.of(conv, compression=0.3, fft_size="compact")
    assert twin.extra_repr() == f"{conv.extra_repr()}, compression=0.3, fft_size='compact'"
    assert not twin.training
    assert twin.weight.dtype == torch.float64
    assert not twin.weight.requires_grad
    assert twin.bias.requires_grad
    assert torch.equal(twin.weight, conv.weight)
    assert torch.equal(twin.bias, conv.bias)


@pytest.mark.parametrize("padding", [1, (1, 0), "same", "valid"])
def test_of_keeps_the_output_where_nothing_is_cut(padding):
    conv = nn.Conv2d(2, 3, (3, 1), padding=padding, bias=False)
    x = torch.randn(2, 2, 6, 5)
    assert torch.equal(BandLimitedConv2d.of(conv, compression=0.0)(x), conv(x))


def test_it_says_what_it_is():
    text = repr(BandLimitedConv2d(2, 3, 3, padding=1, compression=0.48))
    assert text == (
        "BandLimitedConv2d(2, 3, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1), "
        "compression=0.48, fft_size='paper')"
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"compression": 1.0}, "compression must be in"),
        ({"compression": -1e-9}, "compression must be in"),
        ({"fft_size": "large"}, "fft_size must be"),
        ({"fft_size": 0}, "fft_size must be"),
    ],
)
def test_illegal_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        BandLimitedConv2d(2, 3, 3, **settings)


def test_settings_that_turn_illegal_later_are_refused_when_used():
    layer = BandLimitedConv2d(2, 3, 3, compression=0.5)
    layer.compression = 1.5
    with pytest.raises(ValueError, match="compression must be in"):
        layer(torch.randn(1, 2, 8, 8))


def test_meta_device():
    layer = BandLimitedConv2d(2, 3, 3, padding=1, compression=0.5, device="meta")
    assert layer(torch.empty(5, 2, 8, 8, device="meta")).shape == (5, 3, 8, 8)
    twin = BandLimitedConv2d.of(nn.Conv2d(2, 3, 3, device="meta"), compression=0.5)
    assert twin.weight.is_meta


def test_training_lowers_the_loss():
    torch.manual_seed(0)
    layer = BandLimitedConv2d(1, 1, 3, padding=1, compression=0.5).double()
    target = BandLimitedConv2d(1, 1, 3, padding=1, compression=0.5).double()
    x = torch.randn(64, 1, 8, 8, dtype=torch.float64)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.3)
    for _ in range(200):
        optimizer.zero_grad()
        loss = (layer(x) - target(x).detach()).square().mean()
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 1e-4
