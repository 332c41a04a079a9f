"""Paired tests between two runs, beside SciPy's binomial test."""

import re
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binomtest
from support import invented

from blrobust.analysis.run_analysis import RunAnalysis
from blrobust.analysis.run_pairs import pairs
from blrobust.errors import UserError
from blrobust.runs.run import Run


def test_runs_on_other_images_are_refused_with_both_numbers(tmp_path: Path) -> None:
    a, b = (invented.run(tmp_path / f"{n}", {"x": [0.9]}, [0.0], n=n) for n in (200, 300))
    with Run.open(a) as first, Run.open(b) as second:
        second.record.dataset.checksum = "ef" * 32
        wanted = (
            f"{b}: got 300 images of cifar10 (checksum efefefef), normalized space; legal: those of {a}, "
            "200 images of cifar10 (checksum cdcdcdcd), normalized space"
        )
        with pytest.raises(UserError, match=re.escape(wanted)):
            pairs(RunAnalysis(first), RunAnalysis(second))


def test_two_runs_are_compared_image_by_image(tmp_path: Path) -> None:
    levels = [0.0, 0.5, 1.0]
    a = invented.run(tmp_path / "a", {"x": [0.9, 0.6, 0.3], "y": [0.9, 0.5, 0.2]}, levels)
    b = invented.run(tmp_path / "b", {"x": [0.95, 0.9, 0.3]}, levels, draws=2)
    with Run.open(a) as first, Run.open(b) as second:
        table = pairs(RunAnalysis(first), RunAnalysis(second))
        assert table[["model", "baseline"]].drop_duplicates().to_numpy().tolist() == [["x", "x"], ["x", "y"]]
        for row in table.to_dict("records"):
            ours = second.correct("x", "gaussian", row["level"])[0]
            theirs = first.correct(row["baseline"], "gaussian", row["level"])[0]
            assert row["difference"] == pytest.approx(ours.mean() - theirs.mean())
            won, lost = int((ours & ~theirs).sum()), int((~ours & theirs).sum())
            exact = binomtest(won, won + lost).pvalue if won + lost else 1.0
            np.testing.assert_allclose(row["p"], exact, rtol=1e-9)
            assert row["draws"] == 1
