import math
from importlib.resources import files

import numpy as np
import pandas as pd
import pytest
from support import invented

from blrobust.analysis.analysis import Analysis
from blrobust.reports import axes, paper_curves, tables
from blrobust.reports.conclusions import conclusions
from blrobust.runs.run import Run

LEVELS = [0.0, 0.5, 1.0, 1.5]
STD = [0.2023, 0.1994, 0.2010]
GAUSSIAN = axes.axis("gaussian", "normalized", STD)


def sentences(path, curves, levels=LEVELS, **options):
    with Run.open(invented.run(path, curves, levels, n=1000, **options)) as run:
        return conclusions(Analysis(run, "gaussian"), GAUSSIAN)


def test_the_conclusions_names_where_intervals_are_disjoint(tmp_path):
    text = sentences(
        tmp_path / "run",
        {
            "fp32": [0.93, 0.33, 0.1, 0.1],
            "fp32-early": [0.87, 0.43, 0.1, 0.1],
            "fft50": [0.92, 0.52, 0.1, 0.1],
            "fft85": [0.84, 0.68, 0.36, 0.1],
        },
    )
    assert text[0].startswith(
        "fft85 beats fp32 with disjoint 95 % intervals at 2 of 4 levels (sigma 0.5 to 1); the margin is "
        "largest at sigma 0.5: "
    )
    assert text[1] == "fp32 is ahead of fft85 in the same sense at 1 of 4 levels (sigma 0)."
    assert text[2].startswith("On clean images fft85 gets 8")
    assert "−" in text[2]
    assert text[3].startswith("The best control without band limits, fp32-early, reaches 4")
    assert text[3].endswith("points below fft85.")
    assert "fft50 at 1 of 4 levels (sigma 0.5)" in text[4]
    assert "fp32-early at 1 of 4 levels (sigma 0.5)" in text[4]


def test_the_conclusions_says_when_nothing_is_found(tmp_path):
    same = [0.9, 0.5, 0.1, 0.1]
    text = sentences(tmp_path / "run", {"fp32": same, "fp16": same})
    assert text[0].startswith("No model beats fp32 with disjoint 95 % intervals at any level. fp16 has")
    assert len(text) == 2


def test_the_best_by_mean_need_not_be_the_one_above(tmp_path):
    curves = {
        "fp32": [0.9, 0.6, 0.5, 0.1],
        "fft50": [0.9, 0.6, 0.5, 0.1],
        "fp16": [0.9, 0.3, 0.1, 0.3],
    }
    text = sentences(tmp_path / "run", curves)
    assert text[0].startswith("fft50 does not beat fp32 with disjoint 95 % intervals at any level. fft50 has")
    assert text[-1] == "Above fp32: fp16 at 1 of 4 levels (sigma 1.5)."
    assert not any("control" in sentence for sentence in text)
    curves = {"fp32": [0.9, 0.4, 0.1, 0.1], "fft85": [0.9, 0.7, 0.5, 0.1], "fp16": [0.9, 0.4, 0.1, 0.1]}
    text = sentences(tmp_path / "other", curves)
    assert text[0].startswith("fft85 beats fp32")
    assert not any("Also above" in sentence for sentence in text)


def test_a_calibrated_model_is_no_control(tmp_path, monkeypatch):
    monkeypatch.setitem(invented.COMPRESSION, "mine", (0.0, 0.5))
    curves = {"fp32": [0.9, 0.4, 0.1, 0.1], "mine": [0.9, 0.7, 0.5, 0.1], "fp16": [0.9, 0.4, 0.1, 0.1]}
    text = sentences(tmp_path / "run", curves)
    assert any(s.startswith("The best control without band limits, fp16, ") for s in text)


def test_the_conclusions_says_when_controls_are_missing(tmp_path):
    text = sentences(tmp_path / "run", {"mine": [0.9, 0.5, 0.1, 0.1], "fft85": [0.8, 0.7, 0.5, 0.1]})
    assert text[0].startswith("fft85 beats mine ")
    assert any("No control without band limits" in sentence for sentence in text)


