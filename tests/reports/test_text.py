import math
from contextlib import ExitStack
from importlib.resources import files

import numpy as np
import pandas as pd
import pytest
from support import invented

from blrobust.analysis.analysis import Analysis
from blrobust.reports import axes, number_text, paper_curves, tables
from blrobust.reports.mixture import mixture_note
from blrobust.runs.run import Run

LEVELS = [0.0, 0.5, 1.0, 1.5]
STD = [0.2023, 0.1994, 0.2010]
GAUSSIAN = axes.axis("gaussian", "normalized", STD)


@pytest.mark.parametrize("kind", ["gaussian", "uniform", "pixel", "other"])
@pytest.mark.parametrize("space", ["normalized", "pixel", "legacy"])
def test_axes_convert_there_and_back(kind, space):
    axis = axes.axis(kind, space, STD)
    assert axis.describe(0.5) == axis.phrase.replace("{}", "0.5")
    assert ("legacy" in axis.label + axis.title) == (space == "legacy")
    if kind in ("gaussian", "uniform"):
        assert axis.other is not None
        assert axis.back is not None
        levels = np.array([-0.1, 0.0, 0.3, 1.0, 2.0])  # matplotlib asks for a margin below zero
        assert axis.back(axis.other(levels)) == pytest.approx(levels)
        assert (np.diff(axis.other(levels)) > 0).all()
    else:
        assert axis.other is None


def test_units_of_the_published_axes():
    assert GAUSSIAN.other is not None
    assert GAUSSIAN.other(1.0) == pytest.approx(0.201, abs=0.0002)
    uniform = axes.axis("uniform", "legacy", STD)
    assert uniform.other is not None
    assert uniform.other(0.5) == pytest.approx(0.25 * 5.183 * 0.2009, abs=1e-4)


def series(kind, space, *, n=10_000, last=1000.0, models=("fp32", "fft85", "mine")):
    found = paper_curves.series(
        kind=kind, space=space, datasets=["cifar10"], n=n, models=list(models), last=last
    )
    return {one.model: dict(zip(one.levels, one.accuracy, strict=True)) for one in found}


def test_published_values_are_those_of_the_paper_and_only_what_was_asked():
    gaussian = series("gaussian", "normalized", last=2.0)
    assert list(gaussian) == ["fp32", "fft85"]
    assert gaussian["fft85"][0.5] == pytest.approx(0.6767)
    assert len(gaussian["fp32"]) == 21
    assert max(series("gaussian", "normalized", last=1.0)["fp32"]) == 1.0
    early = series("gaussian", "normalized", models=("fp32-early",))
    assert early["fp32-early"][0] == pytest.approx(0.8693)
    assert series("uniform", "legacy", last=1.0)["fp32"][0.5] == pytest.approx(0.1361)
    assert series("pixel", "legacy")["fp32"][10] == pytest.approx(0.7299)
    assert series("pixel", "legacy", n=1000)["fp32"][10] == pytest.approx(0.739)
    assert series("pixel", "legacy", models=("fp16",)) == {}
    local = series("local-search", "legacy", n=100, last=20)
    assert (local["fp32"][5], local["fft85"][5]) == (pytest.approx(0.13), pytest.approx(0.16))
    assert list(local["fft85"]) == list(range(1, 21))
    assert series("local-search", "pixel") == {}


@pytest.mark.parametrize(
    ("kind", "space", "label", "published"),
    [
        ("gaussian", "normalized", "sigma in normalised units (not clipped)", {0.5: 0.3339}),
        ("uniform", "legacy", "epsilon (legacy: half-width 5.183 epsilon²)", {0.5: 0.1361}),
        ("pixel", "legacy", "number of pixels set", {10: 0.7299}),
        ("local-search", "legacy", "number of pixels moved per round (L0 (pixels) per round)", {20: 0.0}),
        (
            "fgsm",
            "legacy",
            "largest change of a pixel's channel (Linf), in normalised units within the published bounds",
            {0.001 * 5.182797: 0.877},
        ),
        ("contrast", "legacy", "share of the way to grey; beyond 1 a negative", {0.6: 0.799, 2.0: 0.539}),
        ("gaussian-blur", "legacy", "standard deviation over the larger side", {0.05: 0.26}),
        ("rotation", "legacy", "largest angle in degrees", {10: 0.775}),
        ("translation", "legacy", "largest shift in pixels", {10: 0.055}),
    ],
)
def test_published_levels_are_in_the_unit_of_their_axis(kind, space, label, published):
    assert axes.axis(kind, space, STD).label == label
    found = series(kind, space)["fp32"]
    for level, accuracy in published.items():
        nearest = min(found, key=lambda x: abs(x - level))
        assert nearest == pytest.approx(level, rel=1e-6)
        assert found[nearest] == pytest.approx(accuracy)


