"""Notes about runs that share a table, and the table's columns about the runs."""

from contextlib import ExitStack

import pytest
from support import invented

from blrobust.analysis.analysis import Analysis
from blrobust.reports import axes, tables
from blrobust.reports.mixture import mixture_note
from blrobust.runs.run import Run

LEVELS = [0.0, 0.5]
AXIS = axes.axis("gaussian", "normalized", [0.2, 0.2, 0.2])


@pytest.fixture
def runs(tmp_path):
    """Two runs of the same settings, `large` on 300 images and `small` on the first 80 of them."""
    curves = {"fp32": [0.9, 0.5], "mine": [0.9, 0.4]}
    sizes = {"large": 300, "small": 80}
    made = {name: invented.run(tmp_path / name, curves, LEVELS, n=n) for name, n in sizes.items()}
    with ExitStack() as stack:
        yield {n: Analysis(stack.enter_context(Run.open(p)), "gaussian") for n, p in made.items()}


def note(runs):
    return mixture_note(runs, AXIS)


def test_the_first_images_of_another_run_are_not_called_different(runs):
    runs["small"].run.record.dataset.checksum = "ef" * 32
    contains = (
        "The runs are on the first images of one data set, some on fewer than others (large 300 of cifar10, "
        "small 80 of cifar10), so the images of a run contain those of a smaller one: their rows are not "
        "paired."
    )
    assert note(runs) == contains
    assert note(dict(reversed(runs.items()))) == contains.replace(
        "large 300 of cifar10, small 80 of cifar10", "small 80 of cifar10, large 300 of cifar10"
    )
    runs["small"].run.record.dataset.name = "cifar10-sample"
    assert note(runs) == (
        "The runs are not on the same images (large 300 of cifar10, small 80 of cifar10-sample): their rows "
        "are not paired."
    )
    runs["small"].run.record.dataset.name = "cifar10"
    runs["small"].run.labels[0] += 1
    assert note(runs).startswith("The runs are not on the same images (")


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"seed": 1}, "seed (large 0, small 1)"),
        ({"draws": 3}, "draws per image (large 1, small 3)"),
        ({"arch": "resnet18"}, "architecture (large resnet20, small resnet18)"),
        (
            {"models": [{"label": "fp32", "sha256": "ef" * 32}]},
            "weights of fp32 (large abababababab, small efefefefefef)",
        ),
        (
            {"device": "cuda", "block": 500},
            "device (large cpu, small cuda); images per block (large 100, small 500)",
        ),
        ({"version": "0.2.0"}, "blrobust (large 0.1.0, small 0.2.0)"),
        (
            {"kinds": {"gaussian": {"levels": LEVELS, "revision": 2}}},
            "revision of gaussian (large 1, small 2)",
        ),
    ],
)
def test_every_setting_that_differs_is_named_with_its_values(changes, named, runs):
    assert note(runs) is None
    runs["small"].run.record.config = invented.configuration(["fp32", "mine"], n=80, **changes)
    assert note(runs) == (
        f"The runs have different settings: {named}. Differences between rows of different runs may come "
        "from these."
    )


def test_parameters_target_and_source_of_an_attack_are_settings_too(runs):
    for name, steps, source, target in [("large", 10, None, None), ("small", 20, "fp32", 3)]:
        runs[name].kind = "fgsm"
        runs[name].run.record.config = invented.configuration(
            ["fp32"],
            n=80,
            command="attack",
            kinds={"fgsm": {"levels": LEVELS, "parameters": {"steps": steps}}},
            source=source and {"label": source, "sha256": "ab" * 32},
            target=target,
        )
    assert note(runs) == (
        "The runs have different settings: source model (large none, small fp32); target class (large none, "
        "small 3); steps (large 10, small 20). Differences between rows of different runs may come from "
        "these."
    )


def test_the_perturbed_images_are_said_to_be_the_same_within_a_run_only():
    for kind in ("gaussian", "uniform", "pixel"):
        assert "Within a run, every model gets the same perturbed images." in AXIS.description
        assert "Every model gets" not in axes.axis(kind, "legacy", [0.2]).description


def test_the_summary_names_each_number_of_images_and_each_baseline(runs):
    table = tables.summary(runs, AXIS)
    assert table.header[1] == "images"
    assert table.header[-1] == "against fp32"
    assert [cells[0].text for _, cells in table.rows] == ["300", "80", "300", "80"]
    assert "images" not in tables.summary({"large": runs["large"]}, AXIS).header


def test_the_summary_names_the_baseline_of_each_run(runs):
    runs["small"].baseline = "mine"
    table = tables.summary(runs, AXIS)
    assert table.header[-1] == "against the run's baseline"
    details = {name: cells[-1].detail for name, cells in table.rows}
    assert details == {
        "fp32, large": "",
        "fp32, small": "against mine",
        "mine, large": "against fp32",
        "mine, small": "",
    }
