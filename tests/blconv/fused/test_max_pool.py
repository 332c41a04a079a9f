import copy
import pickle
import re

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from blconv import band_limit
from blconv.fused.max_pool import BlockMaxPool2d, MaxPoolFromOffsets, Windows, use_fused_max_pool
from blconv.kernels.fused import max_pool as kernels
from blrobust.models.resnet import resnet18

NUMBERS = [-torch.inf, -torch.inf, -1.5, -0.0, 0.0, 1.0, 1.0, 2.0, torch.inf, torch.nan]
CASES = [  # the shape of the input, and the module's settings
    ((2, 8, 8, 8), {"kernel_size": 3, "stride": 2, "padding": 1}),
    ((2, 4, 7, 5), {"kernel_size": 2}),
    ((1, 3, 7, 11), {"kernel_size": (2, 3), "stride": (3, 1), "padding": (1, 0)}),
    ((3, 5, 6, 7), {"kernel_size": 3, "stride": 2, "ceil_mode": True}),
    ((2, 4, 5, 6), {"kernel_size": 2, "stride": 3, "padding": 1, "ceil_mode": True}),
    ((2, 4, 9, 7), {"kernel_size": (2, 3), "stride": 1, "padding": 1, "dilation": (3, 2)}),
    ((2, 3, 8, 9), {"kernel_size": 3, "stride": 2, "padding": 1, "dilation": 2, "ceil_mode": True}),
    ((1, 4, 5, 4), {"kernel_size": 3, "stride": 1, "padding": 1}),
    ((1, 12, 3, 3), {"kernel_size": 3}),
    ((2, 6, 1, 1), {"kernel_size": 2, "stride": 1, "padding": 1}),
    ((1, 1, 5, 3), {"kernel_size": 1, "stride": 2}),
    ((3, 5, 6), {"kernel_size": 2, "stride": [1]}),
    ((1, 1, 17, 18), {"kernel_size": 16, "stride": 1}),
    ((1, 1, 300, 2), {"kernel_size": (100, 1), "dilation": (3, 1), "stride": 1}),
    ((0, 4, 6, 6), {"kernel_size": 2}),
]
LAYOUTS = [torch.contiguous_format, torch.channels_last]


def numbers(shape, layout=torch.contiguous_format):
    """Many ties, both zeros, infinities and, in some of the windows, NaN."""
    values = torch.tensor(NUMBERS)[torch.randint(len(NUMBERS), shape)]
    values = torch.where(torch.rand(shape) < 0.2, torch.randn(shape), values)
    return values.contiguous(memory_format=layout) if len(shape) == 4 else values


def same(found, wanted):
    assert found.dtype == wanted.dtype
    assert found.shape == wanted.shape
    for form in (torch.clone, torch.reciprocal):  # which tells one zero from the other
        torch.testing.assert_close(form(found), form(wanted), rtol=0, atol=0, equal_nan=True)


def run(module, x, grad):
    """The output, and the gradient of x."""
    x = x.detach().requires_grad_()
    y = module(x)
    return y, torch.autograd.grad(y, x, grad)[0]


def pools(options):
    plain = nn.MaxPool2d(**options)
    ours = copy.deepcopy(plain)
    use_fused_max_pool(ours)
    return ours, plain


def windows_of(shape, options):
    """The windows of a case, as the module makes them."""
    seen = []
    module = pools(options)[0]
    x = torch.zeros(shape, requires_grad=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MaxPoolFromOffsets, "apply", lambda x, windows: seen.append(windows))
        module(x)
    return seen[0]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("shape", "options"), CASES, ids=str)
def test_the_pool_is_torchs(shape, options, layout, dtype):
    ours, plain = pools(options)
    x = numbers(shape, layout).to(dtype)
    grad = torch.randn_like(plain(x))
    for around in (grad, grad.mT.contiguous().mT):
        (y, to_x), (wanted, wanted_to_x) = run(ours, x, around), run(plain, x, around)
        assert type(y.grad_fn).__name__ == "MaxPoolFromOffsetsBackward"
        same(y.detach(), wanted.detach())
        same(to_x, wanted_to_x)
        assert y.stride() == wanted.stride()
        assert to_x.stride() == wanted_to_x.stride()


