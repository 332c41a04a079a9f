import copy
import re

import pytest
import torch
import torch.nn.functional as F
from support.stand_in import batch_norm
from torch import nn

from blconv import BandLimitedBlock, band_limit
from blconv.fused import block
from blconv.fused.relu import pack_bits, unpack_bits
from blconv.kernels.fused import batch_norm_backward as kernels
from blconv.kernels.fused import batch_norm_forward, batch_norm_sizes
from blconv.kernels.fused.batch_norm_sizes import BatchNormSizes
from blrobust.device import full_precision

LAYOUTS = [torch.contiguous_format, torch.channels_last]
BAND = {"compression": 0.75, "fft_size": "compact", "method": "spectral"}
TOLERANCES = {torch.float32: 1e-5, torch.bfloat16: 1e-2, torch.float16: 2e-3}
SHAPES = [(8, 8, 2, 4), (4, 16, 4, 4), (3, 5, 3, 7), (2, 1, 4, 8), (8, 24, 1, 1), (1, 3, 1, 5)]
MAPS = [
    BatchNormSizes("float32", 64, 1024, 4, True),
    BatchNormSizes("float32", 2048, 1, 4, False),
    BatchNormSizes("bfloat16", 64, 64, 8, True),
    BatchNormSizes("float16", 24, 1, 8, True),
    BatchNormSizes("float16", 7, 49, 1, False),
]


@pytest.mark.parametrize("maps", MAPS, ids=str)
@pytest.mark.parametrize("capability", [(8, 0), (9, 0)])
def test_the_kernels_compile(capability, maps, compile_kernel):
    """A thread of the writer reads each map once and writes one."""
    for kernel in (
        kernels.reducer(maps),
        kernels.finisher(maps.channels, 256, True),
        writer := kernels.writer(maps),
    ):
        code = compile_kernel(kernel, capability)
        assert "atom" not in code.body
        if kernel is writer:
            ptx = code.ptx
    kind = r"b16" if maps.vector == 1 else r"v4\.[fb]32"
    assert len(re.findall(rf"\bld\.global\.{kind}", ptx)) == 1  # y: not by the read-only path
    assert re.findall(r"\bst\.global\.\S+", ptx) == re.findall(rf"\bst\.global\.{kind}", ptx)
    assert ptx.count("st.global") == 1


@pytest.mark.parametrize("maps", MAPS, ids=str)
def test_the_kernels_of_the_forward_pass_compile(maps, compile_kernel):
    """A thread of the writer reads and writes eight vectors, and one word of bits."""
    given = maps.has_bits, True, True, maps.has_bits, True
    for kernel in (batch_norm_forward.reducer(maps), batch_norm_forward.finisher(maps, given)):
        assert "atom" not in compile_kernel(kernel, (9, 0)).body
    ptx = compile_kernel(batch_norm_forward.writer(maps, given[:2]), (9, 0)).ptx
    kind = r"b16" if maps.vector == 1 else r"v4\.[fb]32"
    assert len(re.findall(rf"\bst\.global\.{kind}", ptx)) == 8
    assert ptx.count("st.global") == 8 + maps.has_bits


def wanted_gradients(y, grad, held, gamma):
    """BatchNorm's and ReLU's gradients of y, gamma and beta in float64, by autograd from the formula.

    Returns them and the mean and invstd, float32 (2, C). The formula has these: a mean of 3 is off by up to
    1.2e-7 as float32, which adds up over the channel to more than the kernels' own rounding.
    """
    y, gamma = y.double().requires_grad_(), gamma.double().requires_grad_()
    beta = torch.zeros_like(gamma).requires_grad_()
    variance, mean = torch.var_mean(y, (0, 2, 3), correction=0)
    exact = mean, (variance + 1e-5).rsqrt()
    given = [t.detach().float() for t in exact]
    state = [t + (g - t).detach() for t, g in zip(exact, given, strict=True)]  # g, with t's gradient
    columns = [t.view(-1, 1, 1) for t in (*state, gamma, beta)]
    out = (y - columns[0]) * columns[1] * columns[2] + columns[3]
    grads = torch.autograd.grad(out, (y, gamma, beta), grad.double().masked_fill(held, 0))
    return grads, torch.stack(given)


def assert_near(found, wanted, tolerance):
    """Within a share of the largest: gradients are sums of parts that cancel."""
    error = (found.cpu().double() - wanted).abs().max()
    assert error <= tolerance * (wanted.abs().max() + 1), (error, tolerance)