def test_the_conclusions_about_one_model(tmp_path):
    (text,) = sentences(tmp_path / "a", {"fft85": [0.9, 0.7, 0.3, 0.1]})
    assert text.startswith("fft85 gets ")
    assert "it falls to 50 % at sigma 0.7" in text
    (text,) = sentences(tmp_path / "b", {"fft85": [0.9, 0.8, 0.8, 0.7]})
    assert text.endswith("it stays above 50 % on the whole grid.")


def test_levels_with_gaps_are_named_one_by_one_or_summed_up(tmp_path):
    high, low = 0.8, 0.3
    base = [0.55] * 9
    few = [high, high, low, high, low, low, low, low, low]
    text = sentences(tmp_path / "few", {"fp32": base, "fp16": few}, levels=list(range(9)))
    assert "3 of 9 levels (sigma 0 to 1, 3)" in text[0]
    many = [high, low, high, low, high, low, high, low, high]
    text = sentences(tmp_path / "many", {"fp32": base, "fp16": many}, levels=list(range(9)))
    assert "5 of 9 levels (sigma from 0 on, with gaps)" in text[0]


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
        kind=kind, space=space, dataset="cifar10", n=n, models=list(models), last=last
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


def test_the_published_files_are_complete():
    for name, rows, columns in [
        ("gaussian_noise.csv", 21, 6),
        ("uniform_noise.csv", 15, 3),
        ("pixel.csv", 101, 5),
    ]:
        with (files("blrobust.reports") / "reference" / name).open() as file:
            assert pd.read_csv(file).shape == (rows, columns)


def test_numbers_as_text():
    assert tables.percent(0.9348) == "93.5\xa0%"
    assert tables.percent(math.nan) == "–"
    assert tables.nominal(0.0) == "0\xa0%"
    assert tables.nominal(0.29) == "29\xa0%"  # 100 * 0.29 is not 29 in floats
    assert tables.nominal(0.475) == "47.5\xa0%"
    assert [tables.points(x) for x in (0.1234, -0.05, 0.0001, -0.0001)] == ["+12.3", "−5.0", "0.0", "0.0"]
    assert tables.p_value(0.0004) == "p\xa0<\xa00.001"
    assert tables.p_value(0.0312) == "p\xa0=\xa00.031"
    sigma, linf = (axes.axis(kind, "pixel", STD) for kind in ("gaussian", "fgsm"))
    assert tables.level_at(math.inf, [0.0, 2.0], sigma) == ">\xa02"
    assert tables.level_at(math.inf, [0.0, 8 / 255], linf) == ">\xa08/255"
    assert tables.level_at(0.41486, [0.0, 2.0], sigma) == "0.41"
    assert tables.level_at(2 / 255, [0.0, 8 / 255], linf) == "2/255"
    assert tables.level_at(0.00914, [0.0, 8 / 255], linf) == "0.0091"
    assert tables.level_at(23.4, [0.0, 1000.0], sigma) == "23"
    assert tables.level_at(0.0, [0.0], sigma) == "0"


def test_the_summary_counts_levels_above_and_below(tmp_path):
    curves = {"fp32": [0.93, 0.33, 0.1, 0.1], "fft85": [0.84, 0.68, 0.36, 0.1]}
    with Run.open(invented.run(tmp_path / "run", curves, LEVELS, n=1000)) as run:
        table = tables.summary({"run": Analysis(run, "gaussian")}, GAUSSIAN)
    rows = dict(table.rows)
    assert table.header[-1] == "levels above fp32"
    assert rows["fp32"][-1].text == "–"
    assert (rows["fft85"][-1].text, rows["fft85"][-1].detail) == ("2 of 4", "below: 1 of 4")
    assert rows["fft85"][-1].sign == "better"


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
        kind=kind, space="legacy", dataset="cifar10", n=1000, models=["fp32", "fft50", "fft85"], last=1e9
    )
    assert [series.model for series in found] == ["fp32", "fft85"]
    for series, accuracy in zip(found, (fp32, fft85), strict=True):
        place = min(range(len(series.levels)), key=lambda i: abs(series.levels[i] - level))
        assert series.levels[place] == pytest.approx(level)
        assert series.accuracy[place] == pytest.approx(accuracy)
