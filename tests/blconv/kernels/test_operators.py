"""The operators: their shapes and derivatives in the simulator, their surroundings on a GPU."""

import warnings
from functools import partial

import pytest
import torch
from support import oracle
from support.simulator import OPERATORS, kernels_on_cpu

from blconv import BandLimitedConv2d
from blconv.functional import band_limited_conv2d, geometry_of
from blconv.kernels import layer_operator, operators
from blconv.kernels.convolution import Convolution, axes_of
from blconv.kernels.limits import KERNEL_DTYPES
from blconv.layout import is_channels_last
from blconv.methods import dense, spectral
from blrobust.device import full_precision

# Input, weight and options: odd and prime maps, one row, strides and dilations of each axis, the mean alone.
LAYERS = [
    ((2, 3, 5, 7), (4, 3, 3, 2), {"padding": (1, 0), "stride": (2, 1), "compression": 0.6}),
    ((1, 2, 1, 9), (1, 2, 1, 3), {"padding": (1, 0), "dilation": (1, 2), "compression": 0.4}),
    ((2, 1, 4, 4), (2, 1, 3, 3), {"padding": 1, "compression": 0.85}),
    ((1, 4, 6, 4), (8, 4, 3, 3), {"padding": 1, "compression": 0.5, "fft_size": 9}),
]


