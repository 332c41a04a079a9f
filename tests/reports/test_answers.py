"""The answers of a report on invented runs whose differences are exact."""

import re
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from support import invented

from blrobust.analysis import controls
from blrobust.analysis.analysis import Analysis
from blrobust.analysis.comparison import Verdict
from blrobust.analysis.mean_tests import mean_tests
from blrobust.analysis.run_analysis import RunAnalysis
from blrobust.reports import axes, page
from blrobust.reports.answers import answers
from blrobust.runs.run import Run

LEVELS = [0.0, 1.0]
GAUSSIAN = axes.axis("gaussian", "normalized", [0.2, 0.2, 0.2])
CURVES = {
    "fp32": [0.9, 0.3],
    "fft50": [0.9, 0.4],
    "fft85": [0.8, 0.6],
    "fft85-compact": [0.8, 0.6],
    "fp32-early": [0.8, 0.4],
    "fp32-noise": [0.85, 0.8],
    "lowpass-fft85+fp32": [0.8, 0.6],
}


def found(path: Path, curves: dict[str, list[float]], **options: object) -> dict[str, str]:
    """The answers by the last words of their questions."""
    given = {"n": 1000, "is_exact": True, "cards": invented.trained(curves)} | options
    with Run.open(invented.run(path, curves, LEVELS, **given)) as run:
        texts = answers(Analysis(run, "gaussian"), GAUSSIAN)
    last = {
        re.sub(r"^Does a band limit help |\?$", "", a.question): a.text.replace("\xa0", " ") for a in texts
    }
    assert len(last) == len(texts)
    return last


def test_every_question_has_its_sentence(tmp_path: Path) -> None:
    """The mean of two levels is the mean of two numbers: fft85 has 10 points more than fp32-early."""
    text = found(tmp_path / "run", CURVES)
    assert list(text) == [
        "beyond a low-pass in front of fp32",
        "beyond early stopping",
        "beyond training on low-passed images",
        "beyond training on noisy images",
        "beyond a narrower network",
        "Is a band limit worth its clean accuracy",
        "Where does it lose",
        "Is a stronger band limit more robust",
        "Do compact transform sizes equal the paper's",
        "How close are the published points",
    ]
    assert text["beyond a low-pass in front of fp32"] == (
        "Not shown. fft85 against lowpass-fft85+fp32: no difference found, mean 0.0 points (0.0 to 0.0; p = "
        "1), better at no level, worse at no level; fft50 against lowpass-fft85+fp32 (not matched): is "
        "worse, mean −5.0 points (−6.7 to −3.4; p < 0.001), better at 1 of 2 levels (sigma 0), worse at 1 "
        "of 2 levels (sigma 1)."
    )
    assert text["beyond early stopping"].startswith(
        "Yes. fft85 against fp32-early: helps, mean +10.0 points (+8.9 to +11.3; p < 0.001), better at 1 of "
        "2 levels (sigma 1), worse at no level; fft50 against fp32-early: helps, mean +5.0 points ("
    )
    assert text["beyond training on low-passed images"] == "Not measured in this run: fp32-lowpass."
    assert text["beyond training on noisy images"].startswith("No. fft85 against fp32-noise: is worse, mean")
    worth = text["Is a band limit worth its clean accuracy"]
    assert worth.startswith(
        "In part, against fp32 and the other models without band limits. fft85: no, clean −10.0 points "
        "(−11.8 to −8.1), mean +10.0 points ("
    )
    assert "), but fp32-noise has clean +5.0 points (+3.6 to +6.4) and mean +12.5 points (" in worth
    assert "fft50: yes, clean 0.0 points (" in worth
    assert text["Where does it lose"] == (
        "Against fp32: fft85 at 1 of 2 levels (sigma 0): −10.0 points (−11.8 to −8.1). No loss is found for "
        "fft50."
    )
    assert text["Is a stronger band limit more robust"].startswith(
        "Yes. Mean accuracy rises in 2 and falls in 0 of the 2 steps from 0.0 % to 86.0 % effective "
        "compression; the smallest is from "
    )
    assert text["Do compact transform sizes equal the paper's"].startswith(
        "No difference found. fft85-compact against fft85: mean 0.0 points (0.0 to 0.0; p = 1), "
    )
    assert text["How close are the published points"].startswith("Of 8 published points, ")