@pytest.mark.parametrize("of", ["rows", "columns", "channels", "transposed"])
def test_an_input_with_gaps(of):
    ours, plain = pools({"kernel_size": 3, "stride": 2, "padding": 1})
    x = numbers((2, 6, 9, 10), torch.channels_last if of == "channels" else torch.contiguous_format)
    x = {"rows": x[..., ::2, :], "columns": x[..., 1:7], "channels": x[:, ::2], "transposed": x.mT}[of]
    grad = torch.randn_like(plain(x))
    for found, wanted in zip(run(ours, x, grad), run(plain, x, grad), strict=True):
        same(found.detach(), wanted.detach())


def saved(module, x):
    """The tensors kept for the backward pass."""
    tensors = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: tensors.append(t) or t, lambda t: t):
        y = module(x)
    return y, tensors


@pytest.mark.parametrize(("shape", "options"), CASES, ids=str)
def test_one_byte_an_output_is_kept(shape, options):
    y, tensors = saved(pools(options)[0], numbers(shape).requires_grad_())
    assert [t.untyped_storage().nbytes() for t in tensors] == [y.numel()]


def test_what_a_network_keeps():
    """The authors' ResNet-18 keeps neither the map before the pool nor the indices."""
    fused = band_limit(resnet18(), 0.84, fft_size="compact", method="spectral", fuse=True)
    assert type(fused.maxpool) is BlockMaxPool2d
    before = copy.deepcopy(fused)
    before.maxpool = nn.MaxPool2d(3, 2, 1)
    x = torch.randn(2, 3, 32, 32)
    kept = []
    for model in (fused, before):
        storages = {t.untyped_storage().data_ptr(): t.untyped_storage() for t in saved(model, x)[1]}
        kept.append(sum(storage.nbytes() for storage in storages.values()))
    assert kept[1] - kept[0] == 2 * 64 * (32 * 32 * 4 + 16 * 16 * (8 - 1))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_first_and_second_derivatives_by_differences(layout):
    module = pools({"kernel_size": 3, "stride": 2, "padding": 1})[0]
    x = torch.randperm(2 * 3 * 5 * 4).double().view(2, 3, 5, 4).contiguous(memory_format=layout)
    assert torch.autograd.gradcheck(module, x.requires_grad_())
    assert torch.autograd.gradgradcheck(module, x)


def test_what_stays_torchs():
    x = numbers((2, 3, 20, 20)).requires_grad_()
    ours, plain = pools({"kernel_size": 2, "return_indices": True})
    for found, wanted in zip(ours(x), plain(x), strict=True):
        same(found, wanted)
    for options in ({"kernel_size": 17}, {"kernel_size": 2, "dilation": 21, "padding": 1}):
        ours, plain = pools(options)
        y = ours(x)
        same(y, plain(x))
        assert "MaxPool2D" in type(y.grad_fn).__name__
    ours, plain = pools({"kernel_size": 2})
    for context in (torch.no_grad(), torch.inference_mode()):
        with context:
            same(ours(x), plain(x))
    assert not ours(x.detach()).requires_grad


@pytest.mark.parametrize(
    "options",
    [
        {"kernel_size": 2, "padding": 2},
        {"kernel_size": 9},
        {"kernel_size": (2, 2, 2)},
        {"kernel_size": 2, "stride": -1},
        {"kernel_size": 2, "dilation": 0},
        {"kernel_size": 0},
    ],
    ids=str,
)
def test_errors_are_torchs(options):
    ours, plain = pools(options)
    x = torch.zeros(2, 3, 5, 5, requires_grad=True)
    with pytest.raises(RuntimeError) as wanted:
        plain(x)
    with pytest.raises(RuntimeError, match=re.escape(str(wanted.value).splitlines()[0])):
        ours(x)


