import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from blconv import (
    BandLimitedConv1d,
    BandLimitedConv2d,
    EnergyBand,
    band_limit,
    calibrate,
    explain,
    set_compression,
    summary,
)
from blconv.energy import coefficient_power, spectral_power
from blconv.functional import geometry_of

FINE = EnergyBand(0.9, cut="fine")
SIZES = [(8, 8), (9, 13), (1, 6), (5, 2), (16,), (11,), (1,)]


def smooth(*shape, dims=2):
    """Signals whose energy falls with frequency, so that few coefficients hold most of it."""
    x = torch.randn(shape, dtype=torch.float64).cumsum(-1)
    return x.cumsum(-2) if dims == 2 else x


def geometry_at(size, fft_size):
    return geometry_of(size, (3,) * len(size), padding=1, compression=0.0, fft_size=fft_size)


def largest(x, sizes, energy):
    """Which coefficients of the whole spectrum stay: from the largest down, each with its conjugate.

    x is (batch, C, ...), padded; returns bool, of shape `sizes`, by a loop over a sorted list. Those as
    large as the last one stay too: a map of one row has the same energy at every row frequency.
    """
    power = torch.fft.fftn(x, s=sizes, dim=tuple(range(-len(sizes), 0))).abs().square().sum((0, 1))
    wanted, held, last = energy * float(power.sum()), 0.0, 0.0
    keep = torch.zeros(sizes, dtype=torch.bool)
    for flat in power.flatten().argsort(descending=True).tolist():
        if held >= wanted * (1 - 1e-12) and float(power.flatten()[flat]) < last * (1 - 1e-10):
            break
        last = float(power.flatten()[flat])
        at = tuple(int(i) for i in torch.unravel_index(torch.tensor(flat), sizes))
        for index in {at, tuple(-i % n for i, n in zip(at, sizes, strict=True))}:
            held += 0.0 if keep[index] else float(power[index])
            keep[index] = True
    return keep


def cut(x, keep):
    """x with the coefficients in `keep` only, by full complex transforms; x's own extent."""
    dims = tuple(range(-keep.dim(), 0))
    filtered = torch.fft.ifftn(torch.fft.fftn(x, s=tuple(keep.shape), dim=dims) * keep, dim=dims)
    assert filtered.imag.abs().max() < 1e-12 * filtered.abs().max()
    return filtered.real[(..., *(slice(n) for n in x.shape[-keep.dim() :]))]


def points(padded, span, fft_size, dims):
    if fft_size == "compact":
        return padded
    out = padded - span + 1
    linear = padded + (max(out, span) - 1 if dims == 2 else 2 * max(span - 1, out - 1))
    return 2 ** math.ceil(math.log2(linear))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("fft_size", ["paper", "compact"])
