import copy
import pickle
import warnings
from contextlib import contextmanager

import pytest
import torch
import torch.nn.functional as F
from support.stand_in import batch_norm
from torch import nn
from torchvision.models import resnet18

from blconv import BandLimitedBlock, BandLimitedConv2d, EnergyBand, band_limit
from blconv.fused.block import BlockConv2d, BlockReLU
from blrobust.models.resnet import resnet20

BAND = {"compression": 0.75, "fft_size": "compact", "method": "spectral"}
KEEP = {name: value for name, value in BAND.items() if name != "compression"}

CONVOLUTIONS = [
    {"kernel_size": 3, "padding": 1, "bias": False},
    {"kernel_size": 3, "stride": 2, "padding": 1},
    {"kernel_size": (2, 5), "padding": "same"},
    {"kernel_size": 3, "groups": 2, "padding": 1},
    {"kernel_size": 3, "dilation": 2, "padding": 2, "padding_mode": "reflect", "bias": False},
]
NORMS = [
    {},
    {"momentum": 0.3, "eps": 1e-2},
    {"momentum": None},
    {"affine": False},
    {"bias": False},
    {"track_running_stats": False},
    {"affine": False, "track_running_stats": False},
]


def id_of(options):
    return ",".join(f"{key}={value}" for key, value in options.items()).replace(" ", "") or "default"


def layers(options=CONVOLUTIONS[0], norm=NORMS[0], dtype=torch.float64, channels=(4, 6)):
    """An ordinary chain whose statistics and parameters are not the initial ones."""
    torch.manual_seed(0)
    modules = [nn.Conv2d(*channels, **options), batch_norm(channels[1], **norm), nn.ReLU()]
    model = nn.Sequential(*modules)
    for tensor in model.state_dict().values():
        if tensor.is_floating_point():
            tensor.uniform_(0.1, 0.5)
    return model.to(dtype)


def reference(chain):
    """The chain with the low-pass form and torch's own BatchNorm and ReLU."""
    return band_limit(copy.deepcopy(chain), 0.75, fft_size="compact", method="lowpass")


def run(model, x, grad):
    """Output, gradients of x and of the parameters, and buffers after the pass."""
    x = x.clone(memory_format=torch.preserve_format).requires_grad_()
    y = model(x)
    grads = torch.autograd.grad(y, [x, *model.parameters()], grad, allow_unused=True)
    return [y.detach(), *grads, *model.buffers()]


def assert_same(found, wanted, tolerance=1e-10):
    assert len(found) == len(wanted)
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


@contextmanager
def kept():
    """The storages saved for the backward pass, each once, in bytes by address."""
    sizes, alive = {}, []

    def note(tensor):
        alive.append(tensor)
        storage = tensor.untyped_storage()
        sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        yield sizes


def bytes_kept(model, x):
    own = {tensor.untyped_storage().data_ptr() for tensor in [x, *model.parameters(), *model.buffers()]}
    with kept() as sizes:
        model(x)
    return sum(size for address, size in sizes.items() if address not in own)


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("norm", NORMS, ids=id_of)
@pytest.mark.parametrize("options", CONVOLUTIONS, ids=id_of)
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
def test_a_block_is_its_three_layers(options, norm, training):
    chain = layers(options, norm).train(training)
    block = BandLimitedBlock(*copy.deepcopy(chain), **BAND).train(training)
    assert list(block.state_dict()) == list(chain.state_dict())
    plain = reference(chain)
    assert "BatchNormFromCoefficients" in str(block(torch.randn(3, 4, 11, 7).double()).grad_fn)
    for _ in range(2):  # the second pass starts from the first one's running statistics
        x = torch.randn(3, 4, 11, 7, dtype=torch.float64)
        grad = torch.randn_like(plain(x))
        for model in (plain, block):
            model.load_state_dict(chain.state_dict())
        assert_same(run(block, x, grad), run(plain, x, grad))
        chain.load_state_dict(plain.state_dict())


def test_a_block_without_relu():
    chain = layers()[:2]
    x, grad = torch.randn(3, 4, 11, 7).double(), torch.randn(3, 6, 11, 7).double()
    plain = reference(chain)
    assert_same(run(BandLimitedBlock(*chain, **BAND), x, grad), run(plain, x, grad))