@pytest.mark.filterwarnings("ignore:`torch.jit.script")  # torch's own, within its jvp
def test_function_transforms():
    ours, plain = pools({"kernel_size": 3, "stride": 2})
    x = torch.randn(3, 2, 4, 7, 6)
    for transform in (
        lambda pool: torch.func.grad(lambda x: pool(x).square().sum())(x[0]),
        lambda pool: torch.func.vmap(pool)(x),
        lambda pool: torch.func.jvp(pool, (x[0],), (x[1],))[1],
    ):
        same(transform(ours), transform(plain))


def test_compiled_in_one_graph():
    ours, plain = pools({"kernel_size": 3, "stride": 2, "padding": 1})
    compiled = torch.compile(ours, fullgraph=True, backend="aot_eager")
    x, grad = torch.randn(2, 3, 8, 9), torch.randn(2, 3, 4, 5)
    for found, wanted in zip(run(compiled, x, grad), run(plain, x, grad), strict=True):
        same(found.detach(), wanted.detach())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_autocast_leaves_the_type_alone(dtype):
    ours, plain = pools({"kernel_size": 2})
    x, grad = numbers((2, 3, 6, 6)).to(dtype), torch.randn(2, 3, 3, 3).to(dtype)
    with torch.autocast("cpu", torch.bfloat16):
        for found, wanted in zip(run(ours, x, grad), run(plain, x, grad), strict=True):
            same(found.detach(), wanted.detach())


class Own(nn.MaxPool2d):
    """A max-pool of one's own."""


def test_the_class_changes_and_nothing_else():
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.MaxPool2d(2), Own(2), nn.AvgPool2d(1))
    pool, calls = model[1], []
    pool.register_forward_hook(lambda *_: calls.append(None))
    assert band_limit(model, 0.5)[1] is pool
    assert type(pool) is nn.MaxPool2d
    for _ in range(2):
        assert band_limit(model, 0.5, fuse=True)[1] is pool
        assert [type(module) for module in model[1:]] == [BlockMaxPool2d, Own, nn.AvgPool2d]
    x = torch.randn(1, 1, 12, 12)
    model(x)
    assert calls == [None]
    twin = pickle.loads(pickle.dumps(copy.deepcopy(pools({"kernel_size": 2})[0])))
    assert torch.equal(twin(x), F.max_pool2d(x, 2))
    assert repr(twin).removeprefix("Block") == repr(nn.MaxPool2d(2))


def test_two_passes_before_one_backward_and_checkpoints():
    ours, plain = pools({"kernel_size": 3, "stride": 2, "padding": 1})
    grads = []
    for module in (ours, plain, lambda x: torch.utils.checkpoint.checkpoint(ours, x, use_reentrant=False)):
        torch.manual_seed(0)
        x, y = torch.randn(2, 2, 3, 7, 8).requires_grad_()
        grads.append(torch.autograd.grad(module(x).square().sum() + module(y * 2).sum(), (x, y)))
    for found in grads[::2]:
        same(torch.stack(found), torch.stack(grads[1]))


MAPS = [
    kernels.MaxPoolSizes(Windows((32, 32), (3, 3), (2, 2), (1, 1), (1, 1), False), "float32", 64, 4),
    kernels.MaxPoolSizes(Windows((13, 17), (3, 2), (1, 2), (1, 0), (2, 1), True), "bfloat16", 12, 4),
    kernels.MaxPoolSizes(Windows((32, 32), (2, 2), (2, 2), (0, 0), (1, 1), False), "float16", 1, 1),
    kernels.MaxPoolSizes(Windows((40, 40), (16, 16), (8, 8), (8, 8), (1, 1), False), "float32", 7, 1),
]