@pytest.mark.parametrize("energy", [0.3, 0.9, 0.999])
def test_the_set_is_that_of_a_sorted_list(size, fft_size, energy):
    torch.manual_seed(sum(size))
    x = smooth(3, 2, *size, dims=len(size))
    geometry = geometry_at(size, fft_size)
    mask = EnergyBand(energy, cut="fine").mask(coefficient_power(x, geometry), geometry)
    keep = largest(F.pad(x, (1, 1) * len(size)), tuple(axis.size for axis in geometry.band.axes), energy)
    assert torch.equal(mask, keep[..., : keep.shape[-1] // 2 + 1])


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("fft_size", ["paper", "compact", 19])
def test_the_kept_share_is_parseval_exact(size, fft_size):
    """The energy of what is kept, in the space domain, over the whole of the transform's points."""
    torch.manual_seed(1)
    x = smooth(2, 3, *size, dims=len(size))
    geometry = geometry_at(size, fft_size)
    power = coefficient_power(x, geometry)
    sizes = tuple(axis.size for axis in geometry.band.axes)
    dims = tuple(range(-len(size), 0))
    mask = EnergyBand(0.8, cut="fine").mask(power, geometry)
    kept = torch.fft.irfftn(torch.fft.rfftn(x, s=sizes, dim=dims) * mask, s=sizes, dim=dims)
    share = kept.square().sum() / x.square().sum()
    assert share >= 0.8 - 1e-12
    # Without those of the least energy kept it is too little.
    fewer = mask & (power > power[mask].min() * (1 + 1e-9))
    less = torch.fft.irfftn(torch.fft.rfftn(x, s=sizes, dim=dims) * fewer, s=sizes, dim=dims)
    assert less.square().sum() / x.square().sum() < 0.8
    # And the power by coefficient is the power by frequency: both count the same energy.
    torch.testing.assert_close(spectral_power(x, geometry).sum(), x.square().sum() * math.prod(sizes))


@pytest.mark.parametrize("fft_size", ["paper", "compact"])
def test_the_fine_cut_keeps_fewer_than_the_coarse_one(fft_size):
    torch.manual_seed(2)
    x = smooth(4, 2, 16, 16)
    geometry = geometry_at((16, 16), fft_size)
    mask = FINE.mask(coefficient_power(x, geometry), geometry)
    k, _ = EnergyBand(0.9).kept(spectral_power(x, geometry))
    assert int(mask.sum()) < (2 * k - 1) * k


def test_equal_energies_stay_together_and_no_energy_cuts_nothing():
    geometry = geometry_at((6,), 8)
    power = torch.tensor([5.0, 2.0, 1.0, 2.0, 4.0], dtype=torch.float64)
    # Of the whole spectrum 5 + 2 x (2 + 1 + 2) + 4 = 19; the ends stand for one coefficient.
    for energy, kept in [(5 / 19, [0]), (9 / 19, [0, 4]), (10 / 19, [0, 1, 3, 4]), (18 / 19, range(5))]:
        mask = EnergyBand(energy, cut="fine").mask(power, geometry)
        assert mask.nonzero().flatten().tolist() == list(kept)
    assert FINE.mask(torch.zeros(5, dtype=torch.float64), geometry).all()


CASES = [
    {"padding": 1},
    {"padding": (2, 0), "stride": (2, 1), "bias": False},
    {"kernel_size": (1, 3), "padding": "same", "dilation": 2, "groups": 2},
    {"padding": 1, "padding_mode": "reflect", "stride": 2},
]


@pytest.mark.parametrize("options", CASES)
@pytest.mark.parametrize("fft_size", ["paper", "compact"])
@pytest.mark.parametrize("size", [(8, 8), (7, 12)])
def test_layers_2d_against_full_transforms(options, fft_size, size):
    torch.manual_seed(3)
    options = {"kernel_size": (3, 3)} | options
    layer = BandLimitedConv2d(4, 6, **options, compression=FINE, fft_size=fft_size).double()
    check(layer, smooth(3, 4, *size), 2)


@pytest.mark.parametrize("options", [{"padding": 2}, {"stride": 2}, {"dilation": 3, "groups": 2}])
@pytest.mark.parametrize("fft_size", ["paper", "compact"])
def test_layers_1d_against_full_transforms(options, fft_size):
    torch.manual_seed(4)
    layer = BandLimitedConv1d(4, 6, 3, **options, compression=FINE, fft_size=fft_size).double()
    check(layer, smooth(3, 4, 19, dims=1), 1)


def check(layer, x, dims):
    """Output and gradients of `layer` in training against full transforms and torch's convolution."""
    ordinary = F.conv1d if dims == 1 else F.conv2d
    around = layer._reversed_padding_repeated_twice
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    x.requires_grad_()
    padded = F.pad(x, around, mode=mode)
    sizes = tuple(
        points(n, (k - 1) * d + 1, layer.fft_size, dims)
        for n, k, d in zip(padded.shape[2:], layer.kernel_size, layer.dilation, strict=True)
    )
    keep = largest(padded.detach(), sizes, layer.compression.energy)
    assert 1 < int(keep.sum()) < 0.7 * keep.numel()
    wanted = ordinary(
        cut(padded, keep), layer.weight, layer.bias, layer.stride, 0, layer.dilation, layer.groups
    )
    found = layer.train()(x)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-10)
    assert found.is_contiguous()
    direction = torch.randn_like(wanted)
    inputs = [x, *layer.parameters()]
    expected = torch.autograd.grad(wanted, inputs, direction)
    for one, other in zip(torch.autograd.grad(found, inputs, direction), expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-10)


@pytest.mark.parametrize("dims", [1, 2])
def test_gradcheck_and_double_backward_in_a_calibrated_set(dims):
    torch.manual_seed(5)
    kind = (BandLimitedConv1d, BandLimitedConv2d)[dims - 1]
    layer = kind(2, 2, 3, padding=1, compression=FINE, fft_size="compact").double().eval()
    x = smooth(2, 2, *(5, 4)[:dims], dims=dims)
    calibrate(layer, [x])
    assert not layer.mask.all()
    inputs = (
        x.requires_grad_(),
        layer.weight.detach().requires_grad_(),
        layer.bias.detach().requires_grad_(),
    )

    def call(x, weight, bias):
        return torch.func.functional_call(layer, {"weight": weight, "bias": bias}, (x,))

    assert torch.autograd.gradcheck(call, inputs)
    assert torch.autograd.gradgradcheck(call, inputs)


def test_all_the_energy_is_the_ordinary_convolution():
    torch.manual_seed(6)
    layer = BandLimitedConv2d(2, 3, 3, padding=1, compression=EnergyBand(1.0, cut="fine")).double()
    x = torch.randn(2, 2, 7, 9, dtype=torch.float64)
    wanted = F.conv2d(x, layer.weight, layer.bias, padding=1)
    torch.testing.assert_close(layer(x), wanted, rtol=0, atol=1e-10)
    torch.testing.assert_close(layer(torch.zeros_like(x)), wanted - F.conv2d(x, layer.weight, padding=1))


def test_training_follows_the_batch_and_evaluation_the_calibrated_set():
    torch.manual_seed(7)
    layer = BandLimitedConv2d(2, 3, 3, padding=1, compression=FINE, fft_size="compact").double()
    first, second = smooth(4, 2, 10, 10), torch.randn(4, 2, 10, 10, dtype=torch.float64)
    with pytest.raises(RuntimeError, match=r"blconv\.calibrate"):
        layer.eval()(first)
    kept = calibrate(layer, [first])
    assert kept[""] is layer.mask
    # On the batch it was measured on the set is that of training, on another it stays as it is.
    assert torch.equal(layer.train()(first), layer.eval()(first))
    assert not torch.allclose(layer.train()(second), layer.eval()(second))
    torch.testing.assert_close(layer.eval()(second)[:1], layer(second[:1]), rtol=0, atol=1e-12)
    assert layer(second[0]).shape == (3, 10, 10)
    torch.testing.assert_close(layer(second[0]), layer(second)[0], rtol=0, atol=1e-12)


@pytest.mark.parametrize("cut", ["coarse", "fine"])
@pytest.mark.parametrize("layer_of", [BandLimitedConv1d, BandLimitedConv2d])
def test_an_empty_batch_in_training_and_evaluation(layer_of, cut):
    layer = layer_of(2, 3, 3, compression=EnergyBand(0.9, cut=cut))
    images = torch.randn(1, 2, *[9, 8][: layer.weight.dim() - 2])
    calibrate(layer, [images])
    for training in (True, False):
        x = images[:0].requires_grad_()
        y = layer.train(training)(x)
        assert y.shape == layer(images)[:0].shape
        gradients = torch.autograd.grad(y.sum(), (x, layer.weight))
        assert gradients[0].shape == x.shape
        assert not gradients[1].any()


def test_calibrate_adds_up_batches_and_takes_another_energy():
    torch.manual_seed(8)
    layer = BandLimitedConv2d(2, 3, 3, padding=1, compression=FINE, fft_size="compact")
    batches = [smooth(4, 2, 9, 6).float(), 30 * torch.randn(4, 2, 9, 6)]
    for energy in (0.9, 0.5):
        calibrate(layer, batches, energy=energy)
        keep = largest(F.pad(torch.cat(batches).double(), (1, 1, 1, 1)), (11, 8), energy)
        assert torch.equal(layer.mask, keep[:, :5])
    assert layer.compression == FINE
    with pytest.raises(ValueError, match="several sizes"):
        calibrate(layer, [batches[0], torch.randn(1, 2, 8, 8)])


def test_a_set_belongs_to_one_size_of_the_input():
    layer = BandLimitedConv2d(1, 1, 3, padding=1, compression=FINE, fft_size="compact").eval()
    calibrate(layer, [torch.randn(1, 1, 8, 8)])
    with pytest.raises(RuntimeError, match=r"\(14, 8\) coefficients, the calibrated set \(10, 6\)"):
        layer(torch.randn(1, 1, 12, 12))


def test_the_set_moves_and_is_copied_with_the_layer_but_is_no_state():
    torch.manual_seed(9)
    model = band_limit(nn.Sequential(nn.Conv2d(2, 4, 3, padding=1)), FINE, fft_size="compact").eval()
    names = list(nn.Sequential(nn.Conv2d(2, 4, 3, padding=1)).state_dict())
    x = smooth(2, 2, 8, 8).float()
    calibrate(model, [x])
    assert list(model.state_dict()) == names
    twin = copy.deepcopy(model)
    assert torch.equal(twin(x), model(x))
    assert twin[0].mask is not model[0].mask
    twin.load_state_dict(nn.Sequential(nn.Conv2d(2, 4, 3, padding=1)).state_dict())
    assert torch.equal(twin[0].mask, model[0].mask)
    assert model.to("meta")[0].mask.device.type == "meta"
    assert "mask=(10, 6)" in repr(model)
    assert "compression=EnergyBand(energy=0.9, cut='fine')" in repr(model)
    set_compression(twin, 0.5)
    assert twin[0].mask is None
    assert "mask" not in repr(twin)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_and_layout(dtype):
    torch.manual_seed(10)
    layer = BandLimitedConv2d(3, 4, 3, padding=1, compression=FINE, fft_size="compact")
    x = smooth(2, 3, 8, 8).float()
    wanted = layer(x)
    assert layer(x.contiguous(memory_format=torch.channels_last)).is_contiguous(
        memory_format=torch.channels_last
    )
    low = layer.to(dtype)(x.to(dtype))
    assert low.dtype == dtype
    assert (low.float() - wanted).norm() < 0.03 * wanted.norm()
    with torch.autocast("cpu", torch.bfloat16):
        assert layer.float()(x).dtype == torch.bfloat16


def test_summary_and_explain_count_coefficients():
    torch.manual_seed(11)
    model = band_limit(nn.Sequential(nn.Conv2d(3, 4, 3, padding=1)), FINE, fft_size="compact")
    with pytest.raises(RuntimeError, match=r"blconv\.calibrate"):
        summary(model, (3, 8, 8))
    calibrate(model, [smooth(2, 3, 8, 8).float()])
    network = summary(model, (3, 8, 8))
    (row,) = network.layers
    count = int(model[0].mask.sum())
    assert row.effective == network.effective == 1 - count / 60
    assert (row.k, row.kept, row.nominal) == ((), (count,), None)
    assert row.saved == 100 / 64
    assert row.multiply_adds == 1
    line = str(network).splitlines()[1].split()
    assert line[:6] == ["0", "8x8", "10x10", "-", str(count), "-"]
    assert explain(model[0], (3, 8, 8)).startswith("mask: ")
    # What was asked for by name cannot be had, as for every method.
    layer = BandLimitedConv2d(3, 4, 3, compression=FINE, method="spectral")
    assert explain(layer, (3, 8, 8)).startswith("mask: ")


def test_compiled_without_a_graph_break():
    torch.manual_seed(12)
    layer = BandLimitedConv2d(2, 3, 3, padding=1, compression=FINE, fft_size="compact")
    x = smooth(2, 2, 8, 8).float()
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), layer(x))
    calibrate(layer, [x])
    torch.testing.assert_close(compiled.eval()(x), layer.eval()(x))


@pytest.mark.parametrize("cut", ["medium", "", None])
def test_bad_cuts(cut):
    with pytest.raises(ValueError, match="cut must be 'coarse' or 'fine'"):
        EnergyBand(0.9, cut=cut)
