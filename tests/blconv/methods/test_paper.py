from collections import Counter
from functools import partial

import pytest
import torch
from support import oracle
from torch.utils._python_dispatch import TorchDispatchMode

from blconv import BandLimitedConv1d, BandLimitedConv2d, summary
from blconv.band import AxisBand
from blconv.functional import band_limited_conv1d, band_limited_conv2d, geometry_of
from blconv.kernels import hadamard
from blconv.methods import paper

# (batch, channels, H, W), (out, channels, K_h, K_w), options
GEOMETRIES = [
    ((2, 3, 8, 8), (4, 3, 3, 3), {"padding": 1}),
    ((3, 2, 7, 11), (5, 2, 5, 3), {"padding": (2, 1), "stride": (1, 2)}),
    ((1, 2, 13, 5), (3, 2, 2, 3), {"padding": (0, 3), "dilation": (3, 2), "stride": 3}),
    ((1, 1, 1, 17), (2, 1, 1, 5), {"padding": (0, 2)}),
    ((2, 2, 1, 1), (3, 2, 3, 3), {"padding": 1}),
    ((2, 1, 2, 2), (1, 1, 1, 1), {}),
]
SERIES = [
    ((2, 3, 16), (4, 3, 3), {"padding": 1}),
    ((3, 2, 17), (5, 2, 4), {"padding": 2, "stride": 3, "dilation": 2}),
    ((1, 1, 1), (2, 1, 3), {"padding": 1}),
]
# Rows of a band that is cut on both axes, on one of them, and a single coefficient.
AXES = [
    (AxisBand(9, 0, 0, 9, 3), AxisBand(12, 0, 0, 12, 4)),
    (AxisBand(8, 0, 0, 8, 5), AxisBand(7, 0, 0, 7, 2)),
    (AxisBand(8, 0, 0, 8, 2), AxisBand(6, 0, 0, 6, 4)),
    (AxisBand(5, 0, 0, 5, 1), AxisBand(4, 0, 0, 4, 1)),
    (AxisBand(11, 0, 0, 11, 4),),
]


def draw(*shape, dtype=torch.float64, seed=0):
    return torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(seed + sum(shape)))


def product(a, b, conjugate):
    """The sum over the channels, literally."""
    return torch.einsum("ilq,ljq->ijq", a, b.conj() if conjugate else b)


def both(x, weight, options, name, device="cpu"):
    """Values and gradients of our convolution with one of the products, and of the definition."""
    dims = weight.dim() - 2
    definition = oracle.conv1d if dims == 1 else oracle.conv2d
    geometry = geometry_of(x.shape[2:], weight.shape[2:], **options)
    ours = [part.to(device).detach().requires_grad_() for part in (x, weight)]
    theirs = [part.double().detach().requires_grad_() for part in (x, weight)]
    found, wanted = paper.convolve(*ours, geometry, product=name), definition(*theirs, **options)
    gradient = draw(*wanted.shape, seed=1)
    found = [found, *torch.autograd.grad(found, ours, gradient.to(found))]
    return found, [wanted, *torch.autograd.grad(wanted, theirs, gradient)]


def agree(found, wanted, tolerance):
    """Relative to the largest entry."""
    for ours, theirs in zip(found, wanted, strict=True):
        ours, theirs = ours.detach().cpu(), theirs.detach()
        assert ours.shape == theirs.shape
        error = (ours.to(theirs.dtype) - theirs).abs().max()
        assert float(error) <= tolerance * max(1.0, float(theirs.abs().max()))


@pytest.mark.parametrize("fft_size", ["paper", "compact", 23])
@pytest.mark.parametrize("geometry", [*GEOMETRIES, *SERIES], ids=str)
def test_values_and_gradients_are_those_of_the_definition(geometry, fft_size):
    shape, weight, options = geometry
    for compression in (0.1, 0.48, 0.84, 0.99):
        chosen = options | {"compression": compression, "fft_size": fft_size}
        parts = draw(*shape), draw(*weight)
        agree(*both(*parts, chosen, None), 1e-11)
        agree(*both(*(part.float() for part in parts), chosen, None), 1e-5)