@pytest.mark.parametrize("maps", MAPS, ids=str)
@pytest.mark.parametrize("capability", [(8, 0), (9, 0)])
def test_the_kernels_compile(capability, maps, compile_kernel):
    """With small windows they read before they decide: no branch but the one around all."""
    for kernel, loads in ((kernels.forward_kernel(maps), 9), (kernels.backward_kernel(maps), 8)):
        body = compile_kernel(kernel, capability).body
        assert "atom" not in body
        if maps is MAPS[0]:  # 9 cells, and 4 windows and their offsets
            assert len(re.findall(r"\bld\.global", body)) == loads
            assert len(re.findall(r"\bbra\b", body)) == 1


def check_kernels(device, dtypes, cases):
    """Values and gradients against torch's on the CPU, which adds float32 in the same order."""
    torch.use_deterministic_algorithms(True)  # fills what is allocated with NaN and 255
    for dtype in dtypes:
        for shape, options in cases:
            for layout in LAYOUTS[: len(shape) - 2]:
                windows = windows_of(shape, options)
                x = numbers(shape, layout).to(dtype)
                given = x.float().requires_grad_()
                maxima, indices = windows.maxima(given)
                wanted = maxima.detach().to(dtype)
                grad = torch.randn_like(wanted)
                y, offsets = kernels.max_pool_forward(x.to(device), windows)
                same(y.cpu(), wanted)
                assert torch.equal(windows.indices(offsets.cpu()), indices)
                out = torch.empty_like(x, device=device)
                kernels.max_pool_backward(grad.to(device), offsets, out, windows)
                (to_x,) = torch.autograd.grad(maxima, given, grad.float())
                same(out.cpu(), to_x.to(dtype))
    odd = torch.randn(2 * 4 * 4 * 4 + 1, device=device)[1:].view(2, 4, 4, 4).movedim(-1, 1)
    assert odd.is_contiguous(memory_format=torch.channels_last)
    same(
        kernels.max_pool_forward(odd, windows_of(odd.shape, {"kernel_size": 2}))[0].cpu(),
        F.max_pool2d(odd.cpu(), 2),
    )
    torch.use_deterministic_algorithms(False)


def check_in_the_simulator(dtype):
    kernels.THREADS = 16
    check_kernels("cpu", [getattr(torch, dtype)], CASES if dtype == "float32" else CASES[:2])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_the_kernels_in_the_simulator(dtype, simulate):
    simulate(check_in_the_simulator, dtype)


@pytest.mark.gpu
def test_the_kernels_on_cuda():
    check_kernels("cuda", [torch.float32, torch.bfloat16, torch.float16], CASES)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_pool_on_cuda(layout, dtype):
    ours, plain = pools({"kernel_size": 3, "stride": 2, "padding": 1})
    x = numbers((16, 64, 32, 31), layout).to(dtype)
    grad = torch.randint_like(plain(x).nan_to_num(0, 0, 0), -9, 10)  # whose sums are exact in any order
    # In a window of -inf alone, torch's own kernel, which takes float64, gives the gradient to no pixel.
    oracle = "cpu" if dtype == torch.float32 else "cuda"
    wanted = [tensor.cpu() for tensor in run(plain, x.to(oracle), grad.to(oracle))]
    for _ in range(2):
        found = run(ours, x.cuda(), grad.cuda())
        for a, b in zip(found, wanted, strict=True):
            same(a.detach().cpu(), b.detach())
            assert a.stride() == b.stride()
    y, tensors = saved(ours, x.cuda().requires_grad_())
    assert [t.untyped_storage().nbytes() for t in tensors] == [y.numel()]
    seconds = []
    for module, given in ((ours, x.cuda()), (plain, x)):
        given = given[:2, :4].nan_to_num(0, 3, -3).requires_grad_()
        (first,) = torch.autograd.grad(module(given).square().sum(), given, create_graph=True)
        seconds.append(torch.autograd.grad(first.square().sum(), given)[0].cpu())
    torch.testing.assert_close(*seconds)
    graph, fixed, around = torch.cuda.CUDAGraph(), x.cuda(), grad.cuda()
    with torch.cuda.graph(graph):
        captured = run(ours, fixed, around)
    graph.replay()
    for a, b in zip(captured, wanted, strict=True):
        same(a.detach().cpu(), b.detach())
