"""What only a GPU has: reduced precisions, graphs, streams and generated kernels."""

import copy
import threading

import pytest
import torch
from torch import nn

from blconv import BandLimitedConv2d, band_limit, reference
from blrobust.device import full_precision

pytestmark = pytest.mark.gpu
METHODS = ["auto", "lowpass", "spectral", "dense", "paper"]
# Where the convolution is cuDNN's, its float32 gradient of the filters of 64@32 is 1.1e-5 off.
STRICT = {"auto": 1e-5, "lowpass": 2e-5, "spectral": 1e-5, "dense": 2e-5, "paper": 1e-5}
# Channels and side of the stages of a ResNet, and one of everything odd.
MAPS = [(64, 32), (128, 16), (256, 8), (512, 4), (512, 2), (20, 13)]


@pytest.fixture(params=METHODS)
def method(request):
    return request.param


def layer_and_input(channels, side, compression, method, fft_size="compact", batch=32):
    torch.manual_seed(0)
    options = {"compression": compression, "fft_size": fft_size, "method": method}
    layer = BandLimitedConv2d(channels, channels, 3, padding=1, **options, device="cuda")
    return layer, torch.randn(batch, channels, side, side, device="cuda")


def results(layer, x, cotangent):
    """Output, and the gradients by the input and the parameters."""
    x = x.detach().requires_grad_()
    y = layer(x)
    return [y.detach(), *torch.autograd.grad(y, [x, *layer.parameters()], cotangent)]


def cotangent_of(layer, x):
    with torch.no_grad():
        return torch.randn_like(layer(x))


def defined(layer, x, cotangent):
    """The same by the definition, in float64."""
    x, weight, bias = (t.detach().double().requires_grad_() for t in (x, layer.weight, layer.bias))
    options = {"compression": layer.compression, "fft_size": layer.fft_size, "padding": 1}
    y = reference.band_limited_conv2d(x, weight, bias, **options)
    return [y.detach(), *torch.autograd.grad(y, [x, weight, bias], cotangent.double())]


def near(found, wanted, tolerance):
    for ours, theirs in zip(found, wanted, strict=True):
        assert float((ours.detach().double() - theirs).norm()) < tolerance * float(theirs.norm())


@pytest.mark.parametrize("precision", ["strict", "TF32", "bf16", "bf16 autocast", "fp16 autocast"])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["nchw", "nhwc"])
@pytest.mark.parametrize("compression", [0.48, 0.85])
@pytest.mark.parametrize(("channels", "side"), MAPS)
def test_error_by_precision(channels, side, compression, method, layout, precision):
    layer, x = layer_and_input(channels, side, compression, method)
    x = x.to(memory_format=layout)
    with full_precision():
        if precision == "bf16":
            layer, x = layer.bfloat16(), x.bfloat16()
        if precision == "TF32":
            torch.set_float32_matmul_precision("high")
            torch.backends.cudnn.allow_tf32 = True
        dtype = {"bf16 autocast": torch.bfloat16, "fp16 autocast": torch.float16}.get(precision)
        with torch.autocast("cuda", dtype=dtype or torch.bfloat16, enabled=dtype is not None):
            cotangent = cotangent_of(layer, x)
            found = results(layer, x, cotangent)
    near(found, defined(layer, x, cotangent), {"strict": STRICT[method], "TF32": 2e-3}.get(precision, 2e-2))


@pytest.mark.parametrize(("channels", "side"), MAPS)
def test_a_step_in_a_graph(channels, side, method):
    """Forward and backward pass, captured once and replayed on another batch and other weights."""
    with full_precision():
        layer, x = layer_and_input(channels, side, 0.6, method)
        cotangent = cotangent_of(layer, x)
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                results(layer, x, cotangent)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        # The same stream: autograd's thread may hold on to a node of the last pass for a moment.
        with torch.cuda.graph(graph, stream=stream):
            found = results(layer, x, cotangent)
        with torch.no_grad():
            for tensor in (x, cotangent, *layer.parameters()):
                tensor.normal_()
        for tensor in found:
            tensor.fill_(torch.nan)
        graph.replay()
        near(found, defined(layer, x, cotangent), STRICT[method])


# torch's own word on what is meant here: one parameter, gradients from two streams.
@pytest.mark.filterwarnings("ignore:The AccumulateGrad node's stream")
def test_it_works_on_the_current_stream(method):
    """The input appears on another stream only after a long wait; the same bits come out."""
    layer, x = layer_and_input(64, 16, 0.6, method)
    cotangent = cotangent_of(layer, x)
    wanted = results(layer, x, cotangent)
    late = torch.zeros_like(x)
    torch.cuda.synchronize()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(100_000_000)
        late.copy_(x)
        found = results(layer, late, cotangent)
    stream.synchronize()
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(found, wanted, strict=True))


def test_a_thread_that_starts_with_our_launch():
    """Its memory is there already, so the driver hears of the thread from nobody before."""
    layer, x = layer_and_input(16, 8, 0.6, "spectral")
    with torch.no_grad():
        wanted = layer(x)
        layer(x)
    found = []
    thread = threading.Thread(target=lambda: found.append(layer(x)))
    thread.start()
    thread.join()
    assert torch.equal(found[0], wanted)


# Inductor's own words: full precision is meant, and a first graph of its own has nothing in it.
@pytest.mark.filterwarnings("ignore:TensorFloat32 tensor cores for float32 matrix multiplication available")
@pytest.mark.filterwarnings("ignore:The CUDA Graph is empty")
@pytest.mark.filterwarnings("ignore:Torchinductor does not support code generation for complex")
@pytest.mark.parametrize("options", [None, {"triton.cudagraphs": True}], ids=["", "graphs"])
def test_compiled_by_inductor(method, options):
    torch.compiler.reset()
    with full_precision():
        layer, x = layer_and_input(16, 8, 0.6, method)
        cotangent = cotangent_of(layer, x)
        compiled = torch.compile(layer, fullgraph=True, options=options)
        for _ in range(4):  # with graphs: warm up, capture, and replay on other batches
            x = torch.randn_like(x).requires_grad_()
            y = compiled(x)
            wanted = defined(layer, x, cotangent)
            near([y, *torch.autograd.grad(y, [x, *layer.parameters()], cotangent)], wanted, 1e-5)


@pytest.mark.filterwarnings("ignore:The AccumulateGrad node's stream")
@pytest.mark.parametrize("fuse", [False, True], ids=["plain", "fused"])
def test_a_network_in_one_line_of_graphs(fuse):
    """What the first lines of the documentation recommend: the same output and gradients as without."""
    with full_precision():
        torch.manual_seed(0)
        layers = [nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU()]
        layers += [nn.Conv2d(16, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU()]
        model = band_limit(nn.Sequential(*layers).cuda(), 0.84, fft_size="compact", fuse=fuse)
        twin = copy.deepcopy(model)
        sample = torch.randn(8, 3, 16, 16, device="cuda")
        graphed = torch.cuda.make_graphed_callables(model, (sample,))
        for _ in range(3):
            x = torch.randn_like(sample)
            outputs = []
            for network in (graphed, twin):
                network.zero_grad()
                y = network(x)
                y.square().sum().backward()
                outputs.append(y.detach().clone())
            torch.testing.assert_close(*outputs, rtol=1e-5, atol=1e-5)
            for a, b in zip(model.parameters(), twin.parameters(), strict=True):
                torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-4)
