import copy

import pytest
import torch
from torch import nn

from blconv import BandLimitedConv2d, band_limit, effective_compression, set_compression
from blrobust.models.resnet import resnet18, resnet20


class Custom(nn.Conv2d):
    pass


def small():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Sequential(nn.Conv2d(4, 6, 1), nn.Conv2d(6, 4, (1, 3), stride=2, padding=(0, 1), groups=2)),
        nn.ConvTranspose2d(4, 2, 3),
        Custom(2, 2, 3),
    )


def limited(model):
    return [name for name, module in model.named_modules() if isinstance(module, BandLimitedConv2d)]


def test_replaces_the_spatial_convolutions_in_place():
    model = small()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert band_limit(model, 0.5, fft_size="compact") is model
    assert limited(model) == ["0", "3.1"]
    assert type(model[3][0]) is nn.Conv2d
    assert type(model[4]) is nn.ConvTranspose2d
    assert type(model[5]) is Custom
    assert model[0].fft_size == "compact"
    after = model.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_compression_zero_changes_no_bit_of_the_output():
    model = small().eval()
    x = torch.randn(2, 3, 12, 12)
    wanted = model(x)
    assert torch.equal(band_limit(model, 0.0)(x), wanted)


def test_include_and_exclude_hear_name_and_layer():
    heard = []

    def everything(name, conv):
        heard.append((name, conv.kernel_size))
        return True

    assert limited(band_limit(small(), 0.5, include=everything)) == ["0", "3.0", "3.1"]
    assert heard == [("0", (3, 3)), ("3.0", (1, 1)), ("3.1", (1, 3))]
    model = band_limit(small(), 0.5, exclude=lambda name, conv: name.startswith("3"))
    assert limited(model) == ["0"]
    model = band_limit(small(), 0.5, include=lambda name, conv: conv.groups > 1)
    assert limited(model) == ["3.1"]
    nothing = band_limit(small(), 0.5, include=everything, exclude=everything)
    assert limited(nothing) == []


def test_again_gives_new_settings_and_the_same_weights():
    model = band_limit(small(), 0.5)
    weights = [parameter.clone() for parameter in model.parameters()]
    band_limit(model, 0.8, fft_size="compact")
    assert limited(model) == ["0", "3.1"]
    assert (model[0].compression, model[0].fft_size) == (0.8, "compact")
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), weights, strict=True))
    x = torch.randn(1, 3, 12, 12)
    twice = band_limit(copy.deepcopy(model), 0.8, fft_size="compact")
    assert torch.equal(twice.eval()(x), model.eval()(x))


def test_a_model_that_is_a_convolution():
    conv = nn.Conv2d(3, 4, 3)
    twin = band_limit(conv, 0.5)
    assert isinstance(twin, BandLimitedConv2d)
    assert torch.equal(twin.weight, conv.weight)
    pointwise = nn.Conv2d(3, 4, 1)
    assert band_limit(pointwise, 0.5) is pointwise


def test_a_layer_in_two_places_stays_one():
    conv = nn.Conv2d(3, 3, 3, padding=1)
    block = nn.Sequential(conv, nn.ReLU())
    model = band_limit(nn.Sequential(block, conv, nn.ModuleDict({"again": block})["again"]), 0.5)
    assert isinstance(model[1], BandLimitedConv2d)
    assert model[0][0] is model[1] is model[2][0]
    assert len(list(model.parameters())) == 2


def test_modes_frozen_weights_devices_and_dtypes_stay():
    model = small().double()
    model[0].eval()
    model[0].weight.requires_grad_(False)
    band_limit(model, 0.5)
    assert (model[0].training, model[3][1].training) == (False, True)
    assert not model[0].weight.requires_grad
    assert model[0].bias.requires_grad
    assert model[0].weight.dtype == torch.float64
    assert band_limit(nn.Sequential(nn.Conv2d(3, 4, 3, device="meta")), 0.5)[0].weight.is_meta


def test_a_layer_that_computes_its_weight_is_left_alone():
    model = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 4, 3)))
    x = torch.randn(1, 3, 8, 8)
    wanted = model(x)
    assert torch.equal(band_limit(model, 0.5)(x), wanted)


@pytest.mark.parametrize(
    ("compression", "fft_size", "message"),
    [
        (1.0, "paper", "compression must be in"),
        (-0.1, "paper", "compression must be in"),
        (0.5, "tiny", "fft_size must be"),
    ],
)
def test_illegal_settings_change_nothing(compression, fft_size, message):
    model = small()
    with pytest.raises(ValueError, match=message):
        band_limit(model, compression, fft_size=fft_size)
    assert limited(model) == []


def test_set_compression_of_all_or_some():
    model = band_limit(small(), 0.5)
    set_compression(model, 0.2)
    assert [model[0].compression, model[3][1].compression] == [0.2, 0.2]
    set_compression(model, {"3.1": 0.9})
    assert [model[0].compression, model[3][1].compression] == [0.2, 0.9]
    set_compression(model, {})
    assert [model[0].compression, model[3][1].compression] == [0.2, 0.9]
    fresh = band_limit(small(), 0.9)
    set_compression(fresh, {"0": 0.2})
    x = torch.randn(1, 3, 12, 12)
    assert torch.equal(model.eval()(x), fresh.eval()(x))


@pytest.mark.parametrize(
    ("compression", "message"),
    [
        (1.0, "compression must be in"),
        ({"0": 0.1, "3.1": 2.0}, "compression must be in"),
        ({"0": 0.1, "3.0": 0.1}, "names '3.0'; band-limited layers are 0, 3.1"),
        ({"nowhere": 0.1}, "names 'nowhere'"),
    ],
)
def test_set_compression_is_all_or_nothing(compression, message):
    model = band_limit(small(), 0.5)
    with pytest.raises(ValueError, match=message):
        set_compression(model, compression)
    assert [model[0].compression, model[3][1].compression] == [0.5, 0.5]


