import pytest
import torch
import torch.nn.functional as F
from torch import nn

from blconv import BandLimitedConv2d
from blrobust.models import ARCHITECTURES, Classifier, Normalize, build
from blrobust.models.resnet import ResidualBlock, resnet18, resnet20

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)


def parameters(model):
    return sum(parameter.numel() for parameter in model.parameters())


def convolutions(model):
    return [module for module in model.modules() if isinstance(module, nn.Conv2d)]


def seen_maps(model, x):
    """Input sizes of the 3x3 convolutions, in order."""
    sizes = []
    for conv in convolutions(model):
        if conv.kernel_size == (3, 3):
            conv.register_forward_pre_hook(lambda module, inputs: sizes.append(inputs[0].shape[-1]))
    model(x)
    return sizes


def test_published_parameter_counts():
    assert parameters(resnet20()) == 272_474
    # By hand: stem, 3 stages of 3 blocks, two projections, BatchNorms, classifier.
    convs = 27 * 16 + 6 * 9 * 16**2 + 9 * (16 * 32 + 5 * 32**2) + 9 * (32 * 64 + 5 * 64**2)
    norms = 2 * (7 * 16 + 6 * 32 + 6 * 64)
    projections = 16 * 32 + 2 * 32 + 32 * 64 + 2 * 64
    assert parameters(resnet20()) == convs + norms + projections + 650
    assert parameters(resnet18()) == 11_173_962
    assert parameters(resnet20(classes=100)) == 272_474 + 90 * 65
    assert parameters(resnet20(channels=1)) == 272_474 - 2 * 9 * 16


def test_resnet20_has_the_layers_of_the_paper():
    convs = convolutions(resnet20())
    spatial = [conv for conv in convs if conv.kernel_size == (3, 3)]
    assert len(spatial) == 19  # and the classifier makes 20
    assert [conv.kernel_size for conv in convs if conv not in spatial] == [(1, 1), (1, 1)]
    assert [conv.out_channels for conv in spatial] == [16] * 7 + [32] * 6 + [64] * 6
    assert [i for i, conv in enumerate(spatial) if conv.stride == (2, 2)] == [7, 13]
    assert all(conv.bias is None for conv in convs)
    assert seen_maps(resnet20().eval(), torch.zeros(1, 3, 32, 32)) == [32] * 8 + [16] * 6 + [8] * 5


def test_resnet18_is_the_authors():
    model = resnet18()
    assert (model.conv1.kernel_size, model.conv1.stride, model.conv1.bias) == ((3, 3), (1, 1), None)
    assert isinstance(model.maxpool, nn.MaxPool2d)
    maps = seen_maps(model.eval(), torch.zeros(1, 3, 32, 32))
    assert maps == [32] + [16] * 5 + [8] * 4 + [4] * 4 + [2] * 3


def test_initial_weights_are_kaimings():
    torch.manual_seed(0)
    for model in (resnet20(), resnet18()):
        for conv in convolutions(model):
            fan_out = conv.out_channels * conv.kernel_size[0] ** 2
            wanted = (2 / fan_out) ** 0.5
            assert float(conv.weight.detach().std()) == pytest.approx(wanted, rel=0.2)


@pytest.mark.parametrize(("in_channels", "channels", "stride"), [(4, 4, 1), (4, 8, 2), (4, 8, 1), (4, 4, 2)])
def test_a_block_adds_its_shortcut(in_channels, channels, stride):
    torch.manual_seed(1)
    block = ResidualBlock(in_channels, channels, stride).eval()
    for norm in (block.bn1, block.bn2):
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)

    def normed(norm, y):
        centred = y - norm.running_mean[:, None, None]
        return centred / (norm.running_var[:, None, None] + norm.eps).sqrt()

    x = torch.randn(2, in_channels, 8, 8)
    y = normed(block.bn1, F.conv2d(x, block.conv1.weight, stride=stride, padding=1)).clamp(min=0)
    y = normed(block.bn2, F.conv2d(y, block.conv2.weight, padding=1))
    shortcut = x
    if isinstance(block.shortcut, nn.Sequential):
        conv, norm = block.shortcut
        shortcut = normed(
            norm, torch.einsum("oi,bihw->bohw", conv.weight[..., 0, 0], x[..., ::stride, ::stride])
        )
    else:
        assert (in_channels, stride) == (channels, 1)
    torch.testing.assert_close(block(x), (y + shortcut).clamp(min=0))


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize(("classes", "channels"), [(10, 3), (7, 1)])
def test_logits(arch, classes, channels):
    model = build(arch, classes=classes, mean=(0.5,) * channels, std=(0.2,) * channels).eval()
    x = torch.rand(3, channels, 32, 32)
    logits = model(x)
    assert (logits.shape, logits.dtype) == ((3, classes), torch.float32)
    torch.testing.assert_close(model(x[:1]), logits[:1], rtol=1e-4, atol=1e-4)


def test_normalisation_is_a_layer_without_state():
    pixels = torch.rand(2, 3, 4, 4)
    layer = Normalize(MEAN, STD)
    wanted = torch.stack([(pixels[:, c] - MEAN[c]) / STD[c] for c in range(3)], 1)
    torch.testing.assert_close(layer(pixels), wanted)
    assert not layer.state_dict()
    model = Classifier(layer, nn.Identity())
    torch.testing.assert_close(model(pixels), wanted)
    assert model.double()(pixels.double()).dtype == torch.float64


@pytest.mark.parametrize(("arch", "layers"), [("resnet20", 19), ("resnet18", 17)])
@pytest.mark.parametrize("fft_size", ["paper", "compact"])
def test_band_limited_models_leave_the_shortcuts_alone(arch, layers, fft_size):
    model = build(arch, classes=10, mean=MEAN, std=STD, compression=0.84, fft_size=fft_size)
    limited = [conv for conv in convolutions(model) if isinstance(conv, BandLimitedConv2d)]
    assert len(limited) == layers
    assert {conv.kernel_size for conv in limited} == {(3, 3)}
    assert {(conv.compression, conv.fft_size) for conv in limited} == {(0.84, fft_size)}
    plain = build(arch, classes=10, mean=MEAN, std=STD)
    assert plain.state_dict().keys() == model.state_dict().keys()
    assert not [conv for conv in convolutions(plain) if isinstance(conv, BandLimitedConv2d)]


def test_the_same_seed_starts_all_models_from_the_same_weights():
    states = []
    for compression in (0.0, 0.48):
        torch.manual_seed(5)
        states.append(build("resnet20", classes=10, mean=MEAN, std=STD, compression=compression).state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
