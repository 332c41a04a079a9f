import copy
import shutil
import threading
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from support import oracle
from torch._subclasses.fake_tensor import FakeTensorMode

from blconv import BandLimitedConv2d, reference, tables
from blconv.functional import band_limited_conv2d, geometry_of

# (batch, channels, H, W), (out, channels / groups, K_h, K_w), options
GEOMETRIES = [
    ((2, 3, 8, 8), (4, 3, 3, 3), {"padding": 1}),
    ((2, 3, 8, 8), (4, 3, 3, 3), {}),
    ((1, 2, 9, 9), (3, 2, 3, 3), {"padding": 1, "stride": 2}),
    ((1, 2, 9, 12), (3, 2, 3, 3), {"padding": 1, "stride": (2, 3)}),
    ((1, 2, 7, 11), (3, 2, 5, 3), {"padding": (2, 1)}),
    ((1, 2, 7, 11), (3, 2, 3, 5), {"padding": (0, 3), "stride": (1, 2)}),
    ((1, 2, 10, 6), (3, 2, 3, 3), {"padding": "same"}),
    ((1, 2, 10, 6), (3, 2, 2, 4), {"padding": "same"}),
    ((1, 2, 10, 9), (3, 2, 4, 2), {"padding": "same", "dilation": (2, 3)}),
    ((1, 2, 10, 6), (3, 2, 4, 2), {"padding": "valid"}),
    ((1, 2, 13, 13), (2, 2, 3, 3), {"dilation": 2, "padding": 2}),
    ((1, 2, 13, 11), (2, 2, 3, 2), {"dilation": (3, 5), "padding": (1, 0), "stride": 2}),
    ((2, 4, 8, 8), (6, 2, 3, 3), {"groups": 2, "padding": 1}),
    ((2, 6, 6, 7), (6, 1, 3, 3), {"groups": 6, "padding": 1}),
    ((2, 3, 6, 7), (9, 1, 3, 2), {"groups": 3, "padding": 1, "stride": 2, "dilation": 2}),
    ((1, 2, 5, 5), (2, 2, 5, 5), {}),
    ((1, 2, 5, 5), (2, 2, 7, 7), {"padding": 1}),
    ((1, 1, 1, 1), (1, 1, 1, 1), {}),
    ((1, 1, 1, 1), (1, 1, 3, 3), {"padding": 1}),
    ((1, 2, 1, 17), (2, 2, 1, 5), {"padding": (0, 2)}),
    ((1, 2, 17, 1), (2, 2, 5, 1), {"padding": (2, 0), "stride": (3, 1)}),
    ((1, 2, 2, 2), (3, 2, 3, 3), {"padding": 1}),
    ((1, 3, 8, 8), (2, 3, 1, 1), {}),
    ((1, 3, 8, 8), (2, 3, 1, 1), {"stride": 2, "padding": 1}),
    ((1, 1, 16, 31), (1, 1, 4, 4), {"padding": 5}),
    ((1, 1, 23, 19), (1, 1, 11, 7), {"padding": (5, 3), "stride": 4}),
]
COMPRESSIONS = [0.05, 0.28, 0.48, 0.84, 0.99]


def id_of(geometry):
    shape, weight, options = geometry
    text = ",".join(f"{key}={value}" for key, value in options.items()).replace(" ", "")
    return f"{'x'.join(map(str, shape))}*{'x'.join(map(str, weight))}{text and ','}{text}"


def tensors(shape, weight, dtype=torch.float64, bias=True):
    source = torch.Generator().manual_seed(7)
    parts = [torch.randn(size, generator=source, dtype=torch.float64) for size in (shape, weight, weight[0])]
    return [part.to(dtype) if bias or i < 2 else None for i, part in enumerate(parts)]


def int_size(shape, weight, options):
    """An odd transform size above both padded extents."""
    pads = oracle.pads(options.get("padding", 0), weight[2:], options.get("dilation", 1))
    return (max(n + sum(pad) for n, pad in zip(shape[-2:], pads, strict=True)) + 3) | 1


