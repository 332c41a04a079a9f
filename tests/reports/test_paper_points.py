"""Published points beside those of invented runs."""

import re
from pathlib import Path

import numpy as np
import pytest
from statsmodels.stats.proportion import confint_proportions_2indep
from support import invented

from blrobust.analysis.analysis import Analysis
from blrobust.analysis.run_analysis import RunAnalysis
from blrobust.perturbations.paper_bounds import WIDTH
from blrobust.reports import page
from blrobust.reports.axes import axis
from blrobust.reports.paper_points import COLUMNS, band_limit_points, level_points
from blrobust.reports.paper_tables import closeness, published_points
from blrobust.runs.run import Run

STD = [0.2, 0.2, 0.2]
GAUSSIAN = axis("gaussian", "normalized", STD)
LEVELS = [0.0, 0.25, 0.5, 1.0]  # 0.25 was not published
CURVES = {"fp32": [0.93, 0.7, 0.4, 0.1], "fft85": [0.84, 0.8, 0.7, 0.4], "mine": [0.5, 0.5, 0.5, 0.5]}


def made(path: Path, curves: dict[str, list[float]], levels: list[float], **options: object) -> Path:
    given = {"n": 1000, "is_exact": True, "cards": invented.trained(curves)} | options
    return invented.run(path, curves, levels, **given)


def test_each_published_point_has_a_row_with_newcombes_interval(tmp_path: Path) -> None:
    with Run.open(made(tmp_path / "run", CURVES, LEVELS)) as run:
        points = level_points(Analysis(run, "gaussian"))
    assert list(points.columns) == list(COLUMNS)
    assert len(points) == 2 * (21 + 1)
    single = points[points.level.notna()]
    measured = single[single.ours.notna()]
    assert measured.level.tolist() == [0.0, 0.5, 1.0] * 2
    assert measured.published.tolist() == pytest.approx([0.9348, 0.3339, 0.1124, 0.8455, 0.6767, 0.3601])
    assert measured.ours.tolist() == pytest.approx([0.93, 0.4, 0.1, 0.84, 0.7, 0.4])
    for row in measured.to_dict("records"):
        counts = round(1000 * row["ours"]), 1000, round(10_000 * row["published"]), 10_000
        wanted = confint_proportions_2indep(*counts, method="newcomb", compare="diff", correction=False)
        assert (row["low"], row["high"]) == pytest.approx(wanted)
        assert row["difference"] == pytest.approx(row["ours"] - row["published"])


def test_the_mean_is_over_the_common_levels(tmp_path: Path) -> None:
    with Run.open(made(tmp_path / "run", CURVES, LEVELS)) as run:
        points = level_points(Analysis(run, "gaussian"))
    row = points[points.level.isna() & (points.model == "fp32")].iloc[0]
    assert row.published == pytest.approx((0.9348 + 0.3339) / 4 + (0.3339 + 0.1124) / 4)
    assert row.ours == pytest.approx((0.93 + 0.4) / 4 + (0.4 + 0.1) / 4)  # without the level 0.25
    assert row.low < row.difference < row.high
    # As wide as published levels that all err alike, by about 1.96 * sqrt(p (1 - p) / 10,000) each.
    reach = np.mean([np.sqrt(p * (1 - p) / 1e4) * 1.96 for p in (0.9348, 0.3339, 0.3339, 0.1124)])
    own = row.ours - row.ours_low
    assert row.difference - row.low == pytest.approx(np.hypot(own, reach), rel=0.02)


def test_several_seeds_have_their_own_interval(tmp_path: Path) -> None:
    curves = {"fp32": [0.95, 0.4], "fp32-seed1": [0.91, 0.4]}
    with Run.open(made(tmp_path / "run", curves, [0.0, 0.5])) as run:
        analysis = Analysis(run, "gaussian")
        row = level_points(analysis).iloc[0]
        assert (row.ours, row.ours_low, row.ours_high) == analysis.outcomes["fp32"][0.0].accuracy
    assert row.ours == pytest.approx(0.93)
    assert row.ours_low < 0.91 < 0.95 < row.ours_high