@pytest.mark.parametrize("shape", [(3, 4, 11, 7), (1, 4, 8, 8), (2, 4, 5, 9)])
@pytest.mark.parametrize("training", [True, False])
def test_channels_last_and_odd_strides(shape, training):
    chain = layers().train(training)
    plain = reference(chain)
    block = BandLimitedBlock(*chain, **BAND).train(training)
    x = torch.randn(shape, dtype=torch.float64)
    last = x.contiguous(memory_format=torch.channels_last)
    state = copy.deepcopy(chain.state_dict())
    assert block(last).is_contiguous(memory_format=torch.channels_last)
    grad = torch.randn_like(x[:, :1]).expand(-1, 6, -1, -1)
    for given in (last, x.mT.contiguous().mT, x):
        for around in (grad, grad.contiguous(memory_format=torch.channels_last)):
            for model in (plain, block):
                model.load_state_dict(state)
            assert_same(run(block, given, around), run(plain, x, grad))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("norm", [NORMS[0], NORMS[3]], ids=id_of)
def test_first_and_second_derivatives_by_differences(training, norm):
    chain = layers(norm=norm, channels=(2, 3))
    block = BandLimitedBlock(*chain, **BAND).train(training)
    block[1].track_running_stats = False  # differences need the same function every time
    names, parameters = zip(*block.named_parameters(), strict=True)

    def function(x, *values):
        return torch.func.functional_call(block, dict(zip(names, values, strict=True)), (x,))

    x = torch.randn(2, 2, 5, 4, dtype=torch.float64, requires_grad=True)
    inputs = (x, *(p.detach().requires_grad_() for p in parameters))
    assert torch.autograd.gradcheck(function, inputs)
    assert torch.autograd.gradgradcheck(function, inputs)


def test_what_is_kept_for_the_backward_pass():
    """At 32 x 32 and nominal 85 %: coefficients of input and output, one bit an element, statistics."""
    chain = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
    block = BandLimitedBlock(*copy.deepcopy(chain), compression=0.85, fft_size="compact", method="spectral")
    axis = block[0].geometry(32, 32).band.axes[0]
    coefficients = 2 * axis.kept * (2 * axis.kept - 1)  # real numbers a plane, of 1024
    planes = 8 * 8
    wanted = planes * (4 * 2 * coefficients + 1024 / 8)
    assert bytes_of_images(block, 8) == wanted
    assert bytes_of_images(chain, 8) == planes * 4 * 2 * 1024  # the BatchNorm's input, the ReLU's output
    # The next layer keeps nothing of the block's output: a stack of blocks has no whole map at all.
    stack = nn.Sequential(*(copy.deepcopy(chain) for _ in range(3)))
    assert bytes_of_images(band_limit(stack, 0.85, fuse=True, **KEEP), 8) == 3 * wanted


def bytes_of_images(model, count, shape=(8, 32, 32)):
    """The bytes that `count` images more take: without parameters, statistics and constant tables."""
    more, fewer = (torch.randn(n, *shape, requires_grad=True) for n in (count + 2, 2))
    return bytes_kept(model, more) - bytes_kept(model, fewer)


