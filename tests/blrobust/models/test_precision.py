import copy

import pytest
import torch
from torch import nn

from blconv import BandLimitedConv2d
from blrobust.models import build
from blrobust.models.precision import PRECISIONS, reduce_precision

CPU = torch.device("cpu")
HALF = [("fp16", torch.float16), ("bf16", torch.bfloat16)]


def network():
    torch.manual_seed(2)
    model = build("resnet20", classes=10, mean=(0.5,) * 3, std=(0.25,) * 3, compression=0.48).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    return model


def representable(tensor, dtype):
    return torch.equal(tensor.to(dtype).float(), tensor)


def test_single_precision_is_left_alone():
    model = network()
    x = torch.rand(2, 3, 32, 32)
    wanted = model(x)
    reduced, note = reduce_precision(model, "fp32", CPU)
    assert reduced is model
    assert note is None
    assert torch.equal(reduced(x), wanted)


@pytest.mark.parametrize(("precision", "dtype"), HALF)
def test_on_the_cpu_layers_are_rounded_and_arithmetic_is_single(precision, dtype):
    reduced, note = reduce_precision(network(), precision, CPU)
    assert precision in note
    assert "rounded" in note
    seen = []

    def look(module, inputs, output):
        seen.append(module)
        assert inputs[0].dtype == output.dtype == torch.float32
        assert representable(inputs[0], dtype)
        assert representable(output, dtype)

    layers = [module for module in reduced.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    for layer in layers:
        layer.register_forward_hook(look)
        assert layer.weight.dtype == torch.float32
        assert representable(layer.weight, dtype)
    assert representable(layers[-1].bias, dtype)
    logits = reduced(torch.rand(2, 3, 32, 32))
    assert logits.dtype == torch.float32
    assert len(seen) == len(layers) == 22
    assert any(isinstance(module, BandLimitedConv2d) for module in seen)
    norm = next(module for module in reduced.modules() if isinstance(module, nn.BatchNorm2d))
    assert not representable(norm.running_mean, dtype)


@pytest.mark.parametrize(("precision", "dtype"), HALF)
def test_by_hand_on_one_convolution(precision, dtype):
    torch.manual_seed(0)
    conv = nn.Conv2d(2, 3, 3)
    weight, bias = (part.detach().clone() for part in (conv.weight, conv.bias))
    x = torch.randn(1, 2, 6, 6)
    rounded = [part.to(dtype).float() for part in (x, weight, bias)]
    wanted = nn.functional.conv2d(*rounded).to(dtype).float()
    reduced, _ = reduce_precision(conv, precision, CPU)
    assert torch.equal(reduced(x), wanted)
    assert not torch.equal(wanted, nn.functional.conv2d(x, weight, bias))


@pytest.mark.parametrize(("precision", "dtype"), HALF)
def test_close_to_single_and_to_native_half(precision, dtype):
    model = network()
    x = torch.rand(8, 3, 32, 32)
    with torch.no_grad():
        exact = model(x)
        with torch.autocast("cpu", dtype=dtype):
            native = model(x).float()
        reduced, _ = reduce_precision(copy.deepcopy(model), precision, CPU)
        found = reduced(x)
    scale = float(exact.abs().max())
    allowed = 0.01 if precision == "fp16" else 0.08
    assert 0 < float((found - exact).abs().max()) < allowed * scale
    assert float((found - native).abs().max()) < allowed * scale


def test_gradients_flow_to_the_pixels():
    reduced, _ = reduce_precision(network(), "fp16", CPU)
    x = torch.rand(2, 3, 32, 32, requires_grad=True)
    reduced(x).sum().backward()
    assert torch.isfinite(x.grad).all()
    assert x.grad.any()


def test_the_precisions_are_the_three_of_the_grammar():
    assert {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16} == PRECISIONS


@pytest.mark.gpu
@pytest.mark.parametrize(("precision", "dtype"), HALF)
def test_on_cuda_half_is_native(precision, dtype):
    model = network()
    x = torch.rand(8, 3, 32, 32)
    with torch.no_grad():
        exact = model(x)
    reduced, note = reduce_precision(model, precision, torch.device("cuda"))
    assert note is None
    outputs = []
    for layer in reduced.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.register_forward_hook(lambda module, inputs, output: outputs.append(output.dtype))
    with torch.no_grad():
        logits = reduced(x.cuda())
    assert logits.dtype == torch.float32
    assert set(outputs) == {dtype}
    allowed = 0.01 if precision == "fp16" else 0.08
    assert float((logits.cpu() - exact).abs().max()) < allowed * float(exact.abs().max())
