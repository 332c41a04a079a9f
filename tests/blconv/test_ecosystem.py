"""The layers inside what surrounds them: compilers, processes, threads, transforms, layouts, precisions."""

import copy
import io
import sys
import threading
from contextlib import contextmanager

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from hypothesis import given, settings
from hypothesis import strategies as st
from support import oracle
from torch import nn
from torch.func import functional_call, grad, stack_module_state, vmap
from torch.utils.checkpoint import checkpoint

from blconv import BandLimitedConv1d, BandLimitedConv2d, tables

METHODS = ["auto", "lowpass", "spectral", "dense", "paper"]
SHAPE = (3, 4, 7, 5)
OPTIONS = {"stride": (2, 1), "padding": (1, 2), "compression": 0.6, "fft_size": "compact"}


@pytest.fixture(params=METHODS)
def method(request):
    return request.param


@pytest.fixture
def layer(method, device):
    torch.manual_seed(0)
    return BandLimitedConv2d(4, 6, 3, **OPTIONS, method=method, device=device)


@pytest.fixture
def x(device):
    torch.manual_seed(1)
    return torch.randn(SHAPE).to(device)


def results(function, x, *parameters):
    """Output, and the gradients of the sum of its squares by x and the parameters."""
    x = x.detach().requires_grad_()
    y = function(x)
    return [y.detach(), *torch.autograd.grad(y.square().sum(), [x, *parameters])]


def defined(layer, x):
    """The same for a 2D `layer` by its definition in float64, on the CPU."""
    weight, bias = (p.detach().cpu().double().requires_grad_() for p in layer.parameters())
    return results(lambda x: oracle.conv2d(x, weight, bias, **OPTIONS), x.cpu().double(), weight, bias)


def near(found, wanted, tolerance=1e-5):
    for ours, theirs in zip(found, wanted, strict=True):
        assert ours.shape == theirs.shape
        assert float((ours.detach().cpu().double() - theirs).norm()) <= tolerance * float(theirs.norm())


def same(found, wanted):
    return all(torch.equal(ours, theirs) for ours, theirs in zip(found, wanted, strict=True))


def test_the_same_bits_every_time(layer, x):
    first = results(layer, x, *layer.parameters())
    near(first, defined(layer, x))
    assert all(same(results(layer, x, *layer.parameters()), first) for _ in range(3))


def test_compiled(layer, x):
    torch.compiler.reset()
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    near(results(compiled, x, *layer.parameters()), defined(layer, x))


@pytest.mark.filterwarnings("ignore:The given buffer is not writable")  # torch.export's own loading
def test_exported_for_any_batch(layer, x):
    batch = torch.export.Dim("batch", min=2, max=64)
    exported = torch.export.export(layer, (x,), dynamic_shapes=({0: batch},))
    assert list(exported.state_dict) == ["weight", "bias"]
    file = io.BytesIO()
    torch.export.save(exported, file)
    file.seek(0)
    loaded = torch.export.load(file).module()
    x = torch.cat([x, -x])
    near(results(loaded, x, *loaded.parameters()), defined(layer, x))


@pytest.mark.parametrize("reentrant", [False, True])
def test_recomputed_in_the_backward_pass(layer, x, reentrant):
    x = x.requires_grad_()
    y = checkpoint(layer, x, use_reentrant=reentrant)
    y.square().sum().backward()  # the reentrant mode knows no torch.autograd.grad
    assert same([y, x.grad, layer.weight.grad, layer.bias.grad], results(layer, x, *layer.parameters()))