def agree(function, reference_function, parts, options, tolerance=1e-10):
    """Values and all gradients, relative to the largest entry."""
    parts = [None if part is None else part.clone().requires_grad_() for part in parts]
    wanted = reference_function(*parts, **options)
    found = function(*parts, **options)
    assert found.shape == wanted.shape
    cotangent = torch.randn(wanted.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    inputs = [part for part in parts if part is not None]
    pairs = [
        (found, wanted),
        *zip(
            torch.autograd.grad(found, inputs, cotangent),
            torch.autograd.grad(wanted, inputs, cotangent),
            strict=True,
        ),
    ]
    for ours, theirs in pairs:
        scale = max(1.0, float(theirs.detach().abs().max())) if theirs.numel() else 1.0
        torch.testing.assert_close(ours / scale, theirs / scale, rtol=0, atol=tolerance)


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=id_of)
@pytest.mark.parametrize("fft_size", ["paper", "compact", "int"])
def test_values_and_gradients_are_those_of_the_definition(geometry, fft_size):
    """26 geometries x 3 sizes x 5 compressions: the fast form, and the package's own definition."""
    shape, weight, options = geometry
    size = int_size(*geometry) if fft_size == "int" else fft_size
    parts = tensors(shape, weight, bias=len(options) % 2 == 1)
    for compression in COMPRESSIONS:
        chosen = options | {"compression": compression, "fft_size": size}
        agree(band_limited_conv2d, oracle.conv2d, parts, chosen)
        agree(reference.band_limited_conv2d, oracle.conv2d, parts, chosen)


@pytest.mark.parametrize("method", ["lowpass", "spectral", "dense", "paper"])
@pytest.mark.parametrize("geometry", GEOMETRIES, ids=id_of)
@pytest.mark.parametrize("fft_size", ["paper", "compact", "int"])
def test_every_method_is_the_definition(geometry, fft_size, method):
    shape, weight, options = geometry
    size = int_size(*geometry) if fft_size == "int" else fft_size
    for compression in COMPRESSIONS:
        chosen = options | {"compression": compression, "fft_size": size}
        agree(partial(band_limited_conv2d, method=method), oracle.conv2d, tensors(shape, weight), chosen)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@pytest.mark.parametrize("geometry", GEOMETRIES, ids=id_of)
def test_compression_zero_is_conv2d_to_the_bit(geometry):
    shape, weight, options = geometry
    x, weight, bias = (part.requires_grad_() for part in tensors(shape, weight, torch.float32))
    ours = band_limited_conv2d(x, weight, bias, **options, compression=0.0)
    theirs = F.conv2d(x, weight, bias, **options)
    assert torch.equal(ours, theirs)
    cotangent = torch.randn_like(theirs)
    for found, wanted in zip(
        torch.autograd.grad(ours, (x, weight, bias), cotangent),
        torch.autograd.grad(theirs, (x, weight, bias), cotangent),
        strict=True,
    ):
        assert torch.equal(found, wanted)
    # The definition without a mask is the convolution too.
    agree(oracle.conv2d, F.conv2d, tensors(shape, weight.shape), options)


@settings(max_examples=120, deadline=None)
@given(st.data())
def test_any_options(data):
    draw = data.draw
    kernel = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    dilation = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    zeros, steps = st.integers(0, 3), st.integers(1, 3)
    padding = draw(st.one_of(zeros, st.tuples(zeros, zeros), st.just("valid")))
    stride = draw(st.one_of(steps, st.tuples(steps, steps)))
    spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    pads = oracle.pads(padding, kernel, dilation)
    lengths = [draw(st.integers(max(1, span - sum(pad)), 14)) for span, pad in zip(spans, pads, strict=True)]
    each = draw(st.integers(1, 2))
    padded = max(length + sum(pad) for length, pad in zip(lengths, pads, strict=True))
    options = {
        "stride": stride,
        "padding": padding,
        "dilation": dilation,
        "groups": groups,
        "compression": draw(st.floats(0.001, 0.999)),
        "fft_size": draw(st.one_of(st.sampled_from(["paper", "compact"]), st.integers(padded, padded + 20))),
    }
    parts = tensors((draw(st.integers(0, 2)), groups * each, *lengths), (2 * groups, each, *kernel))
    agree(band_limited_conv2d, oracle.conv2d, parts, options)


@pytest.mark.parametrize("fft_size", ["paper", "compact", 15])
def test_gradcheck_to_the_second_order(fft_size):
    parts = [part.requires_grad_() for part in tensors((1, 2, 4, 5), (2, 2, 3, 2))]

    def layer(x, weight, bias):
        return band_limited_conv2d(
            x, weight, bias, stride=(2, 1), padding=1, compression=0.4, fft_size=fft_size
        )

    assert torch.autograd.gradcheck(layer, parts)
    assert torch.autograd.gradgradcheck(layer, parts)


