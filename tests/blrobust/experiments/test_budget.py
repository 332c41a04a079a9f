import pytest

from blrobust.experiments.budget import fit
from blrobust.experiments.step import Step, base_of, models_of, seed_of

ESSENTIAL = ("fp32", "fft85")


def seconds(step):
    """One millisecond per pass, and one second per model."""
    return len(step.models) * (1 + step.images * step.passes / 1000)


def step(name="noise", models=("fp32", "fft85"), *, images=1000, passes=10.0, stage="noise"):
    return Step(name, stage, "Fig. 6", tuple(models), images, passes)


def plan(steps, budget):
    return fit(steps, budget=budget, seconds=seconds, essential=ESSENTIAL)


def test_all_fits():
    steps = [step(), step("other", passes=1)]
    found = plan(steps, 100)
    assert (found.steps, found.left_out) == (tuple(steps), ())
    assert found.seconds == {"noise": 22, "other": 4}


def test_seeds_are_left_out_first():
    found = plan([step(models=["fp32", "fft85", "fp32-seed1", "fft85-seed1", "fp32-seed2"])], 50)
    assert found.steps[0].models == ("fp32", "fft85", "fp32-seed1", "fft85-seed1")
    assert found.steps[0].images == 1000
    assert found.left_out == ("seeds: 2 of 3",)


def test_then_the_images_of_the_longest_step():
    found = plan([step(passes=20), step("other", passes=1)], 30)
    assert [each.images for each in found.steps] == [500, 1000]
    assert found.left_out == ("images: noise 500 of 1,000",)


def test_never_fewer_than_a_hundred_images():
    found = plan([step(images=150, passes=20), step("small", images=20, passes=1)], 9)
    assert [each.images for each in found.steps] == [100, 20]


def test_then_models_from_the_end_but_no_essential_ones():
    models = ["fp32", "fft85", "fp16", "fft10", "lowpass0.4+fp32", "fft10@50"]
    found = plan([step(models=models, images=100)], 9)
    assert found.steps[0].models == ("fp32", "fft85", "fp16", "lowpass0.4+fp32")
    assert found.left_out == ("models: fft10",)


def test_what_never_fits_does_not_take_the_images_of_others():
    found = plan([step(), step("search", images=100, passes=1000)], 100)
    assert [(each.name, each.images) for each in found.steps] == [("noise", 1000)]
    assert found.left_out == ("all of search, at least 202 s",)


def test_of_equal_steps_the_last_ones_are_left_out():
    found = plan([step(name, images=100, passes=1) for name in "abc"], 6)
    assert [each.name for each in found.steps] == ["a", "b"]


def test_the_last_step_stays():
    found = plan([step("a", images=200), step("b", images=200)], 1)
    assert [(each.name, each.images) for each in found.steps] == [("a", 100)]


def test_a_training_keeps_all_images():
    training = step("training", ["fp32", "fft85", "fft10"], images=50_000, passes=1, stage="train")
    found = plan([training, step(images=400)], 110)
    assert found.steps[0].images == 50_000
    assert found.steps[0].models == ("fp32", "fft85")
    assert "models: fft10" in found.left_out


@pytest.mark.parametrize(
    ("name", "base", "seed"),
    [
        ("fp32", "fp32", 0),
        ("fft50-seed2@85", "fft50", 2),
        ("blur1+lowpass-fft85+fp32-seed1", "fp32", 1),
        ("fft50-compact@0", "fft50-compact", 0),
    ],
)
def test_parts_of_names(name, base, seed):
    assert (base_of(name), seed_of(name)) == (base, seed)


def test_the_models_of_steps():
    assert models_of([step(models=["fp32@0", "fp32@50"]), step(models=["blur1+fp32", "fft85-seed1"])]) == [
        *("fp32", "fft85-seed1"),
    ]