# torch's own word on what is meant here: one parameter, gradients from several streams.
@pytest.mark.filterwarnings("ignore:The AccumulateGrad node's stream")
def test_several_threads_share_a_layer(layer, x):
    """On a GPU every thread has a stream of its own. The tables are made anew, by whoever is first."""
    images = [x * n for n in range(1, 5)]
    wanted = [results(layer, image, *layer.parameters()) for image in images]
    tables._cached.cache_clear()
    agreed, start = [], threading.Barrier(len(images))

    def work(n):
        torch.set_num_threads(1)  # sums depend on it, and a new thread does not inherit it
        stream = torch.cuda.Stream() if x.is_cuda else None
        start.wait()
        with torch.cuda.stream(stream):
            found = [results(layer, images[n], *layer.parameters()) for _ in range(10)]
            agreed.append(all(same(each, wanted[n]) for each in found))

    if x.is_cuda:
        torch.cuda.synchronize()
    threads = [threading.Thread(target=work, args=(n,)) for n in range(len(images))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert agreed == [True] * len(images)


@pytest.mark.parametrize("groups", [1, 2])
def test_gradients_to_the_second_order(method, device, groups):
    plane = BandLimitedConv2d(2, 2, (3, 2), **OPTIONS, groups=groups, method=method, device=device).double()
    series = BandLimitedConv1d(2, 4, 3, padding=1, groups=groups, compression=0.5, method=method).double()
    for layer, shape in ((plane, (2, 2, 4, 3)), (series.to(device), (2, 2, 6))):
        x = torch.randn(shape, dtype=torch.float64, device=device, requires_grad=True)

        def function(x, weight, bias, layer=layer):
            return functional_call(layer, {"weight": weight, "bias": bias}, (x,))

        assert torch.autograd.gradcheck(function, (x, *layer.parameters()))
        assert torch.autograd.gradgradcheck(function, (x, *layer.parameters()))


def test_function_transforms(layer, x):
    """The gradient of every image by the weights, and several layers at once."""

    def energy(parameters, image):
        return functional_call(layer, parameters, (image,)).square().sum()

    each = vmap(grad(energy), in_dims=(None, 0))(dict(layer.named_parameters()), x)
    for n, image in enumerate(x):
        near([each["weight"][n], each["bias"][n]], defined(layer, image)[2:])

    layers = [copy.deepcopy(layer) for _ in range(3)]
    for n, one in enumerate(layers):
        nn.init.constant_(one.bias, n)
    parameters, _ = stack_module_state(layers)
    ys = vmap(lambda parameters: functional_call(layer, parameters, (x,)))(parameters)
    for y, one in zip(ys, layers, strict=True):
        near([y], defined(one, x)[:1])


def test_inference_then_training(layer, x):
    tables._cached.cache_clear()
    with torch.inference_mode():
        y = layer(x)
    found = results(layer, x, *layer.parameters())
    assert torch.equal(found[0], y)
    near(found, defined(layer, x))


def test_no_batch_and_an_empty_one(layer, x):
    near(results(layer, x[0], *layer.parameters()), defined(layer, x[0]))
    for empty in (x[:0], x[:0].to(memory_format=torch.channels_last)):
        y, dx, *gradients = results(layer, empty, *layer.parameters())
        assert y.shape == (0, 6, 4, 7)
        assert dx.shape == empty.shape
        assert not any(gradient.any() for gradient in gradients)


def test_without_memory(method):
    layer = BandLimitedConv2d(4, 6, 3, **OPTIONS, method=method, device="meta")
    assert layer(torch.empty(SHAPE, device="meta")).shape == (3, 6, 4, 7)


def test_layouts_come_out_as_they_go_in(layer, x):
    wanted = defined(layer, x)
    for layout in (torch.contiguous_format, torch.channels_last):
        laid_out = x.to(memory_format=layout)
        near(results(layer, laid_out, *layer.parameters()), wanted)
        assert layer(laid_out).is_contiguous(memory_format=layout)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision(layer, x, dtype):
    with torch.autocast(x.device.type, dtype=dtype):
        automatic = results(layer, x, *layer.parameters())
    rounded = copy.deepcopy(layer).to(dtype)
    explicit = results(rounded, x.to(dtype), *rounded.parameters())
    assert {found.dtype for found in (automatic[0], *explicit)} == {dtype}
    assert {gradient.dtype for gradient in automatic[1:]} == {torch.float32}
    near(automatic, defined(layer, x), 2e-2)
    near(explicit, defined(layer, x), 2e-2)


def every_other(x):
    wide = x.new_zeros(*x.shape[:-1], 2 * x.shape[-1])
    wide[..., ::2] = x
    return wide[..., ::2]


LAYOUTS = {
    "contiguous": lambda x: x.contiguous(),
    "channels last": lambda x: x.movedim(1, -1).contiguous().movedim(-1, 1),
    "transposed": lambda x: x.mT.contiguous().mT,
    "batch second": lambda x: x.transpose(0, 1).contiguous().transpose(0, 1),
    "every other": every_other,
}


@contextmanager
def poisoned():
    """Memory that torch does not set is NaN, and what depends on chance is an error."""
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_any_shape_layout_and_method(device, data):
    draw = data.draw
    dims, groups = draw(st.integers(1, 2)), draw(st.sampled_from([1, 1, 2, 3]))

    def axes(low, high):
        return tuple(draw(st.integers(low, high)) for _ in range(dims))

    kernel, dilation, padding, stride = axes(1, 4), axes(1, 2), axes(0, 2), axes(1, 3)
    spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    lengths = [
        max(1, span - 2 * pad) + more for span, pad, more in zip(spans, padding, axes(0, 9), strict=True)
    ]
    options = {
        "stride": stride[0] if dims == 1 else stride,
        "padding": padding[0] if dims == 1 else padding,
        "dilation": dilation[0] if dims == 1 else dilation,
        "groups": groups,
        "compression": draw(st.floats(0.001, 0.999)),
        "fft_size": draw(st.sampled_from(["paper", "compact"])),
    }
    torch.manual_seed(draw(st.integers(0, 9)))
    kind, define = ((BandLimitedConv1d, oracle.conv1d), (BandLimitedConv2d, oracle.conv2d))[dims - 1]
    layer = kind(2 * groups, 3 * groups, kernel, **options, method=draw(st.sampled_from(METHODS)))
    x = LAYOUTS[draw(st.sampled_from(list(LAYOUTS)))](
        torch.randn(draw(st.integers(1, 3)), 2 * groups, *lengths)
    )
    weight, bias = (p.detach().double().requires_grad_() for p in layer.parameters())
    wanted = results(lambda x: define(x, weight, bias, **options), x.double(), weight, bias)
    with poisoned():
        layer.to(device)
        near(results(layer, x.to(device), *layer.parameters()), wanted)


def summed_gradients(model, x):
    model(x).square().mean().backward()
    return [parameter.grad for parameter in model.parameters()]


def every_method():
    torch.manual_seed(0)
    layers = [BandLimitedConv2d(4, 4, 3, padding=1, compression=0.5, method=method) for method in METHODS]
    return nn.Sequential(*layers)


def one_of_two(rank, folder):
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    model = nn.parallel.DistributedDataParallel(every_method())
    half = torch.load(folder / "x.pt").chunk(2)[rank]
    torch.save(summed_gradients(model, half), folder / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.skipif(not dist.is_available() or sys.platform != "linux", reason="needs gloo on Linux")
def test_two_processes_have_the_gradients_of_one(tmp_path, monkeypatch):
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    x = torch.randn(6, 4, 7, 5)
    torch.save(x, tmp_path / "x.pt")
    mp.spawn(one_of_two, (tmp_path,), nprocs=2)
    wanted = summed_gradients(every_method().double(), x.double())
    for rank in range(2):
        near(torch.load(tmp_path / f"{rank}.pt"), wanted)
