import pytest
import torch
from torch import nn

from blconv import BandLimitedConv2d, EnergyBand, band_limit, calibrate
from blconv.energy import corners, spectral_power
from blconv.functional import geometry_of


def smooth(*shape):
    """Images whose energy falls with frequency."""
    torch.manual_seed(0)
    return torch.randn(shape).cumsum(-1).cumsum(-2)


def share(x, size, k):
    """Energy of x within |f| < k on both axes of a `size` x `size` transform, by the full transform."""
    power = torch.fft.fft2(x.double(), s=(size, size)).abs().square()
    frequency = torch.minimum(torch.arange(size), size - torch.arange(size)) < k
    return float((power * (frequency[:, None] & frequency)).sum() / power.sum())


@pytest.mark.parametrize("shape", [(2, 3, 8, 8), (1, 2, 9, 13), (2, 1, 1, 6)])
@pytest.mark.parametrize("fft_size", ["paper", "compact"])
def test_power_is_parseval_exact(shape, fft_size):
    x = torch.randn(shape)
    geometry = geometry_of(shape[2:], (3, 3), padding=1, compression=0.0, fft_size=fft_size)
    power = spectral_power(x, geometry)
    rows, columns = geometry.band.axes
    assert power.shape == (rows.half, columns.half)
    total = x.double().square().sum() * rows.size * columns.size
    torch.testing.assert_close(power.sum(), total, rtol=1e-12, atol=0)


@pytest.mark.parametrize("energy", [0.5, 0.9, 0.99, 0.99999])
def test_the_band_is_the_smallest_that_keeps_the_energy(energy):
    x = smooth(3, 2, 16, 16)
    geometry = geometry_of((16, 16), (3, 3), padding=1, compression=0.0, fft_size="compact")
    k, same = EnergyBand(energy).kept(spectral_power(x, geometry))
    assert k == same
    assert share(x, 18, k) >= energy or k == 10
    assert k == 1 or share(x, 18, k - 1) < energy


def test_all_the_energy_is_the_whole_spectrum():
    x = torch.randn(2, 2, 8, 8)
    geometry = geometry_of((8, 8), (3, 3), padding=1, compression=0.0, fft_size="compact")
    assert EnergyBand(1.0).kept(spectral_power(x, geometry)) == (6, 6)


def test_corners_of_rectangles_grow_in_proportion():
    assert list(corners((2, 4))) == [(1, 1), (1, 2), (2, 3), (2, 4)]
    assert list(corners((3,))) == [(1,), (2,), (3,)]


@pytest.mark.parametrize("energy", [0.0, -1.0, 1.5, float("nan")])
def test_bad_energies(energy):
    with pytest.raises(ValueError, match=r"energy must be in \(0, 1\]"):
        EnergyBand(energy)


def test_training_follows_the_batch_and_evaluation_needs_a_calibration():
    layer = BandLimitedConv2d(2, 3, 3, padding=1, compression=EnergyBand(0.9), fft_size="compact").double()
    x = smooth(4, 2, 16, 16).double()
    k, _ = EnergyBand(0.9).kept(spectral_power(x, layer.geometry(16, 16)))
    fixed = BandLimitedConv2d(2, 3, 3, padding=1, fft_size="compact").double()
    fixed.load_state_dict(layer.state_dict())
    fixed.kept = (k, k)
    assert 1 < k < 10
    assert torch.equal(layer.train()(x), fixed(x))
    with pytest.raises(RuntimeError, match=r"blconv\.calibrate"):
        layer.eval()(x)


def test_calibrate_measures_all_batches_and_then_stays():
    torch.manual_seed(1)
    model = band_limit(
        nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3, padding=1)),
        EnergyBand(0.8),
        fft_size="compact",
    )
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    batches = [smooth(4, 2, 12, 12), 30 * torch.randn(4, 2, 12, 12)]
    kept = calibrate(model, batches)
    power = sum(spectral_power(batch, model[0].geometry(12, 12)) for batch in batches)
    model[0].kept, found = None, model[0].kept
    assert kept["0"] == found == EnergyBand(0.8).kept(power)
    model[0].kept = found
    assert set(kept) == {"0", "2"}
    assert model.training
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])
    # In evaluation an answer does not depend on the batch it came in.
    model.eval()
    x = torch.cat(batches)
    torch.testing.assert_close(model(x)[:1], model(x[:1]), rtol=0, atol=1e-4)


def test_calibrate_with_an_energy_of_its_own_and_its_errors():
    model = band_limit(nn.Sequential(nn.Conv2d(2, 4, 3)), 0.5)
    with pytest.raises(ValueError, match="fixed compression"):
        calibrate(model, [smooth(1, 2, 8, 8)])
    with pytest.raises(ValueError, match="no batch"):
        calibrate(model, [], energy=0.9)
    with pytest.raises(ValueError, match="no band-limited layer"):
        calibrate(nn.Conv2d(1, 1, 3), [])
    assert calibrate(model, [smooth(1, 2, 8, 8)], energy=0.9)["0"] == model[0].kept