def test_all_published_series_have_a_unit_that_is_checked_above():
    (mark,) = (
        m for m in test_published_levels_are_in_the_unit_of_their_axis.pytestmark if m.name == "parametrize"
    )
    assert {row[:2] for row in mark.args[1]} == set(paper_curves.SOURCES)


def test_the_published_files_are_complete():
    for name, rows, columns in [
        ("gaussian_noise.csv", 21, 6),
        ("uniform_noise.csv", 15, 3),
        ("pixel.csv", 101, 5),
        ("local_search.csv", 21, 3),
    ]:
        with (files("blrobust.reports") / "reference" / name).open() as file:
            assert pd.read_csv(file).shape == (rows, columns)


def test_numbers_as_text():
    assert number_text.percent(0.9348) == "93.5\xa0%"
    assert number_text.percent(math.nan) == "–"
    assert number_text.nominal(0.0) == "0\xa0%"
    assert number_text.nominal(0.29) == "29\xa0%"  # 100 * 0.29 is not 29 in floats
    assert number_text.nominal(0.475) == "47.5\xa0%"
    assert [number_text.points(x) for x in (0.1234, -0.05, 0.0001, -0.0001)] == [
        "+12.3",
        "−5.0",
        "0.0",
        "0.0",
    ]
    # Exact halves go away from zero, wherever the float lies: 0.0625 is exact, 0.0005 and 0.0015 are not.
    assert [number_text.per_cent(x) for x in (0.0625, 0.0125, 0.0005, 0.0015, 0.8125)] == [
        *("6.3", "1.3", "0.1", "0.2", "81.3")
    ]
    assert number_text.points(-0.0625) == "−6.3"
    assert number_text.points_and_span(-0.00045, -0.0009, -0.0000961) == ("−0.05", "−0.09 to −0.01")
    assert number_text.points_and_span(-0.0004, -0.0009, 0.0001) == ("0.0", "−0.1 to 0.0")
    assert number_text.p_value(0.0004) == "p\xa0<\xa00.001"
    assert number_text.p_value(0.0312) == "p\xa0=\xa00.031"
    # A difference is found below 0.05: no rounded p-value may seem to be on the other side.
    for p, text in [
        (0.0501, "0.0501"),
        (0.0499, "0.0499"),
        (0.049999, "0.049999"),
        (0.0504, "0.0504"),
        (0.0512, "0.051"),
        (0.05, "0.05"),
        (1.0, "1"),
        (0.0009996, "0.001"),
    ]:
        assert number_text.p_digits(p) == text
    sigma, linf = (axes.axis(kind, "pixel", STD) for kind in ("gaussian", "fgsm"))
    assert number_text.level_at(math.inf, [0.0, 2.0], sigma) == ">\xa02"
    assert number_text.level_at(math.inf, [0.0, 8 / 255], linf) == ">\xa08/255"
    assert number_text.level_at(0.41486, [0.0, 2.0], sigma) == "0.41"
    assert number_text.level_at(2 / 255, [0.0, 8 / 255], linf) == "2/255"
    assert number_text.level_at(0.00914, [0.0, 8 / 255], linf) == "2.3/255"
    assert number_text.level_at(0.0, [0.0, 8 / 255], linf) == "0"
    assert number_text.level_at(23.4, [0.0, 1000.0], sigma) == "23"
    assert number_text.level_at(0.0, [0.0], sigma) == "0"
    # A measured level, which many medians are, looks as it does in every other place.
    for level in (0.1, 1.0, 16 / 255, 0.00263):
        assert number_text.level_at(level, [0.0, level, 100.0], linf) == linf.format(level)
        assert number_text.level_at(level, [0.0, level, 100.0], sigma) == sigma.format(level)
    assert number_text.level_at(100.0, [0.0, 100.0], sigma) == "100"
    assert number_text.level_at(float(np.float32(126 / 255)), [0.0, 1.0], linf) == "126/255"
    assert number_text.level_at(1.02 / 255, [0.0, 1.0], linf) == "1/255"
    assert number_text.level_at(0.00263, [0.0, 8 / 255], linf) == "0.7/255"
    assert number_text.level_at(0.02 / 255, [0.0, 8 / 255], linf) == "0.02/255"
    assert number_text.level_at(0.00003, [0.0, 2.0], sigma) == "3e-05"
    assert sigma.describe(16 / 255) == "sigma 0.0627451"
    assert number_text.half_level(0.0, [0.0, 2.0], sigma) == "below 50\xa0% from the start"
    assert number_text.half_level(0.3, [0.0, 2.0], sigma) == "0.3"
    assert number_text.half_span(["0.30", "0.28", ">\xa02"]) == "0.28 to >\xa02"
    assert number_text.half_span([">\xa02"] * 3) == number_text.half_span([number_text.BELOW] * 3) == ""
    assert number_text.half_span(["0.30"] * 3) == "0.30 to 0.30"
    assert number_text.half_span(["0.29", "0.28", "0.3"]) == "0.28 to 0.30"
    assert number_text.half_span(["1.1", "1", "1.25"]) == "1.00 to 1.25"
    assert number_text.half_span(["2/255", "1.5/255", "3/255"]) == "1.5/255 to 3/255"
    assert number_text.half_span(["0.1", number_text.BELOW, "0.25"]) == "0 to 0.25"