def check_kernels(device, dtypes, shapes):
    """All three gradients against float64, in both layouts, with bits and without, at an odd address too."""
    torch.manual_seed(0)
    for dtype in dtypes:
        for shape in shapes:
            for layout in LAYOUTS:
                y, grad = (torch.randn(shape).add(3).to(dtype).contiguous(memory_format=layout) for _ in "yg")
                gamma = torch.rand(shape[1]) + 0.5
                for held in (torch.rand(shape).contiguous(memory_format=layout) < 0.4, None):
                    mask = torch.zeros(shape, dtype=torch.bool) if held is None else held
                    wanted, statistics = wanted_gradients(y, grad, mask, gamma)
                    bits = None if held is None else pack_bits(held).to(device)
                    given, around = y.to(device, copy=True), grad.to(device)
                    before, version = around.clone(), given._version
                    state = gamma.to(device), statistics.to(device)
                    found = given, *kernels.differentiate(around, given, bits, *state)
                    assert given._version > version
                    assert torch.equal(around, before)
                    for a, b, tolerance in zip(found, wanted, (TOLERANCES[dtype], 1e-5, 1e-5), strict=True):
                        assert_near(a, b, tolerance)
                    again = y.to(device, copy=True)
                    kernels.differentiate(around, again, bits, *state)
                    assert torch.equal(again, given)
    shape = (8, 4, 2, 4)
    odd = torch.randn(8 * 4 * 8 + 1, device=device)[1:].view(shape)
    grad = torch.randn(shape, device=device)
    wanted, statistics = wanted_gradients(
        odd.cpu(), grad.cpu(), torch.zeros(shape, dtype=torch.bool), torch.ones(4)
    )
    kernels.differentiate(grad, odd, None, None, statistics.to(device))
    assert_near(odd, wanted[0], 1e-5)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_the_kernels_in_the_simulator(dtype, simulate):
    simulate(check_in_small, dtype)


def check_in_small(dtype):
    """With 16 threads a block the smallest maps have several blocks, tiles and parts."""
    batch_norm_sizes.BLOCKS = 16, 1
    check_kernels("cpu", [getattr(torch, dtype)], SHAPES if dtype == "float32" else SHAPES[:3])


def check_forward(device, dtypes, shapes):
    """Output, statistics, running statistics and bits against torch's in float64, in both layouts."""
    for dtype in dtypes:
        for n, shape in enumerate(shapes):
            for layout in LAYOUTS:
                norm = batch_norm(shape[1], momentum=0.3).double()
                for tensor in norm.state_dict().values():
                    if tensor.is_floating_point():
                        tensor.uniform_(0.1, 0.5)
                y = torch.randn(shape).add(3).to(dtype).contiguous(memory_format=layout)
                names = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
                given = [getattr(norm, name).detach() for name in names]
                given = [t.float() if t.is_floating_point() else t.clone() for t in given]
                if n % 3 == 1:
                    norm.weight, given[0] = None, None
                if n % 3 == 2:
                    norm.running_mean = norm.running_var = norm.num_batches_tracked = None
                    given[2:] = None, None, None
                given = [t if t is None else t.to(device) for t in given]
                relu = (n + (layout is torch.channels_last)) % 2 == 0
                out, state, bits = batch_norm_forward.normalise(
                    y.to(device), batch_norm_forward.Parameters(*given), 0.3, norm.eps, relu=relu
                )
                wanted = norm(y.double())
                assert out.is_contiguous(memory_format=layout)
                assert_near(out, wanted.relu() if relu else wanted, TOLERANCES[dtype])
                variance, mean = torch.var_mean(y.double(), (0, 2, 3), correction=0)
                assert_near(state, torch.stack([mean, (variance + norm.eps).rsqrt()]), 1e-5)
                for found, name in zip(given[2:], names[2:], strict=True):
                    if found is not None:
                        assert_near(found, getattr(norm, name).double(), 1e-5)
                if relu:
                    assert torch.equal(unpack_bits(bits, out), out <= 0)
                else:
                    assert bits is None


def test_a_mean_far_from_zero(simulate):
    simulate(check_offset, "cpu")


@pytest.mark.gpu
def test_a_mean_far_from_zero_on_cuda():
    check_offset("cuda")


def check_offset(device):
    """The variance does not cancel: values of 1000 +- 1."""
    y = torch.randn(16, 4, 4, 4).add(1000)
    none = batch_norm_forward.Parameters(None, None, None, None, None)
    out, _, _ = batch_norm_forward.normalise(y.to(device), none, 0.0, 1e-5, relu=False)
    assert_near(out, F.batch_norm(y.double(), None, None, training=True), 1e-4)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_the_forward_pass_in_the_simulator(dtype, simulate):
    simulate(check_forward_in_small, dtype)


def check_forward_in_small(dtype):
    batch_norm_sizes.BLOCKS = 16, 1
    check_forward("cpu", [getattr(torch, dtype)], SHAPES[:4] if dtype == "float32" else SHAPES[:3])


@pytest.mark.gpu
def test_the_forward_pass_on_cuda():
    check_forward("cuda", TOLERANCES, [*SHAPES[:5], (16, 64, 32, 32), (5, 2048, 4, 4), (9, 130, 17, 5)])