def test_coefficients_more_than_the_pixels_are_not_kept():
    """A stride makes the output smaller but not its band."""
    chain = nn.Sequential(nn.Conv2d(8, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
    block = BandLimitedBlock(*chain, compression=0.5, fft_size="compact", method="spectral")
    coefficients = 2 * block[0].geometry(32, 32).coefficients
    assert coefficients > 256
    assert bytes_of_images(block, 8) == 8 * 8 * (4 * coefficients + 4 * 256 + 256 / 8)


def networks():
    return {"resnet18": resnet18(num_classes=5), "resnet20": resnet20(classes=5)}


@pytest.mark.parametrize("name", networks())
@pytest.mark.parametrize("training", [True, False])
def test_whole_networks(name, training):
    torch.manual_seed(0)
    plain = networks()[name].double().train(training)
    fused = copy.deepcopy(plain)
    keys = list(plain.state_dict())
    assert band_limit(fused, 0.75, fuse=True, **KEEP) is fused
    band_limit(plain, 0.75, fft_size="compact", method="lowpass")
    assert list(fused.state_dict()) == keys
    assert [module.training for module in fused.modules()] == [training] * len(list(fused.modules()))
    x, grad = torch.randn(4, 3, 40, 36).double(), torch.randn(4, 5).double()
    assert_same(run(fused, x, grad), run(plain, x, grad), 1e-8)
    fused.load_state_dict(plain.state_dict())
    plain.load_state_dict(fused.state_dict())


def test_the_own_network_joins_what_follows_each_other():
    model = band_limit(resnet20(), 0.75, fuse=True, **KEEP)
    joined = [name for name, module in model.named_modules() if getattr(module, "applies_relu", False)]
    assert joined == ["1", *(f"{i}.bn1" for i in range(3, 12))]
    assert sum(type(module) is BlockReLU for module in model.modules()) == 10


def test_which_relus_are_joined_in_a_resnet():
    """Its blocks call one ReLU twice: after the first BatchNorm, and after the addition."""
    model = band_limit(resnet18(), 0.75, fuse=True, **KEEP)
    assert model.bn1.applies_relu
    for block in (b for stage in (1, 2, 3, 4) for b in model.get_submodule(f"layer{stage}")):
        assert (block.bn1.applies_relu, block.bn2.applies_relu) == (True, False)
        assert type(block.relu) is BlockReLU
        assert type(block.conv2) is BlockConv2d
        assert block.downsample is None or not block.downsample[1].applies_relu


def test_a_resnet_keeps_less():
    plain = resnet18(num_classes=5)
    plain.maxpool = nn.Identity()  # which keeps its input
    fused = band_limit(copy.deepcopy(plain), 0.85, fuse=True, **KEEP)
    unfused = band_limit(copy.deepcopy(plain), 0.85, **KEEP)
    whole, layers_alone, blocks = (
        bytes_of_images(model, 2, (3, 64, 64)) for model in (plain, unfused, fused)
    )
    assert layers_alone > 0.9 * whole  # BatchNorm and ReLU keep theirs
    assert blocks < 0.35 * whole  # most of it for the shortcuts' ordinary 1x1 convolutions


class Path(nn.Module):
    """A convolution and its BatchNorm in a forward function of one's own."""

    def __init__(self, between=None, after=None):
        super().__init__()
        self.conv, self.norm, self.relu, _ = *layers(), None
        self.between, self.after = between, after

    def forward(self, x):
        y = self.conv(x)
        y = self.between(y) if self.between else y
        y = self.norm(y)
        return self.after(self, y) if self.after else self.relu(y)


PATHS = {
    "changed in place between": Path(between=lambda y: y.mul_(1.5)),
    "another tensor between": Path(between=lambda y: y + 1),
    "used twice after": Path(after=lambda self, y: self.relu(y) + y),
    "a function": Path(after=lambda self, y: F.relu(y)),
    "no relu": Path(after=lambda self, y: y.tanh()),
    "relu only in training": Path(after=lambda self, y: self.relu(y) if self.training else y),
    "another relu": Path(after=lambda self, y: F.leaky_relu(y) + self.relu(-y)),
}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", PATHS)
def test_whatever_path_the_data_take(name, training):
    plain = copy.deepcopy(PATHS[name]).train(training)
    fused = band_limit(copy.deepcopy(plain), 0.75, fuse=True, **KEEP)
    assert fused.norm.applies_relu == name.endswith("between")
    plain = reference(plain)
    x, grad = torch.randn(3, 4, 11, 7).double(), torch.randn(3, 6, 11, 7).double()
    assert_same(run(fused, x, grad), run(plain, x, grad))


def test_a_relu_once_more_after_a_change_in_place():
    path = Path(after=lambda self, y: self.relu(self.relu(y) - 0.3))
    plain = reference(path)
    path.after = lambda self, y: self.relu(self.relu(y).sub_(0.3))  # which torch's own ReLU refuses
    fused = band_limit(path, 0.75, fuse=True, **KEEP)
    assert fused.norm.applies_relu
    x, grad = torch.randn(3, 4, 11, 7).double(), torch.randn(3, 6, 11, 7).double()
    assert_same(run(fused, x, grad), run(plain, x, grad))


def test_a_model_that_cannot_be_traced_is_right_all_the_same():
    path = Path(after=lambda self, y: self.relu(y) if y.sum() > 0 else y)
    plain = reference(path)
    with pytest.warns(UserWarning, match="cannot be traced"):
        fused = band_limit(path, 0.75, fuse=True, **KEEP)
    assert not fused.norm.applies_relu
    x, grad = torch.randn(3, 4, 11, 7).double(), torch.randn(3, 6, 11, 7).double()
    assert_same(run(fused, x, grad), run(plain, x, grad))


def test_layers_put_in_the_place_of_ours():
    fused = band_limit(layers(), 0.75, fuse=True, **KEEP)
    plain = reference(layers())
    x, grad = torch.randn(3, 4, 11, 7).double(), torch.randn(3, 6, 11, 7).double()
    fused[1], plain[1] = nn.InstanceNorm2d(6), nn.InstanceNorm2d(6)
    assert_same(run(fused, x, grad), run(plain, x, grad))
    fused = band_limit(layers(), 0.75, fuse=True, **KEEP)
    plain = reference(layers())
    fused[2], plain[2] = nn.ReLU(), nn.ReLU()
    assert_same(run(fused, x, grad), run(plain, x, grad))
    assert type(band_limit(fused, 0.5)[0]) is BandLimitedConv2d


@pytest.mark.parametrize("options", [{"compression": 0.0}, {"compression": 0.75, "method": "lowpass"}])
def test_other_methods_run_the_plain_layers(options):
    chain = layers()
    plain = band_limit(copy.deepcopy(chain), options["compression"], method="lowpass")
    x, grad = torch.randn(3, 4, 11, 7).double(), torch.randn(3, 6, 11, 7).double()
    assert_same(run(BandLimitedBlock(*chain, **options), x, grad), run(plain, x, grad))


def test_one_value_a_channel_and_no_image_at_all():
    block = BandLimitedBlock(*layers({"kernel_size": 3}), **BAND)
    with pytest.raises(ValueError, match="Expected more than 1 value per channel"):
        block(torch.randn(1, 4, 3, 3).double())
    assert block.eval()(torch.randn(1, 4, 3, 3).double()).shape == (1, 6, 1, 1)
    assert block(torch.randn(0, 4, 5, 5).double()).shape == (0, 6, 3, 3)
    with pytest.raises(ValueError, match="expected 4D input"):
        block(torch.randn(4, 5, 5).double())


@pytest.mark.parametrize("autocast", [True, False])
def test_bfloat16(autocast):
    chain = layers(dtype=torch.float32).train()
    block = BandLimitedBlock(*copy.deepcopy(chain), **BAND)
    plain = band_limit(copy.deepcopy(chain), 0.75, **KEEP)
    x, grad = torch.randn(8, 4, 11, 7), torch.randn(8, 6, 11, 7).bfloat16()
    if not autocast:
        block, plain, x = block.bfloat16(), plain.bfloat16(), x.bfloat16()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        found, wanted = (run(model, x, grad) for model in (block, plain))
    assert [t.dtype for t in found] == [t.dtype for t in wanted]
    assert found[0].dtype == torch.bfloat16
    for a, b in zip(found, wanted, strict=True):
        error = (a.double() - b.double()).norm() / b.double().norm()
        assert error < 2e-2


@pytest.mark.parametrize("training", [True, False])
def test_compiled_in_one_graph(training):
    block = band_limit(layers(), 0.75, fuse=True, **KEEP).train(training)
    plain = copy.deepcopy(block)
    compiled = torch.compile(block, fullgraph=True, backend="aot_eager")
    x, grad = torch.randn(3, 4, 11, 7).double(), torch.randn(3, 6, 11, 7).double()
    names = [name for name, _ in plain.named_parameters()]
    assert_same(run(compiled, x, grad), run(plain, x, grad))
    assert names == [name for name, _ in block.named_parameters()]


def test_function_transforms_and_no_gradients():
    block = BandLimitedBlock(*layers(), **BAND).eval()
    x = torch.randn(3, 4, 11, 7, dtype=torch.float64, requires_grad=True)
    (wanted,) = torch.autograd.grad(block(x).square().sum(), x)
    found = torch.func.grad(lambda x: block(x).square().sum())(x.detach())
    torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-10)
    with torch.no_grad():
        torch.testing.assert_close(block(x), block(x.detach()), rtol=0, atol=0)
    with torch.inference_mode():
        assert block(x).shape == (3, 6, 11, 7)


def test_a_frozen_network_has_gradients_of_its_input_alone():
    block = BandLimitedBlock(*layers(), **BAND).eval().requires_grad_(False)
    plain = reference(layers()).eval()
    x = torch.randn(3, 4, 11, 7, dtype=torch.float64, requires_grad=True)
    found, wanted = (torch.autograd.grad(model(x).square().sum(), x)[0] for model in (block, plain))
    torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-10)
    assert not block(x.detach()).requires_grad