def test_the_summary_counts_levels_above_and_below(tmp_path):
    curves = {"fp32": [0.93, 0.33, 0.1, 0.1], "fft85": [0.84, 0.68, 0.36, 0.1], "mine": [0.93, 0.5, 0.1, 0.1]}
    path = invented.run(tmp_path / "run", curves, LEVELS, n=1000, is_exact=True)
    with Run.open(path) as run:
        table = tables.summary({"run": Analysis(run, "gaussian")}, GAUSSIAN)
        other = tables.summary({"run": Analysis(run, "gaussian", baseline="fft85")}, GAUSSIAN)
    rows = dict(table.rows)
    assert table.header[-1] == "against fp32"
    assert rows["fp32"][-1].text == "–"
    assert rows["fft85"][-1].text == "better at 2 of 4 levels, worse at 1 level"
    assert rows["fft85"][-1].sign == ""  # gains and losses
    assert rows["mine"][-1].sign == "better"
    assert other.header[-1] == "against fft85"
    assert dict(other.rows)["fp32"][-1].text == "better at 1 of 4 levels, worse at 2 levels"


def test_runs_with_other_levels_or_images_are_summed_up_over_what_they_share(tmp_path):
    curve = [0.9, 0.7, 0.5, 0.3]
    made = {
        "long": invented.run(tmp_path / "long", {"fp32": curve}, LEVELS, n=200, is_exact=True),
        "short": invented.run(tmp_path / "short", {"fp32": curve[:2]}, LEVELS[:2], n=200, is_exact=True),
        "clean": invented.run(tmp_path / "clean", {"fp32": curve[:1]}, LEVELS[:1], n=200, is_exact=True),
    }
    with ExitStack() as stack:
        runs = {n: Analysis(stack.enter_context(Run.open(p)), "gaussian") for n, p in made.items()}
        pair = {name: runs[name] for name in ("long", "short")}
        table, note = tables.summary(pair, GAUSSIAN), mixture_note(pair, GAUSSIAN)
        none, nothing = tables.summary(runs, GAUSSIAN), mixture_note(runs, GAUSSIAN)
        assert mixture_note({"long": runs["long"]}, GAUSSIAN) is None
        alone = tables.summary({"long": runs["long"]}, GAUSSIAN)
        only = tables.summary({"clean": runs["clean"]}, GAUSSIAN)
    assert [cells[4].text for _, cells in table.rows] == ["80.0\xa0%"] * 2
    assert [cells[5].text for _, cells in table.rows] == [">\xa00.5"] * 2
    assert alone.rows[0][1][3].text == "60.0\xa0%"
    assert only.rows[0][1][3].text == "90.0\xa0%"
    assert {cells[4].text for _, cells in none.rows} == {"–"}
    assert note == (
        "The runs have different levels, so mean accuracy and level at 50 % are over the 2 that they share "
        "(sigma 0 to 0.5); all other numbers and the sentences are over each run's own levels."
    )
    assert nothing is not None
    assert "share only the clean images" in nothing


@pytest.mark.parametrize(
    ("kind", "level", "fp32", "fft85"),
    [
        # Foolbox 1 multiplied FGSM's epsilon by the width of the bounds.
        ("fgsm", 0.001 * 5.1828, 0.877, 0.775),
        ("contrast", 0.1, 0.929, 0.839),
        ("gaussian-blur", 0.05, 0.26, 0.64),
        ("rotation", 2, 0.85, 0.745),
        ("translation", 2, 0.82, 0.625),
    ],
)
def test_published_attacks_are_on_our_axes(kind, level, fp32, fft85):
    found = paper_curves.series(
        kind=kind, space="legacy", datasets=["cifar10"], n=1000, models=["fp32", "fft50", "fft85"], last=1e9
    )
    assert [series.model for series in found] == ["fp32", "fft85"]
    for series, accuracy in zip(found, (fp32, fft85), strict=True):
        place = min(range(len(series.levels)), key=lambda i: abs(series.levels[i] - level))
        assert series.levels[place] == pytest.approx(level)
        assert series.accuracy[place] == pytest.approx(accuracy)