def test_a_fall_between_two_rates_is_named(tmp_path: Path) -> None:
    curves = {**CURVES, "fft50": [0.9, 0.2], "fft85-compact": [0.8, 0.7]}
    text = found(tmp_path / "run", curves)
    assert text["Is a stronger band limit more robust"].startswith(
        "No. Mean accuracy rises in 1 and falls in 1 of the 2 steps from 0.0 % to 86.0 % effective "
        "compression: from fp32 to fft50 −5.0 points (−6.0 to −4.1; p < 0.001)."
    )
    assert text["Do compact transform sizes equal the paper's"].startswith(
        "No. fft85-compact against fft85: "
    )
    curves["fft50"] = CURVES["fp32"]
    text = found(tmp_path / "same", curves)
    assert text["Is a stronger band limit more robust"].endswith(
        ": from fp32 to fft50 0.0 points (0.0 to 0.0; p = 1), no difference found."
    )
    assert text["Is a band limit worth its clean accuracy"].startswith("Not shown, against fp32")


@pytest.mark.parametrize(
    "models",
    [
        ("fp32", "fft50", "fft85", "lowpass-fft85+fp32"),  # no trained control
        ("fft85", "fp32-early"),
        ("fp32", "fp32-early"),
    ],
)
def test_a_run_without_the_models_of_the_questions_has_no_answers(models: tuple[str, ...], tmp_path) -> None:
    assert found(tmp_path / "run", {model: CURVES[model] for model in models}) == {}


def test_further_band_limits_answer_where_no_published_one_was_measured(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(invented.COMPRESSION, "fft30", (0.3, 0.31))
    curves = {"fp32": [0.9, 0.3], "fft30": [0.9, 0.5], "fp32-early": [0.8, 0.4]}
    text = found(tmp_path / "run", curves)
    assert text["beyond early stopping"].startswith("Yes. fft30 against fp32-early: ")
    assert "Is a stronger band limit more robust" not in text  # two rates only
    text = found(tmp_path / "both", curves | {"fft85": [0.8, 0.8]})
    assert "fft30" not in text["beyond early stopping"]
    assert "in 2 and falls in 0 of the 2 steps" in text["Is a stronger band limit more robust"]


def test_rates_are_models_that_differ_in_the_band_limit_alone(tmp_path: Path) -> None:
    names = ["fft85", "fp16-fft50", "fft50-seed1", "fp32-early", "fft85-compact", "fp32", "depth5+fft50"]
    cards = invented.trained(names)
    cards["fft50-seed1"]["effective_compression"] = 0.515
    path = invented.run(tmp_path / "run", {name: [0.9, 0.5] for name in names}, LEVELS, cards=cards)
    with Run.open(path) as run:
        analysis = Analysis(run, "gaussian")
        assert controls.fixed_rates(analysis) == ["fp32", "fft50-seed1", "fft85"]
        assert controls.compact_pairs(analysis) == [("fft85-compact", "fft85")]
        assert controls.trained_control(analysis, "fp32-early") == "fp32-early"
        assert controls.trained_control(analysis, "fp32-noise") is None


def test_mean_tests_are_scipys_with_holm(tmp_path: Path) -> None:
    curves = {"a": [0.6, 0.45], "b": [0.55, 0.43], "c": [0.6, 0.4]}
    with Run.open(invented.run(tmp_path / "run", curves, LEVELS, draws=3)) as run:
        analysis = Analysis(run, "gaussian")
        tests = mean_tests(analysis, [("a", "b"), ("c", "b")])
        scores = {
            m: np.mean([run.correct(m, "gaussian", x).mean(axis=0) for x in LEVELS], axis=0) for m in curves
        }
    p = [stats.ttest_rel(scores[m], scores["b"]).pvalue for m in ("a", "c")]
    smaller = min(1, 2 * min(p))
    assert [test.p_holm for test in tests] == pytest.approx(
        [max(smaller, x) if x > min(p) else smaller for x in p]
    )
    for test in tests:
        assert test.difference == analysis.mean_difference(test.model, "b")
        assert (test.verdict == Verdict.TIE) == (test.p_holm >= 0.05)


def test_seeds_answer_as_one_model(tmp_path: Path) -> None:
    """fft85 has 17.5 +- 0.5 points more than fp32-early: Welch's t of two and of one seed."""
    curves = {"fp32": [0.9, 0.3], "fft85": [0.8, 0.6], "fft85-seed1": [0.82, 0.6], "fp32-early": [0.8, 0.26]}
    text = found(tmp_path / "run", curves)
    early = text["beyond early stopping"]
    assert early.startswith("Yes. fft85 against fp32-early: helps, mean +17.5 points (")
    assert "seed" not in early


def test_the_page_shows_the_answers(tmp_path: Path) -> None:
    path = invented.run(tmp_path / "run", CURVES, LEVELS, is_exact=True, cards=invented.trained(CURVES))
    with Run.open(path) as run:
        page.render([RunAnalysis(run)], tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text("utf-8")
    assert text.count(">Answers</h2>") == 1
    assert "<dt>Does a band limit help beyond early stopping?</dt><dd>Yes. fft85 against" in text
    assert "the paired t-test over images, adjusted" in re.sub(r"\s+", " ", text)
