import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from support import invented

from blrobust.analysis.analysis import SUMMARY, Analysis
from blrobust.analysis.run_analysis import RunAnalysis
from blrobust.errors import UserError
from blrobust.runs.run import Run

LEVELS = [0.0, 0.5, 1.0]
CURVES = {"fp32": [0.95, 0.4, 0.1], "fft50": [0.9, 0.55, 0.12], "fft85": [0.85, 0.75, 0.6]}
DOCUMENTED = (
    "model,dataset,kind,space,level,draws,n,effective_n,accuracy,ci_low,ci_high,always_correct,"
    "rejected,survives_rounding,nominal_compression,effective_compression,forwards,backwards,seconds,"
    "not_finite"
)


@pytest.fixture
def one(tmp_path):
    with Run.open(invented.run(tmp_path / "one", CURVES, LEVELS)) as run:
        yield Analysis(run, "gaussian")


@pytest.fixture
def several(tmp_path):
    with Run.open(invented.run(tmp_path / "several", CURVES, LEVELS, draws=4)) as run:
        yield Analysis(run, "gaussian")


def test_table_has_the_documented_columns_and_a_row_per_cell(one):
    frame = one.table
    assert ",".join(frame.columns) == DOCUMENTED
    assert list(zip(frame.model, frame.level, strict=True)) == [(m, x) for m in CURVES for x in LEVELS]
    documentation = Path(__file__).parents[3].joinpath("docs/results.md").read_text("utf-8")
    assert all(f"`{column}`" in documentation for column in frame.columns)


def test_table_counts_images(one):
    frame = one.table.set_index(["model", "level"])
    for model in CURVES:
        for level in LEVELS:
            row = frame.loc[(model, level)]
            right = one.run.outcome(model, "gaussian", level, 0)["prediction"] == one.run.labels
            wilson = stats.binomtest(int(right.sum()), 200).proportion_ci(method="wilson")
            assert (row.n, row.draws, row.effective_n) == (200, 1, 200)
            assert row.accuracy == row.always_correct == right.mean()
            assert (row.ci_low, row.ci_high) == pytest.approx((wilson.low, wilson.high))
    assert set(frame.kind) == {"gaussian"}
    assert set(frame.space) == {"normalized"}
    assert set(frame.loc["fft85"].nominal_compression) == {0.84}
    assert set(frame.loc["fft85"].effective_compression) == {0.86}
    assert set(frame.forwards) == {200}
    assert set(frame.seconds) == {0.5}


def test_several_draws_are_worth_less_than_their_product(several):
    frame = several.table
    assert set(frame.draws) == {4}
    assert set(frame.forwards) == {800}
    assert ((frame.effective_n > 150) & (frame.effective_n < 800)).all()
    assert (frame.always_correct <= frame.accuracy).all()


def csv(run):
    RunAnalysis(run).write_csv()
    return run.path / "results.csv"


def test_csv_is_the_table_and_repeats_byte_for_byte(one, tmp_path):
    path = csv(one.run)
    first = path.read_bytes()
    frame = pd.read_csv(path)
    pd.testing.assert_frame_equal(frame, one.table)
    csv(one.run)
    assert path.read_bytes() == first
    assert sorted(p.name for p in one.run.path.iterdir() if p.name.startswith(".")) == []
    with Run.open(invented.run(tmp_path / "again", CURVES, LEVELS)) as again:
        assert csv(again).read_bytes() == first


def test_checks_of_an_attack_are_counted(tmp_path):
    with Run.open(invented.run(tmp_path / "a", CURVES, LEVELS, draws=2, checks=True)) as run:
        analysis = Analysis(run, "gaussian")
        assert set(analysis.table.rejected) == {2 * 4}
        assert set(analysis.table.survives_rounding) == {0.25}
        assert analysis.checks["fp32", 0.0].statuses["NOT_ATTACKED"] == 2


def test_noise_has_nothing_to_check(one):
    frame = one.table
    assert set(frame.rejected) == {0}
    assert frame.survives_rounding.isna().all()


def test_csv_quotes_what_the_user_wrote(tmp_path):
    names = ['a,"b"', "line\\nbreak", "ünïcode"]
    curves = {name: [0.9, 0.5, 0.1] for name in names}
    with Run.open(invented.run(tmp_path / "run", curves, LEVELS)) as run:
        frame = pd.read_csv(csv(run))
    assert list(frame.model.unique()) == names


@pytest.mark.parametrize("name", ["one", "several"])
def test_summary_is_rule_by_rule(name, request):
    run = request.getfixturevalue(name)
    frame = run.summary
    assert list(frame.columns) == list(SUMMARY)
    table = run.table
    for row in frame.itertuples():
        curve = table[table.model == row.model].accuracy.to_numpy()
        assert row.clean == pytest.approx(curve[0])
        assert row.mean == pytest.approx((curve[0] / 2 + curve[1] + curve[2] / 2) / 2)
        assert row.mean_low < row.mean < row.mean_high
        images = np.stack([run.run.correct(row.model, "gaussian", level).mean(axis=0) for level in LEVELS])
        spread = (images.T @ [0.25, 0.5, 0.25]).std() / math.sqrt(200)
        assert row.mean_high - row.mean_low == pytest.approx(2 * 1.96 * spread, rel=0.1)
    by_model = frame.set_index("model")
    fp32 = table[table.model == "fp32"].accuracy.to_numpy()
    expected = np.interp(0.5, fp32[1::-1], [0.5, 0.0])
    assert by_model.half_level["fp32"] == pytest.approx(expected)
    assert by_model.half_level_low["fp32"] < expected < by_model.half_level_high["fp32"]
    assert math.isinf(by_model.half_level["fft85"])
    assert math.isinf(by_model.half_level_high["fft85"])
    assert np.isnan(by_model.better["fp32"])
    assert by_model.better["fft85"] == pytest.approx(2 / 3)
    assert by_model.worse["fft85"] == pytest.approx(1 / 3)


