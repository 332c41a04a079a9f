import pytest
import torch

from blrobust.attacks.catalogue import grids, selection
from blrobust.data import datasets
from blrobust.experiments import cifar10, speed
from blrobust.experiments.step import Step

SAMPLE = datasets.load("cifar10-sample")
BUNDLED = ["fp32", "fft50", "fft85", "fp16", "fp32-early", "fp32-lowpass", "fp32-noise", "fp32-narrow"]


def steps(models=BUNDLED, *, arch="resnet20", dataset=SAMPLE):
    return {step.name: step for step in cifar10.measurements(models, arch=arch, dataset=dataset)}


def test_the_models_of_each_figure():
    found = steps()
    assert found["gaussian"].models == (*BUNDLED, "lowpass-fft50+fp32", "lowpass-fft85+fp32")
    assert found["uniform"].models == ("fp32", "fft50", "fft85", "lowpass-fft85+fp32")
    assert found["rates"].models == ("fp32", "fft50", "fft85")
    assert len(found["mismatch"].models) == 3 * len(cifar10.TEST_RATES)
    assert found["recovery"].models == ("fp32", "fft50", "fft85")


def test_published_numbers_of_images_are_the_most():
    found = steps()
    assert {name: step.images for name, step in found.items()} == {
        **dict.fromkeys(["gaussian", "rates", "mismatch", "uniform", "pixel"], 1000),
        **dict.fromkeys(["pgd", "fgsm-contrast-blur", "carlini-wagner", "recovery"], 1000),
        **dict.fromkeys(["rotation", "translation"], 200),
        **dict.fromkeys(["local-search", "local-search-pixels"], 100),
    }
    assert {step.images for step in steps(dataset=SAMPLE.take(7)).values()} == {7}


def test_seeds_are_in_all_steps_that_compare_models():
    found = steps(cifar10.names(arch="resnet18", seeds=2), arch="resnet18")
    assert {"fp32-seed1", "fft40-seed1"} <= set(found["gaussian"].models + found["rates"].models)
    for name in ("mismatch", "recovery"):
        assert not any("seed" in model for model in found[name].models)


def test_what_needs_a_missing_model_is_left_out():
    assert "recovery" not in steps(["fft50", "fft85"])
    assert "recovery" not in steps(["fp32"])
    assert list(steps([])) == []


def test_the_options_are_legal():
    for step in steps().values():
        attacks = step.options.get("attacks")
        if attacks:
            found = grids.grids(attacks)
            grids.check(found, target=None, legacy=step.options.get("space") == "legacy")
            selection.parameters(list(found), step.options.get("parameters", []), "default")
            assert set(found) == set(attacks)
    assert steps()["translation"].options["attacks"]["translation"] == [0, 2, 4, 6, 8, 10]
    assert steps()["gaussian"].options["noise"]["gaussian"][-1] == 2


def test_the_training_of_missing_models():
    step = cifar10.training(["fp32", "fft50"], arch="resnet20")
    assert (step.stage, step.function, step.images) == ("train", "train", 50_000)
    assert step.passes == 3 * 150


def test_predicted_seconds_follow_images_and_models():
    speeds = speed.Speed({"fp32": 100.0, "fft50": 50.0}, block=10)
    step = Step("a", "noise", "", ("fp32", "fft50@85", "blur1+fp32-seed1"), 30, 2)
    passes = (60 + 10 * speed.CHECKS) * (0.01 + 0.02 + 0.01)
    expected = 3 * speed.LOADING + speed.OVERHEAD * passes
    assert speeds.seconds(step) == pytest.approx(expected)


def test_the_speed_of_models_needs_no_weights():
    few = SAMPLE.take(4)
    found = speed.measure(["fft33", "fp32-seed7"], arch="resnet20", dataset=few, device=torch.device("cpu"))
    assert set(found.images_per_second) == {"fft33", "fp32"}
    assert all(value > 0 for value in found.images_per_second.values())
    assert found.block == 4