def test_energy_bands_of_each_batch():
    chain = layers()
    plain = band_limit(copy.deepcopy(chain), EnergyBand(0.2), fft_size="compact", method="lowpass")
    block = BandLimitedBlock(*chain, compression=EnergyBand(0.2), **KEEP)
    x, grad = torch.randn(3, 4, 11, 7).double(), torch.randn(3, 6, 11, 7).double()
    assert "BatchNormFromCoefficients" in str(block(x).grad_fn)
    block.load_state_dict(plain.state_dict())
    assert_same(run(block, x, grad), run(plain, x, grad))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_in_single_precision_on_any_device(device, layout, training):
    chain = layers({"kernel_size": 3, "padding": 1}).train(training)
    plain = reference(chain)
    block = BandLimitedBlock(*copy.deepcopy(chain).float(), **BAND).train(training).to(device)
    x, grad = torch.randn(5, 4, 11, 7).double(), torch.randn(5, 6, 11, 7).double()
    given, around = (t.float().to(device, memory_format=layout) for t in (x, grad))
    assert block(given).is_contiguous(memory_format=layout)
    block.load_state_dict(chain.state_dict())
    found = run(block, given, around)
    for a, b in zip(found, run(plain, x, grad), strict=True):
        torch.testing.assert_close(a.cpu().to(b.dtype), b, rtol=1e-3, atol=1e-3)