@pytest.mark.parametrize("compression", [0.5, {"0": 0.5}, {}])
def test_set_compression_of_a_model_without_such_layers(compression):
    with pytest.raises(ValueError, match="no band-limited layer"):
        set_compression(small(), compression)


@pytest.mark.parametrize(
    ("network", "nominal", "fft_size", "low", "high"),
    [
        # The paper's 50 and 85 % models: nominal 0.48 and 0.84 on the authors' ResNet-18.
        (resnet18, 0.48, "paper", 0.515, 0.516),
        (resnet18, 0.84, "paper", 0.8595, 0.8605),
        (resnet18, 0.48, "compact", 0.5515, 0.5525),
        (resnet18, 0.84, "compact", 0.8875, 0.8885),
        (resnet20, 0.48, "paper", 0.4995, 0.5005),
        (resnet20, 0.84, "paper", 0.8455, 0.8465),
    ],
)
def test_effective_compression_of_the_papers_models(network, nominal, fft_size, low, high):
    model = band_limit(network().to("meta"), nominal, fft_size=fft_size)
    assert low <= effective_compression(model, (3, 32, 32)).effective <= high


def test_the_layers_of_the_authors_resnet18():
    """17 layers; the kept sizes by map, weighted by input channels, give the network's number."""
    kept = {
        32: (128, 65, 51, 26),
        16: (64, 33, 25, 13),
        8: (32, 17, 11, 6),
        4: (16, 9, 5, 3),
        2: (8, 5, 3, 2),
    }
    channels = {32: [3], 16: [64] * 5, 8: [128] * 4, 4: [256] * 4, 2: [512] * 3}
    network = effective_compression(band_limit(resnet18().to("meta"), 0.84), (3, 32, 32))
    assert len(network.layers) == 17
    found = {}
    for layer in network.layers:
        length = layer.input_size[0]
        size, half, rows, columns = kept[length]
        assert layer.input_size == (length, length)
        assert layer.fft_size == (size, size)
        assert layer.k == (columns, columns)
        assert layer.kept == (rows, columns)
        assert layer.nominal == 0.84
        assert layer.effective == pytest.approx(1 - rows * columns / (size * half))
        found.setdefault(length, []).append(layer.in_channels)
    assert found == channels
    whole = sum(sum(channels[n]) * size * half for n, (size, half, _, _) in kept.items())
    left = sum(sum(channels[n]) * rows * columns for n, (_, _, rows, columns) in kept.items())
    assert network.effective == pytest.approx(1 - left / whole)
    assert not any("downsample" in layer.name for layer in network.layers)


def test_effective_compression_disturbs_nothing():
    model = band_limit(small(), 0.5)
    model[1].eval()  # a frozen BatchNorm inside a model in training
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    random = torch.get_rng_state()
    network = effective_compression(model, (3, 12, 12))
    assert [layer.name for layer in network.layers] == ["0", "3.1"]
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.equal(torch.get_rng_state(), random)
    assert not any(module._forward_pre_hooks for module in model.modules())
    with pytest.raises(RuntimeError):
        effective_compression(model, (5, 12, 12))
    assert [module.training for module in model.modules()] == modes
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_effective_compression_follows_mixed_settings():
    model = band_limit(small(), 0.5, fft_size="compact")
    set_compression(model, {"0": 0.0})
    network = effective_compression(model, (7, 3, 12, 9))
    first, second = network.layers
    assert first.effective == 0.0
    assert first.kept == (14, 6)
    assert second.input_size == (12, 9)
    assert second.effective > 0.4
    assert [layer.nominal for layer in network.layers] == [0.0, 0.5]
    full = 3 * first.geometry.band.full + 6 * second.geometry.band.full
    assert network.effective == pytest.approx(
        1 - (3 * first.geometry.band.kept + 6 * second.geometry.band.kept) / full
    )


def test_effective_compression_in_half_precision_and_without_band_limited_layers():
    assert effective_compression(small().half(), (3, 12, 12)).effective == 0.0
    half = effective_compression(band_limit(small().bfloat16(), 0.5), (3, 12, 12))
    assert half == effective_compression(band_limit(small(), 0.5), (3, 12, 12))


def test_a_layer_that_is_called_twice_counts_twice():
    conv = nn.Conv2d(3, 3, 3, stride=2)
    network = effective_compression(band_limit(nn.Sequential(conv, conv), 0.5), (3, 32, 32))
    assert [(layer.name, layer.input_size) for layer in network.layers] == [("0", (32, 32)), ("0", (15, 15))]


def test_the_table_for_people():
    text = str(effective_compression(band_limit(resnet20(), 0.84), (3, 32, 32)))
    heading, first, *_, foot, last = text.splitlines()
    costs = ["method", "work", "saved"]
    assert heading.split() == ["layer", "input", "N", "k", "kept", "nominal", "effective", *costs]
    # Saved: the filtered input with its padding, 34 x 34 for 32 x 32.
    assert first.split()[:8] == ["0", "32x32", "128x128", "26x26", "51x26", "84.0%", "84.1%", "lowpass"]
    assert first.split()[-1] == "1.13"
    assert foot.startswith("work, saved:")
    assert last == "network: effective compression 84.6%"
    assert len(text.splitlines()) == 22
    assert str(effective_compression(small(), (3, 12, 12))).endswith("effective compression 0.0%")