@pytest.mark.parametrize(
    ("kind", "space", "levels", "published"),
    [
        ("fgsm", "legacy", [0.0, 0.001 * WIDTH], [0.935, 0.877]),
        ("fgsm", "legacy", [0.0, round(0.001 * WIDTH, 6)], [0.935, 0.877]),
        ("fgsm", "legacy", [0.0, 0.00525], [0.935]),
        ("fgsm", "pixel", [0.0, 0.005], []),
        ("contrast", "legacy", [0.0, 0.3], [0.935, 0.906]),
        ("rotation", "legacy", [0.0, 1.0], [0.94, 0.86]),
        ("translation", "legacy", [0.0, 1.0], [0.94, 0.865]),
        ("gaussian-blur", "legacy", [0.0, 0.05], [0.26]),
        ("pixel", "legacy", [0.0, 10.0], [0.935, 0.739]),
        ("local-search", "legacy", [0.0, 1.0], [0.52]),
        ("uniform", "legacy", [0.0, 0.01], [0.9348, 0.9348]),
        ("uniform", "pixel", [0.0, 0.01], []),
    ],
)
def test_every_series_that_fits_is_compared(kind, space, levels, published, tmp_path: Path) -> None:
    path = made(tmp_path / "run", {"fp32": [0.9] * len(levels)}, levels, kind=kind, space=space, n=100)
    with Run.open(path) as run:
        points = level_points(Analysis(run, kind))
    found = points[points.ours.notna() & points.level.notna()]
    assert found.published.tolist() == pytest.approx(published)


def test_other_data_has_no_published_points(tmp_path: Path) -> None:
    with Run.open(made(tmp_path / "run", CURVES, LEVELS, dataset="mnist")) as run:
        analysis = Analysis(run, "gaussian")
        assert level_points(analysis).empty
        assert closeness(level_points(analysis), GAUSSIAN) == ""
        assert published_points(analysis, GAUSSIAN, "") == []


def test_clean_accuracy_is_compared_at_the_nearest_band_limit(tmp_path: Path) -> None:
    curves = {"fp32": [0.93], "fft50": [0.92], "fft85": [0.85]}
    with Run.open(made(tmp_path / "run", curves, [0.0])) as run:
        points = band_limit_points(Analysis(run, "gaussian"), "rates")
    assert len(points) == 14
    found = points.dropna(subset="ours")
    # fft50 has 51.5 %; nothing was published near the 86 % of fft85.
    assert found.level.tolist() == pytest.approx([0, 0.49, 0.535348])
    assert found.measured.tolist() == ["fp32", "fft50", "fft50"]
    assert found.published.tolist() == pytest.approx([0.9369, 0.9195, 0.9164])
    assert found.difference.tolist() == pytest.approx([-0.0069, 0.0005, 0.0036])


def test_models_tested_at_other_band_limits_are_compared_too(tmp_path: Path) -> None:
    curves = {"fp32@0": [0.9], "fp32@50": [0.8], "fft50@0": [0.85]}
    cards = invented.trained(curves)
    cards["fp32@50"]["effective_compression"] = 0.5
    cards["fft50@0"]["effective_compression"] = 0.0
    with Run.open(made(tmp_path / "run", curves, [0.0], cards=cards)) as run:
        analysis = Analysis(run, "gaussian")
        found = band_limit_points(analysis, "mismatch").dropna(subset="ours")
        assert set(found.measured) == {"fp32@0", "fp32@50", "fft50@0"}
        assert found[found.measured == "fft50@0"].published.iloc[0] == pytest.approx(0.91)
        (points,) = published_points(analysis, GAUSSIAN, "mismatch")
    names = [name.replace("\xa0", " ") for name, _ in points.table.rows]
    assert names[0] == "fp32 tested at 0.0 % effective compression"
    assert points.title == "Published clean accuracy by band limit"


def test_the_closeness_counts_by_the_interval(tmp_path: Path) -> None:
    with Run.open(made(tmp_path / "run", CURVES, LEVELS)) as run:
        text = closeness(level_points(Analysis(run, "gaussian")), GAUSSIAN)
    sizes = [0.48, 6.61, 1.24, 0.55, 2.33, 3.99]
    assert text == (
        "Of 6 published points, 4 are alike here (the interval of the difference contains 0), 2 are higher "
        f"here and 0 lower. The mean size of the difference is {np.mean(sizes):.1f} points, the largest "
        "fp32, sigma 0.5: +6.6 points (+3.5 to +9.8). 36 further published points were not measured."
    )


def test_the_page_has_a_table_of_the_points(tmp_path: Path) -> None:
    path = made(tmp_path / "run", CURVES, LEVELS)
    with Run.open(path) as run:
        page.render([RunAnalysis(run)], tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text("utf-8").replace("\xa0", " ")
    assert text.count(">Published points under Gaussian noise</h2></summary>") == 1
    assert "Published clean accuracy" not in text  # nothing near 86 % was published
    row = re.search(r"fft85, sigma 0\.5</th>(.*?)</tr>", text, re.DOTALL)
    assert re.sub(r"<[^>]+>|\s+", " ", row[1]).split() == [
        *("67.7", "%", "10,000", "images", "70.0", "%", "67.1", "to", "72.8", "+2.3", "−0.7", "to", "+5.2"),
    ]