def chain(bias=False, norm=None, relu=True):
    torch.manual_seed(0)
    modules = [nn.Conv2d(4, 8, 3, padding=1, bias=bias), batch_norm(8, **(norm or {}))]
    modules += [nn.ReLU()] * relu
    for tensor in nn.Sequential(*modules).state_dict().values():
        if tensor.is_floating_point():
            tensor.uniform_(0.1, 0.5)
    return nn.Sequential(*modules)


CHAINS = [
    {},
    {"bias": True, "relu": False},
    {"norm": {"affine": False}},
    {"norm": {"bias": False, "track_running_stats": False}},
]


def run(model, x, grad):
    x = x.clone(memory_format=torch.preserve_format).requires_grad_()
    y = model(x)
    return [y.detach(), *torch.autograd.grad(y, [x, *model.parameters()], grad)]


def check_blocks(device, shape, chains, layouts):
    """A block in float32 against its three layers in float64, a float32 gradient of another layout given."""
    for options in chains:
        plain = chain(**options)
        for layout in layouts:
            fused = BandLimitedBlock(*copy.deepcopy(plain), **BAND).to(device)
            double = band_limit(copy.deepcopy(plain).double(), 0.75, fft_size="compact", method="lowpass")
            x, grad = torch.randn(shape).double(), torch.randn(shape[0], 8, *shape[2:]).double()
            given = x.float().to(device, memory_format=layout)
            for a, b in zip(run(fused, given, grad.float().to(device)), run(double, x, grad), strict=True):
                torch.testing.assert_close(a.cpu().double(), b, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("case", range(len(CHAINS)))
def test_blocks_in_the_simulator(case, simulate):
    simulate(check_a_block, case)


def check_a_block(case):
    """A block's backward pass by the kernels alone, and that it takes them."""
    block._runs_kernels = lambda _: not torch.is_grad_enabled()
    calls, differentiate = [], kernels.differentiate
    kernels.differentiate = lambda *arguments: (calls.append(None), differentiate(*arguments))[1]
    batch_norm_sizes.BLOCKS = 32, 4
    check_blocks("cpu", (2, 4, 8, 8), CHAINS[case : case + 1], LAYOUTS)
    assert len(calls) == 2


@pytest.mark.gpu
def test_the_kernels_on_cuda():
    check_kernels("cuda", TOLERANCES, [*SHAPES, (16, 64, 32, 32), (5, 2048, 4, 4), (9, 130, 17, 5)])


@pytest.mark.gpu
def test_blocks_on_cuda():
    with full_precision():
        for shape in ((8, 4, 16, 16), (3, 4, 11, 7)):
            check_blocks("cuda", shape, CHAINS, LAYOUTS)


@pytest.mark.gpu
@pytest.mark.parametrize("layout", LAYOUTS)
def test_mixed_precision_on_cuda(layout):
    """Types as torch's BatchNorm has them, and its numbers: the convolution's are the same bits."""
    plain = chain(norm={"momentum": 0.3})
    fused = BandLimitedBlock(*copy.deepcopy(plain), **BAND).cuda()
    apart = band_limit(plain, **BAND).cuda()
    x = torch.randn(16, 4, 32, 32, device="cuda").to(memory_format=layout)
    grad = torch.randn(16, 8, 32, 32, device="cuda").bfloat16()
    with torch.autocast("cuda", torch.bfloat16):
        found, wanted = (run(model, x, grad) for model in (fused, apart))
    assert [t.dtype for t in found] == [t.dtype for t in wanted]
    for a, b in zip(found, wanted, strict=True):
        assert (a.double() - b.double()).norm() < 2e-2 * b.double().norm()


@pytest.mark.gpu
@pytest.mark.parametrize("layout", LAYOUTS)
def test_memory_of_a_backward_pass_on_cuda(layout):
    """Beside the gradient given there are two maps: of the convolution's output and of its input.

    Coefficients are a fifth of a map.
    """
    plain = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
    fused = BandLimitedBlock(*plain, **(BAND | {"compression": 0.85})).cuda()
    x = torch.randn(64, 16, 32, 32, device="cuda").to(memory_format=layout).requires_grad_()
    grad = torch.randn_like(x)
    for _ in range(2):
        y = fused(x)
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        torch.autograd.backward(y, grad)
        x.grad = None
    map_bytes = x.numel() * 4
    assert torch.cuda.max_memory_allocated() - before < 2.6 * map_bytes


@pytest.mark.gpu
def test_second_derivatives_on_cuda():
    plain = chain()
    double = band_limit(copy.deepcopy(plain).double(), 0.75, fft_size="compact", method="lowpass")
    fused = BandLimitedBlock(*copy.deepcopy(plain), **BAND).cuda()
    x, seconds = torch.randn(8, 4, 8, 8), []
    with full_precision():
        for model, given in ((fused, x.cuda()), (double, x.double())):
            given.requires_grad_()
            (first,) = torch.autograd.grad(F.tanh(model(given)).sum(), given, create_graph=True)
            seconds.append(torch.autograd.grad(first.square().sum(), given)[0].cpu().double())
    torch.testing.assert_close(*seconds, rtol=1e-3, atol=1e-3)