def test_two_passes_before_one_backward_and_checkpoints():
    chain = layers()
    block, plain = BandLimitedBlock(*copy.deepcopy(chain), **BAND), reference(chain)
    first, second = torch.randn(2, 3, 4, 11, 7).double()
    for model in (block, plain):
        (model(first).square().sum() + model(second).sum()).backward()
    assert_same([p.grad for p in block.parameters()], [p.grad for p in plain.parameters()])
    block.zero_grad()
    block.load_state_dict(chain.state_dict())
    segments = torch.utils.checkpoint.checkpoint(block, first, use_reentrant=False)
    second_time = torch.utils.checkpoint.checkpoint(block, second, use_reentrant=False)
    (segments.square().sum() + second_time.sum()).backward()
    assert_same([p.grad for p in block.parameters()], [p.grad for p in plain.parameters()])


def test_a_copy_is_independent_and_pickles():
    model = band_limit(layers(), 0.75, fuse=True, **KEEP).eval()
    twin = pickle.loads(pickle.dumps(copy.deepcopy(model)))
    x = torch.randn(3, 4, 11, 7).double()
    assert torch.equal(twin(x), model(x))
    twin[1].weight.data.zero_()
    assert model[1].weight.abs().sum() > 0
    assert twin[1].applies_relu


def test_sequences_of_shared_layers():
    conv, norm, relu = layers({"kernel_size": 3, "padding": 1, "bias": False})
    conv = nn.Conv2d(6, 6, 3, padding=1, bias=False).double()
    model = nn.Sequential(conv, norm, relu, conv, norm)
    plain = band_limit(copy.deepcopy(model), 0.75, fft_size="compact", method="lowpass")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fused = band_limit(model, 0.75, fuse=True, **KEEP)
    assert not fused[1].applies_relu  # nothing follows its second call
    x, grad = torch.randn(3, 6, 11, 7).double(), torch.randn(3, 6, 11, 7).double()
    assert_same(run(fused, x, grad), run(plain, x, grad))
