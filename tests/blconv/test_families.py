"""`band_limit` on whole architectures, against networks whose every convolution filters its input."""

import copy
from collections import defaultdict

import pytest
import torch
import torch.nn.functional as F
from support import oracle
from torch import nn
from torchvision import models
from torchvision.models.convnext import CNBlockConfig

from blconv import band_limit, set_compression, summary
from blconv.convert import band_limited_layers

# One small member of each family of torchvision, and the side of its square pictures.
FAMILIES = {
    "alexnet": (lambda: models.alexnet().features, 64),
    "convnext": (lambda: models.ConvNeXt([CNBlockConfig(16, 24, 2), CNBlockConfig(24, None, 2)]), 32),
    "deeplab": (lambda: models.segmentation.deeplabv3.ASPP(3, [2, 5, 12], 8), 9),
    "densenet": (lambda: models.DenseNet(8, (2, 3, 2, 2), 16), 32),
    "densenet recomputed": (lambda: models.DenseNet(8, (2, 2), 16, memory_efficient=True), 32),
    "efficientnet": (models.efficientnet_b0, 32),
    "googlenet": (lambda: models.googlenet(init_weights=False), 64),
    "inception": (lambda: models.inception_v3(init_weights=False, aux_logits=False), 75),
    "lraspp": (lambda: models.segmentation.lraspp_mobilenet_v3_large(weights_backbone=None), 32),
    "maxvit": (lambda: models.MaxVit((32, 32), 8, 4, [8, 16], [1, 1], 4, 0.2), 32),
    "mnasnet": (models.mnasnet0_5, 32),
    "mobilenet v2": (lambda: models.mobilenet_v2(width_mult=0.35), 32),
    "mobilenet v3": (models.mobilenet_v3_small, 32),
    "regnet": (models.regnet_y_400mf, 32),
    "resnet": (models.resnet18, 32),
    "resnext": (lambda: models.ResNet(models.resnet.Bottleneck, [1] * 4, groups=4, width_per_group=8), 33),
    "shufflenet": (models.shufflenet_v2_x0_5, 32),
    "squeezenet": (models.squeezenet1_1, 35),
    "swin": (lambda: models.SwinTransformer([4, 4], 24, [2, 2], [2, 4], [4, 4]), 32),
    "vgg": (lambda: models.vgg.make_layers(models.vgg.cfgs["A"], batch_norm=True), 32),
    "vit": (lambda: models.VisionTransformer(32, 8, 2, 2, 32, 64), 32),
}
# Networks of timm, where it is installed, that have something of their own in their convolutions.
TIMM = [
    "edgenext_xx_small", "efficientvit_b0", "fastvit_t8", "ghostnet_100", "hrnet_w18_small",
    "inception_next_atto", "mixnet_s", "mobilenetv4_conv_small_050", "mobilevit_xxs", "poolformer_s12",
    "pvt_v2_b0", "repvgg_a0", "resnest14d", "skresnet18", "tf_efficientnet_lite0",
]  # fmt: skip


@pytest.fixture(params=[*FAMILIES, *[f"timm {name}" for name in TIMM]])
def network(request):
    """A network in float64, and pictures for it; three, because two of one pixel confuse BatchNorm."""
    if request.param in FAMILIES:
        build, side = FAMILIES[request.param]
        model = build()
    else:
        model, side = pytest.importorskip("timm").create_model(request.param.split()[1]), 64
    torch.manual_seed(0)
    for parameter in model.parameters():  # every layer counts: no zeros or 1e-6, as some are made
        fan_in = parameter[0].numel() if parameter.dim() else 1
        if fan_in > 1:
            nn.init.normal_(parameter, std=(2 / fan_in) ** 0.5)
        else:
            nn.init.uniform_(parameter, 0.5, 1)
    return model.double(), torch.randn(3, 3, side, side, dtype=torch.float64)


def convolutions(model, *, spatial):
    """The names of the model's 2D convolutions, all of them or those with more than one tap."""
    return [
        name
        for name, module in model.named_modules()
        if type(module) is nn.Conv2d and not (spatial and module.kernel_size == (1, 1))
    ]