def test_a_constant_image_passes_unchanged_and_a_fast_wave_not_at_all():
    weight = torch.randn(1, 1, 3, 3, dtype=torch.float64)
    options = {"compression": 0.75, "fft_size": "compact"}  # half = 9, k = 4
    flat = torch.full((1, 1, 16, 16), 1.7, dtype=torch.float64)
    y = band_limited_conv2d(flat, weight, **options)
    torch.testing.assert_close(y, torch.full_like(y, 1.7) * weight.sum())
    place = torch.arange(16, dtype=torch.float64)
    for frequency in range(9):
        wave = torch.cos(2 * torch.pi * frequency * place / 16)
        for x in (wave[:, None].expand(16, 16), wave[None, :].expand(16, 16)):
            y = band_limited_conv2d(x[None, None], weight, **options)
            wanted = F.conv2d(x[None, None], weight) * (frequency < 4)
            torch.testing.assert_close(y, wanted, rtol=0, atol=1e-12)


OPTIONS = {"padding": 1, "stride": 2, "compression": 0.48}


def every_other(x):
    wide = x.new_zeros(*x.shape[:-1], 2 * x.shape[-1])
    wide[..., ::2] = x
    return wide[..., ::2]


LAYOUTS = {
    "channels_last": lambda x: x.to(memory_format=torch.channels_last),
    "transposed": lambda x: x.mT.contiguous().mT,
    "strided": every_other,
    "expanded": lambda x: x[:1].expand(3, -1, -1, -1),
    "flipped batch": lambda x: x.transpose(0, 1).contiguous().transpose(0, 1),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("channels", [1, 4])
@pytest.mark.parametrize("fft_size", ["paper", "compact"])
def test_layouts(layout, channels, fft_size):
    x, weight, bias = tensors((2, channels, 9, 7), (3, channels, 3, 3))
    laid_out = LAYOUTS[layout](x)
    options = OPTIONS | {"fft_size": fft_size}

    def ours(leaf, weight, bias, **options):
        return band_limited_conv2d(LAYOUTS[layout](leaf), weight, bias, **options)

    def theirs(leaf, weight, bias, **options):
        return oracle.conv2d(LAYOUTS[layout](leaf), weight, bias, **options)

    agree(ours, theirs, [x, weight, bias], options)
    # As a leaf, and with filters in channels_last as `module.to(memory_format=...)` leaves them.
    agree(
        band_limited_conv2d,
        oracle.conv2d,
        [laid_out.detach(), LAYOUTS["channels_last"](weight), bias],
        options,
    )


def test_channels_last_in_channels_last_out():
    x, weight, bias = tensors((2, 4, 9, 7), (8, 4, 3, 3), torch.float32)
    x, weight = (part.to(memory_format=torch.channels_last) for part in (x, weight))
    y = band_limited_conv2d(x, weight, bias, **OPTIONS)
    assert y.is_contiguous(memory_format=torch.channels_last)


def test_unbatched_input():
    x, weight, bias = tensors((2, 9, 7), (3, 2, 3, 3))
    agree(band_limited_conv2d, oracle.conv2d, [x, weight, bias], OPTIONS)
    agree(reference.band_limited_conv2d, oracle.conv2d, [x, weight, bias], OPTIONS)
    assert band_limited_conv2d(x, weight, bias, **OPTIONS).shape == F.conv2d(x, weight, bias, 2, 1).shape


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_empty_batch(layout):
    x, weight, bias = tensors((0, 2, 9, 7), (3, 2, 3, 3))
    x = x.to(memory_format=layout).requires_grad_()
    y = band_limited_conv2d(x, weight.requires_grad_(), bias, **OPTIONS)
    assert y.shape == (0, 3, 5, 4)
    y.sum().backward()
    assert x.grad.shape == x.shape
    assert not weight.grad.any()
    assert reference.band_limited_conv2d(x, weight, bias, **OPTIONS).shape == (0, 3, 5, 4)


def test_inputs_are_not_changed():
    parts = tensors((2, 2, 9, 7), (3, 2, 3, 3))
    before = copy.deepcopy(parts)
    band_limited_conv2d(*parts, **OPTIONS)
    assert all(torch.equal(a, b) for a, b in zip(parts, before, strict=True))


PRECISION = {torch.float32: 2e-6, torch.bfloat16: 3e-2, torch.float16: 4e-3}


@pytest.mark.parametrize("dtype", PRECISION, ids=str)
@pytest.mark.parametrize("fft_size", ["paper", "compact"])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["nchw", "nhwc"])
def test_low_precision(dtype, fft_size, layout):
    options = {"padding": 1, "compression": 0.48, "fft_size": fft_size}
    x, weight, bias = (part.to(dtype) for part in tensors((2, 8, 16, 16), (8, 8, 3, 3)))
    parts = [x.to(memory_format=layout).requires_grad_(), weight.requires_grad_(), bias.requires_grad_()]
    exact = [part.detach().double().requires_grad_() for part in parts]
    ours, theirs = band_limited_conv2d(*parts, **options), oracle.conv2d(*exact, **options)
    assert ours.dtype == dtype
    cotangent = torch.randn(theirs.shape, dtype=torch.float64).to(dtype)
    gradients = torch.autograd.grad(ours, parts, cotangent)
    wanted = torch.autograd.grad(theirs, exact, cotangent.double())
    for found, right in [(ours, theirs), *zip(gradients, wanted, strict=True)]:
        assert found.dtype == dtype
        right = right.detach()
        error = (found.detach().double() - right).abs().max() / right.abs().max()
        assert float(error) < PRECISION[dtype]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_autocast(dtype):
    parts = [part.requires_grad_() for part in tensors((2, 8, 16, 16), (8, 8, 3, 3), torch.float32)]
    options = {"padding": 1, "compression": 0.48}
    with torch.autocast("cpu", dtype=dtype):
        ours = band_limited_conv2d(*parts, **options)
        plain = F.conv2d(*parts, padding=1)
    assert ours.dtype == plain.dtype == dtype
    ours.float().square().sum().backward()
    assert all(part.grad.dtype == torch.float32 for part in parts)
    wanted = oracle.conv2d(*[part.detach().double() for part in parts], **options)
    error = (ours.detach().double() - wanted).abs().max() / wanted.abs().max()
    assert float(error) < PRECISION[dtype]


