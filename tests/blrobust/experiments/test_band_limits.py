import pytest

from blrobust.data import datasets
from blrobust.errors import UserError
from blrobust.experiments import band_limits
from blrobust.experiments.band_limits import percents, split_by_weights, trained_at, without_weights


@pytest.mark.parametrize(
    ("text", "found"),
    [("10,85", [0, 10, 85]), ("0", [0]), ("0:80:20", [0, 20, 40, 60, 80]), ("85,10,10", [0, 10, 85])],
)
def test_band_limits_in_per_cent(text, found):
    assert percents(text, name="--rates") == found


@pytest.mark.parametrize("text", ["0.5", "100", "0:85", "-1", "x", ""])
def test_illegal_band_limits(text):
    with pytest.raises(UserError, match=r"^--rates: got "):
        percents(text, name="--rates")


def test_models_trained_at_band_limits():
    assert trained_at([0, 10, 85]) == ["fp32", "fft10", "fft85"]
    assert trained_at([0, 50], fft_size="compact", seeds=2) == [
        *("fp32", "fp32-seed1", "fft50-compact", "fft50-compact-seed1"),
    ]


def test_models_tested_at_band_limits():
    assert band_limits.tested_at(["fp32", "fft50-seed1"], [0, 85]) == [
        *("fp32@0", "fp32@85", "fft50-seed1@0", "fft50-seed1@85"),
    ]
    assert band_limits.tested_at(["a=x.safetensors"], [50]) == ["a@50=x.safetensors@50"]
    assert band_limits.tested_at(["lowpass0.4+fp32"], [50]) == ["lowpass0.4+fp32@50"]


def test_a_model_cannot_be_tested_at_two_band_limits():
    with pytest.raises(UserError, match="MODEL: got fft50@85; legal: models as they were trained"):
        band_limits.tested_at(["fp32", "fft50@85"], [0])


def test_models_with_and_without_weights(monkeypatch, tmp_path):
    monkeypatch.setenv("BLROBUST_WEIGHTS", str(tmp_path))
    sample = datasets.load("cifar10-sample")
    names = ["fp32", "fft10", "lowpass0.4+fft50", "fft85-seed3"]
    found, missing = split_by_weights(names, arch="resnet20", dataset=sample)
    assert (found, missing) == (["fp32", "lowpass0.4+fft50"], ["fft10", "fft85-seed3"])
    assert without_weights(missing, arch="resnet18", dataset=sample) == (
        "no weights for fft10, fft85-seed3 (resnet18, cifar10); train them with: "
        "blrobust train fft10,fft85-seed3 --arch resnet18"
    )