def draw(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def derivatives(function, x, weight, grad, second):
    """y, its gradients by x and weight against `grad`, and the gradients of theirs by all three."""
    x, weight, grad = (tensor.detach().requires_grad_() for tensor in (x, weight, grad))
    y = function(x, weight)
    first = torch.autograd.grad(y, (x, weight), grad, create_graph=True)
    sums = [(found * factor).sum() for found, factor in zip(first, second, strict=True)]
    both = torch.autograd.grad(sum(sums), (x, weight, grad))
    return [y.detach(), *(found.detach() for found in first), *both]


def near(found, wanted, tolerance, case):
    for n, (ours, theirs) in enumerate(zip(found, wanted, strict=True)):
        assert ours.shape == theirs.shape, (case, n)
        error = float((ours.double() - theirs).norm() / theirs.norm())
        assert error < tolerance, (case, n, error)


def watch(used, name, run, *args, **options):
    used.append(name)
    return run(*args, **options)


def by_operators(geometry, x, weight):
    """The convolution as compilers see it."""
    coefficients = spectral.contract(spectral.analyse(x, geometry), weight, geometry)
    return spectral.synthesise(coefficients, geometry, channels_last=is_channels_last(x))


def by_one_operator(geometry, x, weight):
    """The convolution as compiled code has it."""
    return layer_operator.convolve(x, weight, axes_of(geometry))


def check_derivatives():
    """Forward, backward and double backward pass of the whole layer against the float64 oracle."""
    library = kernels_on_cpu()
    used = []
    for name in ("contract", "pack", "analyse", "synthesise"):
        setattr(operators, name, partial(watch, used, name, getattr(operators, name)))
    forward = Convolution.forward
    Convolution.forward = lambda *arguments, **options: watch(used, "forward", forward, *arguments, **options)
    for n, (shape, weight_shape, options) in enumerate(LAYERS):
        options = {"fft_size": "compact"} | options
        exact = [draw(*shape), draw(*weight_shape)]
        y = oracle.conv2d(*exact, **options)
        # A gradient that is neither contiguous nor channels last.
        exact.append(draw(*y.shape[::-1]).permute(3, 2, 1, 0))
        factors = draw(*shape), draw(*weight_shape)
        wanted = derivatives(partial(oracle.conv2d, **options), *exact, factors)
        x, weight, grad, *factors = (tensor.float() for tensor in (*exact, *factors))
        if n % 2:
            x, weight = (t.contiguous(memory_format=torch.channels_last) for t in (x, weight))
        eager = partial(band_limited_conv2d, **options, method="spectral")
        geometry = geometry_of(shape[2:], weight_shape[2:], **options)
        for layer, steps in (
            (eager, ["forward"]),
            (partial(by_operators, geometry), ["analyse", "contract", "synthesise"]),
            (partial(by_one_operator, geometry), ["forward"]),
        ):
            found = derivatives(layer, x, weight, grad, factors)
            assert used[: len(steps)] == steps
            near(found, wanted, 1e-5, (shape, weight_shape, options))
            used.clear()
    del library


SMALL_MAPS = [
    ((3, 4, 2, 2), (8, 4, 3, 3), {"padding": 1, "compression": 0.5}),
    ((2, 3, 2, 2), (4, 3, 3, 3), {"padding": 1, "stride": 2, "compression": 0.85, "fft_size": "paper"}),
    ((2, 3, 1, 4), (4, 3, 1, 3), {"padding": (0, 1), "compression": 0.4}),
]


def check_dense():
    """The method "dense" of small maps, with second derivatives; its output can be changed in place."""
    library = kernels_on_cpu()
    dense.runs_dense_kernels = lambda device, dtype, geometry: dtype in KERNEL_DTYPES
    for shape, weight_shape, options in SMALL_MAPS:
        options = {"fft_size": "compact"} | options
        exact = [draw(*shape), draw(*weight_shape)]
        exact.append(draw(*oracle.conv2d(*exact, **options).shape[::-1]).permute(3, 2, 1, 0))
        factors = draw(*shape), draw(*weight_shape)
        wanted = derivatives(partial(oracle.conv2d, **options), *exact, factors)
        ours = partial(band_limited_conv2d, **options, method="dense")
        for layout in (torch.contiguous_format, torch.channels_last):
            given = [t.float().contiguous(memory_format=layout) for t in exact[:2]]
            rest = exact[2].float(), [factor.float() for factor in factors]
            near(derivatives(ours, *given, *rest), wanted, 1e-5, (shape, weight_shape, layout))
            y = ours(*(t.detach().requires_grad_() for t in given))
            assert y.is_contiguous(memory_format=layout)
            assert type(y.grad_fn).__name__ == "_ProductBackward"
            assert y.relu_() is y
    del library


AXES = [5, 1, 1, 7, 2, 3, 0, 1, 4, 2]  # of maps of 5 x 3 pixels: 5 coefficients
TAPS = [3, 0, 1, 7, 2, 2, 0, 1, 4, 2]  # of filters of 3 x 2 taps, for the same
MEAN = [3, 0, 1, 7, 1, 2, 0, 1, 4, 1]
# Of maps of 5 x 3 pixels, their convolution of 4 x 2 pixels, and its filters of 3 x 2 taps.
LAYER = [*AXES, 4, 0, 1, 7, 2, 2, 0, 1, 4, 2, *TAPS]


def calls(layout, dtype):
    """Arguments of every operator, as its schema has them."""
    x, w, dy = torch.randn(2, 3, 5, 3), torch.randn(4, 3, 3, 2), torch.randn(2, 4, 4, 2)
    x, w, dy = (tensor.to(dtype).contiguous(memory_format=layout) for tensor in (x, w, dy))
    last = layout == torch.channels_last
    z, v = torch.randn(5, 2, 6).to(dtype), torch.randn(5, 6, 8).to(dtype)
    return {
        "analyse": [(x, AXES)],
        "synthesise": [(z, AXES, 3, last)],
        "pack": [(w, "filter_table", TAPS), (w, "filter_table", MEAN)],
        "fold": [(v, "filter_table", TAPS, [4, 3, 3, 2], last)],
        "convolve": [(x, w, LAYER)],
        "convolve_backward": [
            (dy, z, w, LAYER, 3, last, True, True),
            (dy, z, w, LAYER, 3, last, False, True),
            (dy, z, w, LAYER, 3, last, True, False),
        ],
        "contract": [(z, w, "filter_table", TAPS), (torch.randn(1, 2, 3).to(dtype), w, "filter_table", MEAN)],
    }


def check_fakes():
    """What tracing is told of results is so: sizes, strides, type and storage."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    library = kernels_on_cpu()
    for layout in (torch.contiguous_format, torch.channels_last):
        for dtype in (torch.float32, torch.bfloat16):
            for name, several in calls(layout, dtype).items():
                for arguments in several:
                    real = getattr(operators.ops, name)(*arguments)
                    with FakeTensorMode() as mode:
                        fakes = [mode.from_tensor(a) if isinstance(a, torch.Tensor) else a for a in arguments]
                        fake = getattr(operators.ops, name)(*fakes)
                    several = isinstance(real, tuple)
                    for a, b in zip(fake, real, strict=True) if several else [(fake, real)]:
                        for found in ("shape", "dtype", "device"):
                            assert getattr(a, found) == getattr(b, found), (name, layout, dtype, found)
                        assert a.stride() == b.stride(), (name, layout, dtype)
    del library


OWN_WARNING = "The .grad attribute of a Tensor that is not a leaf"  # torch's check looks at copies' gradients


def differentiable(name, arguments):
    """The arguments, with gradients; the backward pass as one operator has none."""
    wants = name != "convolve_backward"
    return [a.requires_grad_(wants) if isinstance(a, torch.Tensor) else a for a in arguments]


def check_operators():
    """torch's own checks of schemas, derivatives' registration, and tracing with sizes left open."""
    library = kernels_on_cpu()
    warnings.filterwarnings("ignore", message=OWN_WARNING)
    for name, several in calls(torch.contiguous_format, torch.float32).items():
        for arguments in several:
            given = differentiable(name, arguments)
            torch.library.opcheck(getattr(operators.ops, name).default, tuple(given))
    del library


@pytest.mark.parametrize("check", [check_derivatives, check_dense, check_fakes, check_operators])
def test_in_the_simulator(check, simulate):
    simulate(check)


def test_every_operator_is_checked():
    assert set(calls(torch.contiguous_format, torch.float32)) == set(OPERATORS)


@pytest.fixture
def strict():
    with full_precision():
        yield


def layer_on(device, layout=torch.contiguous_format, **options):
    layer = BandLimitedConv2d(
        20, 36, 3, padding=1, compression=0.5, fft_size="compact", method="spectral", device=device, **options
    )
    x = torch.randn(5, 20, 13, 12, device=device).contiguous(memory_format=layout)
    return layer, x


def step(layer, x, grad):
    x = x.detach().requires_grad_()
    y = layer(x)
    return [y.detach(), *torch.autograd.grad(y, (x, layer.weight), grad)]


def defined(layer, x, grad):
    x, weight, bias = (t.detach().cpu().double().requires_grad_() for t in (x, layer.weight, layer.bias))
    y = oracle.conv2d(x, weight, bias, padding=1, compression=0.5, fft_size="compact")
    return [y.detach(), *torch.autograd.grad(y, (x, weight), grad.cpu().double())]


def on_cpu(tensors):
    return [tensor.cpu() for tensor in tensors]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["nchw", "nhwc"])
class TestOnCuda:
    pytestmark = pytest.mark.gpu

    def test_the_same_bits_every_time(self, layout):
        layer, x = layer_on("cuda", layout)
        grad = torch.randn(5, 36, 13, 12, device="cuda")
        wanted = step(layer, x, grad)
        for _ in range(5):
            assert all(map(torch.equal, step(layer, x, grad), wanted))

    @pytest.mark.filterwarnings("ignore:Deterministic behavior was enabled")  # of cuBLAS, which need not be
    def test_every_element_is_written(self, layout, strict):
        layer, x = layer_on("cuda", layout)
        grad = torch.randn(5, 36, 13, 12, device="cuda")
        torch.use_deterministic_algorithms(True, warn_only=True)  # fills new memory with NaN
        try:
            found = step(layer, x, grad)
        finally:
            torch.use_deterministic_algorithms(False)
        near(on_cpu(found), defined(layer, x, grad), 1e-5, layout)

    @pytest.mark.parametrize("offset", [1, 2, 3])
    def test_anywhere_in_a_storage(self, layout, offset, strict):
        """No tensor starts at a multiple of 16 bytes: not the input, the weights, nor the gradient."""
        layer, x = layer_on("cuda", layout)

        def moved(tensor):
            place = torch.empty(tensor.numel() + offset, device="cuda").as_strided(
                tensor.shape, tensor.stride(), offset
            )
            assert place.data_ptr() % 16
            return place.copy_(tensor)

        grad = torch.randn(5, 36, 13, 12, device="cuda").contiguous(memory_format=layout)
        layer.weight = torch.nn.Parameter(moved(layer.weight.detach()))
        assert layer.weight.data_ptr() % 16
        found = step(layer, moved(x), moved(grad))
        near(on_cpu(found), defined(layer, x, grad), 1e-5, (layout, offset))

    def test_gradients_of_any_strides(self, layout, strict):
        layer, x = layer_on("cuda", layout)
        one = torch.randn((), device="cuda").expand(5, 36, 13, 12)
        turned = torch.randn(12, 13, 36, 5, device="cuda").permute(3, 2, 1, 0)
        every_other = torch.randn(5, 72, 13, 24, device="cuda")[:, ::2, :, ::2]
        for grad in (one, turned, every_other):
            near(on_cpu(step(layer, x, grad)), defined(layer, x, grad), 1e-5, (layout, grad.stride()))

    def test_no_images(self, layout):
        layer, x = layer_on("cuda", layout)
        y, dx, dw = step(layer, x[:0], torch.empty(0, 36, 13, 12, device="cuda"))
        assert (y.shape, dx.shape) == ((0, 36, 13, 12), (0, 20, 13, 12))
        assert not dw.any()

    def test_captured_in_a_graph(self, layout, strict):
        layer, x = layer_on("cuda", layout)
        grad = torch.randn(5, 36, 13, 12, device="cuda")
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            step(layer, x, grad)
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream):
            found = step(layer, x, grad)
        x.normal_()
        grad.normal_()
        for tensor in found:
            tensor.fill_(torch.nan)
        graph.replay()
        near(on_cpu(found), defined(layer, x, grad), 1e-5, layout)

    @pytest.mark.skipif(torch.cuda.device_count() < 2, reason="one CUDA device")
    def test_on_the_tensors_device_whatever_the_current_one_is(self, layout, strict):
        for current, other in ((0, 1), (1, 0)):
            with torch.cuda.device(current):
                layer, x = layer_on(f"cuda:{other}", layout)
                grad = torch.randn(5, 36, 13, 12, device=f"cuda:{other}")
                found = step(layer, x, grad)
                assert torch.cuda.current_device() == current
                assert {tensor.device.index for tensor in found} == {other}
                near(on_cpu(found), defined(layer, x, grad), 1e-5, (layout, current))


@pytest.mark.gpu
@pytest.mark.filterwarnings(f"ignore:{OWN_WARNING}")
def test_torchs_own_checks_on_cuda():
    for name, several in calls(torch.channels_last, torch.float32).items():
        for arguments in several:
            given = differentiable(name, [a.cuda() if isinstance(a, torch.Tensor) else a for a in arguments])
            torch.library.opcheck(getattr(operators.ops, name).default, tuple(given))