COMPILER = shutil.which("g++") or shutil.which("clang++") or shutil.which("c++")


@pytest.mark.skipif(COMPILER is None, reason="torch.compile needs a C++ compiler on the CPU")
def test_compiled_forward_and_backward():
    torch.compiler.reset()
    layer = BandLimitedConv2d(3, 4, 3, padding=1, compression=0.5)
    compiled = torch.compile(layer, fullgraph=True)
    x = torch.randn(2, 3, 8, 8, requires_grad=True)
    wanted, found = layer(x), compiled(x)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-6)
    cotangent = torch.randn_like(wanted)
    inputs = [x, layer.weight, layer.bias]
    right = torch.autograd.grad(wanted, inputs, cotangent)
    for ours, theirs in zip(torch.autograd.grad(found, inputs, cotangent), right, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["nchw", "nhwc"])
def test_compiled_for_other_batches_maps_and_compressions(layout):
    """Sizes that change become symbols in torch.compile; the band needs numbers."""
    torch.compiler.reset()
    layer = BandLimitedConv2d(2, 3, 3, padding=1, compression=0.5)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    for shape in [(2, 2, 8, 8), (3, 2, 8, 8), (2, 2, 12, 12), (4, 2, 16, 9)]:
        x = torch.randn(shape).to(memory_format=layout).requires_grad_()
        found, wanted = compiled(x), layer(x)
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-6)
        gradient = torch.autograd.grad(found.square().sum(), x)
        torch.testing.assert_close(gradient, torch.autograd.grad(wanted.square().sum(), x))
    layer.compression = 0.84
    torch.testing.assert_close(compiled(x), layer(x), rtol=0, atol=1e-6)


@pytest.fixture
def fresh_cache():
    tables._cached.cache_clear()
    yield
    tables._cached.cache_clear()


@pytest.mark.usefixtures("fresh_cache")
def test_inference_first_then_training():
    x, weight, _ = tensors((2, 2, 9, 7), (3, 2, 3, 3))
    with torch.inference_mode():
        band_limited_conv2d(x, weight, **OPTIONS)
        band_limited_conv2d(x.to(memory_format=torch.channels_last), weight, **OPTIONS)
    agree(band_limited_conv2d, oracle.conv2d, [x, weight], OPTIONS)