@pytest.mark.parametrize("fft_size", ["paper", "compact", 15])
@pytest.mark.parametrize(
    ("function", "shapes", "options"),
    [
        (band_limited_conv2d, ((2, 2, 4, 5), (2, 2, 3, 2)), {"stride": (2, 1), "dilation": (1, 2)}),
        (band_limited_conv1d, ((2, 2, 7), (3, 2, 3)), {"stride": 2}),
    ],
)
def test_gradients_to_the_second_order(function, shapes, options, fft_size):
    layer = partial(
        function, padding=1, compression=0.4, fft_size=fft_size, method="paper", **options
    )  # fmt: skip
    parts = [draw(*shape).requires_grad_() for shape in shapes]
    assert torch.autograd.gradcheck(layer, parts)
    assert torch.autograd.gradgradcheck(layer, parts)
    for wanted in range(2):  # the other one needs no gradient
        alone = [part.detach().requires_grad_(i == wanted) for i, part in enumerate(parts)]
        assert torch.autograd.gradcheck(layer, alone)


LAYOUTS = {
    "channels_last": lambda x: x.to(memory_format=torch.channels_last),
    "transposed": lambda x: x.mT.contiguous().mT,
    "strided": lambda x: torch.stack([x, x], -1)[..., 0],
    "expanded": lambda x: x[:1].expand(3, -1, -1, -1),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(layout):
    x, weight = LAYOUTS[layout](draw(2, 4, 7, 9)), LAYOUTS[layout](draw(3, 4, 3, 3))
    options = {"padding": 1, "stride": 2, "compression": 0.48}
    agree(*both(x, weight, options, None), 1e-11)
    y = band_limited_conv2d(x, weight, **options, method="paper")
    is_last = y.is_contiguous(memory_format=torch.channels_last)
    assert is_last if layout == "channels_last" else y.is_contiguous()


def test_function_transforms_and_compilation():
    x, weight = draw(3, 2, 7, 6), draw(4, 2, 3, 3)
    layer = partial(band_limited_conv2d, padding=1, compression=0.6, method="paper")
    wanted = oracle.conv2d(x, weight, padding=1, compression=0.6)
    torch.testing.assert_close(torch.func.vmap(lambda image: layer(image, weight))(x), wanted)
    filters = torch.stack([weight, -weight])
    torch.testing.assert_close(torch.func.vmap(lambda w: layer(x, w))(filters)[1], -wanted)
    x.requires_grad_()
    gradient = torch.autograd.grad(layer(x, weight).square().sum(), x)[0]
    found = torch.func.grad(lambda image: layer(image, weight).square().sum())(x.detach())
    torch.testing.assert_close(found, gradient)
    torch.compiler.reset()
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")(x, weight)
    torch.testing.assert_close(compiled, wanted)
    torch.testing.assert_close(torch.autograd.grad(compiled.square().sum(), x)[0], gradient)


class Transforms(TorchDispatchMode):
    """Counts the transforms of any kind."""

    def __init__(self):
        super().__init__()
        self.count = Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        self.count.update([name] if name.startswith("_fft") else [])
        return function(*args, **kwargs or {})


@pytest.mark.parametrize("case", [GEOMETRIES[1], SERIES[1]], ids=str)
def test_the_backward_pass_uses_the_spectra_again(case):
    """Three transforms each way, none of them complex throughout; kept are z and v, cropped, alone."""
    shape, weight, options = case
    parts = [draw(*size).requires_grad_() for size in (shape, weight)]
    geometry = geometry_of(shape[2:], weight[2:], **options, compression=0.7)
    kept = {}

    def keep(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with Transforms() as forward, torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        y = paper.convolve(*parts, geometry)
    assert forward.count == {"_fft_r2c": 2, "_fft_c2r": 1}
    coefficients = [size[0] * size[1] * geometry.band.kept for size in (shape, weight)]
    assert sorted(t.untyped_storage().nbytes() // 16 for t in kept.values()) == sorted(coefficients)
    layer = (BandLimitedConv1d if len(shape) == 3 else BandLimitedConv2d)(
        shape[1], weight[0], weight[2:], **options, compression=0.7, method="paper"
    )
    (row,) = summary(layer, shape).layers
    assert row.saved == pytest.approx(2 * coefficients[0] / parts[0].numel())
    with Transforms() as backward:
        torch.autograd.grad(y.sum(), parts)
    assert backward.count == {"_fft_r2c": 1, "_fft_c2r": 2}


@pytest.mark.parametrize("conjugate", [False, True])
@pytest.mark.parametrize(("rows", "terms", "columns", "count"), [(3, 2, 5, 7), (1, 1, 1, 1), (2, 17, 3, 40)])
def test_three_real_products_are_a_complex_one(rows, terms, columns, count, conjugate):
    a = draw(rows, terms, count, dtype=torch.complex128)
    b = draw(columns, terms, count, dtype=torch.complex128).transpose(0, 1)
    torch.testing.assert_close(paper.sgemm(a, b, conjugate), product(a, b, conjugate), rtol=0, atol=1e-13)


@pytest.mark.parametrize("axes", AXES, ids=str)
def test_crop_keeps_the_low_frequencies_and_pad_puts_them_back(axes):
    sizes = [axis.size for axis in axes]
    dims = tuple(range(-len(axes), 0))
    spectrum = torch.fft.rfftn(draw(2, *sizes), dim=dims)
    mask = torch.ones(())
    for axis in axes:
        frequency = torch.fft.fftfreq(axis.size, 1 / axis.size).abs().round()
        mask = mask[..., None] * (frequency < axis.kept if axis.is_cut else frequency >= 0)
    mask = mask[..., : axes[-1].half]
    corner = paper.crop(spectrum, axes)
    assert corner.numel() == 2 * int(mask.sum())
    assert corner.untyped_storage().nbytes() == 16 * corner.numel()
    assert torch.equal(paper.pad(corner, axes), spectrum * mask)


@pytest.mark.parametrize("shape", [(1, 1), (4, 6), (5, 7), (2, 8, 3), (3, 2, 1, 9)])
def test_the_dc_value_in_the_middle(shape):
    spectrum = torch.fft.fft2(draw(*shape))
    shifted = paper.shift_dc(spectrum)
    assert torch.equal(shifted, torch.fft.fftshift(spectrum, (-2, -1)))
    assert torch.equal(shifted[..., shape[-2] // 2, shape[-1] // 2], spectrum[..., 0, 0])
    one_sided = torch.fft.rfft2(draw(*shape))
    assert torch.equal(paper.shift_dc(one_sided, dim=(-2,)), torch.fft.fftshift(one_sided, -2))


def test_what_it_cannot_do_falls_to_the_low_pass():
    x, weight = draw(2, 4, 9, 7, dtype=torch.float32), draw(6, 2, 3, 3, dtype=torch.float32)
    options = {"padding": 1, "compression": 0.5}
    grouped = band_limited_conv2d(x, weight, groups=2, **options, method="paper")
    wanted = oracle.conv2d(x.double(), weight.double(), groups=2, **options)
    torch.testing.assert_close(grouped.double(), wanted, rtol=0, atol=1e-5)
    weight = draw(6, 4, 3, 3, dtype=torch.float32)
    wanted = oracle.conv2d(x.double(), weight.double(), **options)
    for dtype in (torch.bfloat16, torch.float16):
        half = band_limited_conv2d(x.to(dtype), weight.to(dtype), **options, method="paper")
        with torch.autocast("cpu", dtype=dtype):
            cast = band_limited_conv2d(x, weight, **options, method="paper")
        for y in (half, cast):
            assert y.dtype == dtype
            assert float((y.double() - wanted).abs().max() / wanted.abs().max()) < 2e-2


@pytest.mark.parametrize("capability", [(8, 0), (9, 0)])
@pytest.mark.parametrize("threads", [1, 45, 1024])
def test_the_kernel_compiles_without_double_arithmetic_and_local_memory(capability, threads, compile_kernel):
    code = compile_kernel(hadamard.kernel(threads), capability)
    assert "fma.rn.f32" in code.body
    assert code.registers <= 65536 // 1024


def test_the_kernel_multiplies_single_precision_alone():
    a = draw(2, 3, 4, dtype=torch.complex128)
    with pytest.raises(ValueError, match=r"torch\.complex64, got torch\.complex128"):
        paper.hadamard(a, a.transpose(0, 1), False)


def test_the_kernels_shapes_without_running_it():
    with torch.device("meta"):
        a, b = torch.empty(2, 3, 7, dtype=torch.complex64), torch.empty(3, 5, 7, dtype=torch.complex64)
        assert paper.hadamard(a, b, True).shape == (2, 5, 7)


def check_in_the_simulator():
    """Values of tiny products and of a layer both ways; more coefficients than threads too."""
    torch.use_deterministic_algorithms(True)  # fills new memory with NaN: an element left out is seen
    hadamard.MOST_THREADS = 8
    for rows, terms, columns, count in [(2, 3, 2, 5), (1, 1, 1, 1), (1, 2, 3, 8), (2, 5, 1, 19)]:
        a, b = (draw(*s, dtype=torch.complex64) for s in ((rows, terms, count), (columns, terms, count)))
        transposed = a.transpose(0, 1).contiguous().transpose(0, 1)
        strided = torch.stack([a, a], -1)[..., 0]
        for conjugate in (False, True):
            wanted = product(*(t.to(torch.complex128) for t in (a, b.transpose(0, 1))), conjugate)
            for left in (a, transposed, strided):
                agree([paper.hadamard(left, b.transpose(0, 1), conjugate)], [wanted], 1e-6)
    options = {"padding": 1, "stride": (1, 2), "compression": 0.8, "fft_size": "compact"}
    parts = [draw(*shape, dtype=torch.float32) for shape in ((2, 2, 5, 4), (3, 2, 3, 3))]
    agree(*both(*parts, options, "hadamard"), 1e-5)


def test_the_kernel_in_the_simulator(simulate):
    simulate(check_in_the_simulator)


@pytest.mark.gpu
@pytest.mark.parametrize("conjugate", [False, True])
@pytest.mark.parametrize(
    ("rows", "terms", "columns", "count"), [(3, 2, 5, 7), (1, 1, 1, 1), (7, 64, 5, 1024), (2, 33, 3, 3003)]
)
def test_the_kernel_on_cuda(rows, terms, columns, count, conjugate):
    a = draw(rows, terms, count, dtype=torch.complex64)
    b = draw(columns, terms, count, dtype=torch.complex64)
    wanted = product(a.to(torch.complex128), b.to(torch.complex128).transpose(0, 1), conjugate)
    a, b = a.cuda(), b.cuda()
    found = paper.hadamard(a, b.transpose(0, 1), conjugate)
    agree([found], [wanted], 2e-6)
    assert torch.equal(paper.hadamard(a, b.transpose(0, 1), conjugate), found)
    transposed = a.transpose(0, 1).contiguous().transpose(0, 1)
    assert torch.equal(paper.hadamard(transposed, b.transpose(0, 1), conjugate), found)
    torch.library.opcheck(paper.hadamard, (a, b.transpose(0, 1), conjugate))


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["hadamard", "sgemm"])
@pytest.mark.parametrize("geometry", [*GEOMETRIES, *SERIES], ids=str)
def test_both_products_on_cuda(geometry, name):
    shape, weight, options = geometry
    parts = draw(*shape, dtype=torch.float32), draw(*weight, dtype=torch.float32)
    for fft_size in ("paper", "compact"):
        chosen = options | {"compression": 0.48, "fft_size": fft_size}
        agree(*both(*parts, chosen, name, "cuda"), 1e-5)


@pytest.mark.gpu
def test_by_default_on_cuda(monkeypatch):
    """The kernel in single precision, matrix products in double; captured in a graph, on any stream."""
    asked = []
    for name, function in paper.PRODUCTS.items():
        monkeypatch.setitem(
            paper.PRODUCTS, name, lambda *args, name=name, f=function: asked.append(name) or f(*args)
        )
    x, weight = draw(2, 3, 9, 7).cuda(), draw(4, 3, 3, 3).cuda()
    layer = partial(band_limited_conv2d, padding=1, compression=0.5, method="paper")
    wanted = layer(x, weight)
    x, weight = x.float(), weight.float()
    eager = layer(x, weight)
    assert asked == ["sgemm", "hadamard"]
    agree([eager], [wanted.cpu()], 1e-5)
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        beside = layer(x, weight)
    side.synchronize()
    assert torch.equal(beside, eager)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = layer(x, weight)
    x.neg_()
    graph.replay()
    torch.testing.assert_close(captured, -eager)