def test_paired_tests_are_mcnemar_with_holm_for_one_draw(one):
    frame = one.paired
    rows = frame[frame.model == "fft50"]
    assert set(rows.baseline) == {"fp32"}
    p_values = []
    for level in LEVELS:
        ours, theirs = (one.run.correct(model, "gaussian", level)[0] for model in ("fft50", "fp32"))
        b, c = int((ours & ~theirs).sum()), int((theirs & ~ours).sum())
        p_values.append(stats.binomtest(b, b + c).pvalue)
    assert rows.p.to_numpy() == pytest.approx(p_values)
    first, *attacked = p_values
    assert rows.p_holm.iloc[0] == pytest.approx(first), "level 0 is tested alone"
    assert rows.p_holm.iloc[1:].min() == pytest.approx(min(1, 2 * min(attacked)))
    assert (rows.p_holm >= rows.p).all()
    accuracy = one.table.set_index(["model", "level"]).accuracy
    assert rows.difference.to_numpy() == pytest.approx(accuracy["fft50"] - accuracy["fp32"])


def test_paired_tests_of_several_draws_use_the_images(several):
    frame = several.paired
    row = frame[(frame.model == "fft50") & (frame.level == 0.5)].iloc[0]
    means = [several.run.correct(m, "gaussian", 0.5).mean(axis=0) for m in ("fft50", "fp32")]
    by_t = stats.ttest_rel(*means).pvalue  # the sign-flip test is its permutation twin
    assert row.draws == 4
    assert row.p == pytest.approx(by_t, rel=0.5, abs=1e-9)


def test_the_baseline_is_fp32_else_the_first_model_else_the_one_that_is_named(tmp_path, one):
    curves = {"mine": [0.9, 0.5, 0.1], "fft85": CURVES["fft85"]}
    with Run.open(invented.run(tmp_path / "run", curves, LEVELS)) as run:
        analysis = Analysis(run, "gaussian")
        assert set(analysis.paired.baseline) == {"mine"}
        assert analysis.summary.better.notna().tolist() == [False, True]
        assert analysis.across_models.empty
    named = RunAnalysis(one.run, baseline="fft85").kinds["gaussian"]
    assert set(named.paired.baseline) == {"fft85"}
    assert set(named.paired.model) == {"fp32", "fft50"}
    ours = one.paired[one.paired.model == "fft85"]
    theirs = named.paired[named.paired.model == "fp32"]
    assert theirs.difference.to_numpy() == pytest.approx(-ours.difference.to_numpy())
    assert theirs.p_holm.to_numpy() == pytest.approx(ours.p_holm.to_numpy())
    with pytest.raises(UserError, match=r"^baseline: got 'fp16'; legal: fp32, fft50, fft85"):
        RunAnalysis(one.run, baseline="fp16")


def test_one_model_has_nothing_to_be_tested_against(tmp_path):
    with Run.open(invented.run(tmp_path / "run", {"fp32": CURVES["fp32"]}, LEVELS)) as run:
        assert Analysis(run, "gaussian").paired.empty
        assert Analysis(run, "gaussian").summary.better.isna().all()


def test_three_models_get_cochrans_q(one):
    frame = one.across_models
    assert list(frame.level) == LEVELS
    assert frame.p_holm.max() < 0.05


def test_unfinished_runs_give_what_they_have(tmp_path):
    with Run.open(invented.run(tmp_path / "a", CURVES, LEVELS, cells=5)) as run:
        assert len(Analysis(run, "gaussian").table) == 5
        summary = Analysis(run, "gaussian").summary.set_index("model")
        assert summary["mean"].notna().to_dict() == {"fp32": True, "fft50": False, "fft85": False}
        assert summary.clean.notna().to_dict() == {"fp32": True, "fft50": True, "fft85": False}
        assert len(Analysis(run, "gaussian").paired) == 2
    with Run.open(invented.run(tmp_path / "b", CURVES, LEVELS, draws=3, cells=14)) as run:
        assert Analysis(run, "gaussian").draws == 1
        assert set(Analysis(run, "gaussian").table.draws) == {1}
        assert Analysis(run, "gaussian").summary["mean"].notna().all()
    with Run.open(invented.run(tmp_path / "c", CURVES, LEVELS, cells=0)) as run:
        assert Analysis(run, "gaussian").table.empty
        assert Analysis(run, "gaussian").summary["mean"].isna().all()
        assert Analysis(run, "gaussian").paired.empty