@pytest.mark.usefixtures("fresh_cache")
@pytest.mark.parametrize("before", [False, True], ids=["first", "after a plain call"])
def test_fake_tensors_leave_no_trace(before):
    layer = BandLimitedConv2d(2, 3, 3, padding=1, compression=0.5)
    x = torch.randn(2, 2, 8, 8)
    if before:
        layer(x)
    with FakeTensorMode() as mode:
        fake = band_limited_conv2d(
            mode.from_tensor(x), mode.from_tensor(layer.weight), padding=1, compression=0.5
        )
    assert fake.shape == (2, 3, 8, 8)
    y = layer(x)
    assert type(y) is torch.Tensor
    wanted = oracle.conv2d(x, layer.weight, layer.bias, padding=1, compression=0.5)
    torch.testing.assert_close(y, wanted, rtol=0, atol=1e-5)


@pytest.mark.usefixtures("fresh_cache")
@pytest.mark.parametrize("before", [False, True], ids=["first", "after a plain call"])
def test_export_leaves_no_trace(before):
    layer = BandLimitedConv2d(2, 3, 3, padding=1, compression=0.5)
    x = torch.randn(2, 2, 8, 8)
    if before:
        layer(x)
    exported = torch.export.export(layer, (x,)).module()
    y = layer(x)
    assert type(y) is torch.Tensor
    torch.testing.assert_close(exported(x), y)


@pytest.mark.usefixtures("fresh_cache")
def test_function_transforms():
    x, weight, _ = tensors((4, 1, 2, 9, 7), (3, 2, 3, 3))
    many = torch.func.vmap(lambda image: band_limited_conv2d(image, weight, **OPTIONS))(x)
    for image, y in zip(x, many, strict=True):
        torch.testing.assert_close(y, oracle.conv2d(image, weight, **OPTIONS))
    gradient = torch.func.grad(lambda w: band_limited_conv2d(x[0], w, **OPTIONS).sum())(weight)
    agree(band_limited_conv2d, oracle.conv2d, [x[0], weight], OPTIONS)
    assert gradient.shape == weight.shape


@pytest.mark.usefixtures("fresh_cache")
def test_meta_device():
    x, weight = torch.empty(2, 3, 9, 7, device="meta"), torch.empty(4, 3, 3, 3, device="meta")
    for layout in (torch.contiguous_format, torch.channels_last):
        y = band_limited_conv2d(x.to(memory_format=layout), weight, **OPTIONS)
        assert (y.shape, y.device.type) == ((2, 4, 5, 4), "meta")


@pytest.mark.usefixtures("fresh_cache")
def test_under_a_default_device_of_another_kind():
    x, weight, _ = tensors((1, 2, 9, 7), (3, 2, 3, 3))
    with torch.device("cpu"):
        band_limited_conv2d(x, weight, **OPTIONS)
    agree(band_limited_conv2d, oracle.conv2d, [x, weight], OPTIONS)


@pytest.mark.usefixtures("fresh_cache")
def test_threads_share_the_cache_safely():
    layers = [(n, BandLimitedConv2d(1, 1, 3, padding=1, compression=0.5).double()) for n in range(3, 9)]
    images = {n: torch.randn(1, 1, n, n, dtype=torch.float64) for n, _ in layers}
    wanted = {
        n: oracle.conv2d(images[n], layer.weight, layer.bias, padding=1, compression=0.5).detach()
        for n, layer in layers
    }
    wrong = []
    start = threading.Barrier(8)

    def work():
        try:
            start.wait()
            for _ in range(20):
                for n, layer in layers:
                    x = images[n].clone().requires_grad_()
                    y = layer(x)
                    y.sum().backward()
                    torch.testing.assert_close(y.detach(), wanted[n], rtol=0, atol=1e-12)
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"compression": 1.0}, r"compression must be in \[0, 1\), got 1.0"),
        ({"compression": -0.5}, "compression"),
        ({"compression": float("nan")}, "compression"),
        ({"fft_size": "papr"}, "fft_size must be 'paper', 'compact' or a positive int, got 'papr'"),
        ({"fft_size": 8, "padding": 1, "compression": 0.5}, "at least the padded input size 10, got 8"),
        ({"padding": "sane", "compression": 0.5}, "'same' or 'valid', got 'sane'"),
        ({"padding": "same", "stride": 2, "compression": 0.5}, "'same' needs stride 1"),
        ({"padding": -1, "compression": 0.5}, "padding must not be negative, got -1"),
        ({"padding": (0, -2), "compression": 0.5}, "padding must not be negative"),
        ({"padding": (1, 2, 3), "compression": 0.5}, r"a pair of ints, got \(1, 2, 3\)"),
        ({"dilation": (1, 1, 1), "compression": 0.5}, "pair"),
    ],
)
def test_illegal_options(options, message):
    x, weight, _ = tensors((1, 2, 8, 8), (3, 2, 3, 3))
    with pytest.raises(ValueError, match=message):
        band_limited_conv2d(x, weight, **options)