def defined(model, names, compression, fft_size):
    """A copy of `model` whose convolutions `names` filter their input by Fourier transforms; their masks."""
    twin, masks = copy.deepcopy(model), defaultdict(list)

    def convolve(conv, inputs, output):
        (x,) = inputs
        (top, bottom), (left, right) = oracle.pads(conv.padding, conv.kernel_size, conv.dilation)
        x = F.pad(x, (left, right, top, bottom))
        spans = [(k - 1) * d + 1 for k, d in zip(conv.kernel_size, conv.dilation, strict=True)]
        size = [oracle.points(n, span, fft_size) for n, span in zip(x.shape[2:], spans, strict=True)]
        rows, columns = (oracle.keep(n, compression) for n in size)
        mask = (rows[:, None] & columns[None, : size[1] // 2 + 1]).to(x.device)
        masks[conv].append(mask)
        filtered = torch.fft.irfft2(torch.fft.rfft2(x, s=size) * mask, s=size)
        filtered = filtered[..., : x.shape[2], : x.shape[3]]
        return F.conv2d(filtered, conv.weight, conv.bias, conv.stride, 0, conv.dilation, conv.groups)

    layers = {name: twin.get_submodule(name) for name in names}
    for layer in layers.values():
        layer.register_forward_hook(convolve)
    return twin, lambda: {name: masks[layer] for name, layer in layers.items()}


def outputs(model, x):
    """All the tensors that the model returns, with the same random numbers for dropout every time."""
    torch.manual_seed(1)
    found = model(x)
    if isinstance(found, torch.Tensor):
        return [found]
    return list(found.values() if isinstance(found, dict) else found)


def near(found, wanted, tolerance):
    """Relative to the norm, and for gradients that should be zero to the largest of the norms."""
    assert len(found) == len(wanted) > 0
    largest = max(float(theirs.norm()) for theirs in wanted)
    for ours, theirs in zip(found, wanted, strict=True):
        assert ours.shape == theirs.shape
        error = float((ours.cpu().double() - theirs.cpu()).norm())
        assert error <= tolerance * max(float(theirs.norm()), 1e-6 * largest)


def differ(found, wanted):
    return all(float((a - b).norm()) > 1e-2 * float(b.norm()) for a, b in zip(found, wanted, strict=True))


def same(found, wanted):
    return all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))


def test_training_is_that_of_the_definition(network, device):
    """Outputs and the gradients of pictures and weights; what is not spatial stays as it was."""
    model, x = network
    names = convolutions(model, spatial=True)
    wanted, _ = defined(model, names, 0.5, "paper")
    found = band_limit(copy.deepcopy(model), 0.5)
    assert list(band_limited_layers(found)) == names
    assert convolutions(found, spatial=True) == []
    results = []
    for each in (found, wanted, model):  # all there: a device draws its own numbers for dropout
        picture = x.to(device).requires_grad_()
        ys = outputs(each.to(device).train(), picture)
        loss = sum((y * torch.linspace(-1, 1, y.numel()).view(y.shape).to(device)).sum() for y in ys)
        leaves = [picture, *each.parameters()]
        gradients = torch.autograd.grad(loss, leaves, allow_unused=True)
        results.append([*(y.detach() for y in ys), *(g for g in gradients if g is not None)])
    ours, theirs, ordinary = results
    near(ours, theirs, 1e-7)
    assert differ(ordinary[:1], theirs[:1])


def test_every_convolution_in_evaluation(network, device):
    """1x1 ones too, in double and single precision; the table of layers; parameters go to and fro."""
    model, x = network
    names = convolutions(model, spatial=False)
    with torch.no_grad():
        for _ in range(3):
            outputs(model.train(), x)  # running statistics for BatchNorm
        ordinary = outputs(model.eval(), x)
        twin, masks = defined(model, names, 0.7, "compact")
        wanted = [y.cpu() for y in outputs(twin.to(device), x.to(device))]
        assert differ(ordinary, wanted)
        found = band_limit(
            copy.deepcopy(model), 0.7, fft_size="compact", method="spectral", include=lambda *layer: True
        )
        assert list(band_limited_layers(found)) == names
        found.to(device)
        near(outputs(found, x.to(device)), wanted, 1e-10)
        near(outputs(copy.deepcopy(found).float(), x.float().to(device)), wanted, 1e-5)

        table = summary(found, tuple(x.shape))
        rows = defaultdict(list)
        for layer in table.layers:
            rows[layer.name].append(layer.effective)
        cut = {name: [float(1 - mask.double().mean()) for mask in seen] for name, seen in masks().items()}
        assert rows == {name: pytest.approx(shares) for name, shares in cut.items() if shares}
        assert len(str(table).splitlines()) == len(table.layers) + 3

        fresh = copy.deepcopy(model)
        for parameter in fresh.parameters():
            parameter.zero_()
        fresh.load_state_dict(found.state_dict())
        assert same(outputs(fresh, x), ordinary)
        found.cpu().load_state_dict(fresh.state_dict())
        set_compression(found, 0.0)
        assert same(outputs(found, x), ordinary)