@pytest.mark.parametrize(
    ("shape", "weight"), [((1, 2, 2, 2), (1, 2, 3, 3)), ((1, 3, 8, 8), (1, 2, 3, 3)), ((8, 8), (1, 1, 3, 3))]
)
def test_shapes_that_do_not_fit_are_errors_as_in_torch(shape, weight):
    x, weight = torch.randn(shape), torch.randn(weight)
    for compression in (0.0, 0.5):
        with pytest.raises(RuntimeError):
            band_limited_conv2d(x, weight, compression=compression)


def test_lists_and_single_numbers_as_torch_takes_them():
    x, weight, _ = tensors((1, 2, 8, 8), (3, 2, 3, 3))
    wanted = band_limited_conv2d(x, weight, stride=2, padding=1, dilation=1, compression=0.5)
    found = band_limited_conv2d(x, weight, stride=[2], padding=[1, 1], dilation=(1,), compression=0.5)
    assert torch.equal(found, wanted)
    options = {"compression": 0.5, "fft_size": "compact"}
    tuples = geometry_of((8, 8), (3, 3), stride=(2, 1), padding=(1, 0), **options)
    assert geometry_of([8, 8], [3, 3], stride=[2, 1], padding=[1, 0], **options) is tuples  # from the cache


def test_band_of_a_convolution():
    band = geometry_of((32, 16), (3, 5), padding="same", compression=0.84).band
    assert (band.axes[0].size, band.axes[1].size) == (128, 64)
    assert (band.axes[0].kept, band.axes[1].kept) == (26, 13)
    assert (band.axes[0].before, band.axes[1].before, band.axes[1].after) == (1, 2, 2)
    lopsided = geometry_of((10, 10), (4, 2), padding="same", compression=0.5).band
    assert [(axis.before, axis.after) for axis in (lopsided.axes[0], lopsided.axes[1])] == [(1, 2), (0, 1)]


@pytest.mark.gpu
@pytest.mark.parametrize("geometry", GEOMETRIES, ids=id_of)
def test_on_cuda(geometry):
    shape, weight, options = geometry
    for fft_size in ("paper", "compact"):
        chosen = options | {"compression": 0.48, "fft_size": fft_size}

        def on_cuda(x, weight, bias, **options):
            return band_limited_conv2d(x.cuda(), weight.cuda(), bias.cuda(), **options).cpu()

        agree(on_cuda, oracle.conv2d, tensors(shape, weight), chosen)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_autocast_and_graph_capture_on_cuda(dtype):
    parts = [part.cuda().requires_grad_() for part in tensors((2, 8, 16, 16), (8, 8, 3, 3), torch.float32)]
    options = {"padding": 1, "compression": 0.48}
    with torch.autocast("cuda", dtype=dtype):
        y = band_limited_conv2d(*parts, **options)
    assert y.dtype == dtype
    wanted = oracle.conv2d(*[part.detach().cpu().double() for part in parts], **options)
    error = (y.detach().cpu().double() - wanted).abs().max() / wanted.abs().max()
    assert float(error) < PRECISION[dtype]
    eager = band_limited_conv2d(*parts, **options).detach()  # also fills the cache: no copy in the graph
    graph = torch.cuda.CUDAGraph()
    with torch.no_grad(), torch.cuda.graph(graph):
        captured = band_limited_conv2d(*parts, **options)
    graph.replay()
    torch.testing.assert_close(captured, eager)
