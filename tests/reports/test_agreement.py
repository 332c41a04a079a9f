"""Headline, table, mark and terminal agree with the paired test, on runs invented at random."""

import re
from functools import cache, partial

import numpy as np
import pytest
from scipy import stats
from support import invented

from blrobust.analysis.analysis import Analysis
from blrobust.cli.results import print_conclusions, print_summary
from blrobust.reports import axes, tables
from blrobust.reports.conclusions import conclusions
from blrobust.runs.run import Run

AXIS = axes.axis("gaussian", "normalized", [0.2, 0.2, 0.2])
NAMES = ("fp32", "fft50", "fft85", "mine")


def invent(path, seed):
    generator = np.random.default_rng(seed)
    levels = [float(level) for level in range(generator.integers(1, 8))]
    models = [NAMES[i] for i in generator.permutation(4)[: generator.integers(2, 5)]]
    base = np.sort(generator.uniform(0, 1, len(levels)))[::-1]
    spread = generator.choice([0.0, 0.05, 0.3])
    curves = {m: list(np.clip(base + spread * generator.normal(size=len(levels)), 0, 1)) for m in models}
    n, draws = int(generator.choice([12, 60, 400])), int(generator.choice([1, 1, 3]))
    path = invented.run(path, curves, levels, n=n, draws=draws)
    return path, models[generator.integers(len(models))]


@cache
def flips(n):
    """Signs (20,000, n), drawn at random; float64, since numpy multiplies matrices of integers slowly."""
    return np.random.default_rng(0).choice([-1.0, 1.0], (20_000, n))


def holm(p_values):
    """Holm's adjusted p values; statsmodels' function collects garbage in every call, which takes 0.2 s."""
    order = p_values.argsort()
    adjusted = np.maximum.accumulate(p_values[order] * np.arange(len(order), 0, -1)).clip(max=1)
    return adjusted[order.argsort()]


def by_hand(run, model, baseline):
    """Verdicts by level, from tests that are not ours: scipy's binomial, and random flips of signs."""
    differences, p_values = [], []
    for level in run.levels("gaussian"):
        ours, theirs = (run.correct(m, "gaussian", level).astype(int) for m in (model, baseline))
        pairs = ours.sum(0) - theirs.sum(0)
        if run.draws == 1:
            better, worse = int((pairs > 0).sum()), int((pairs < 0).sum())
            p = stats.binomtest(better, better + worse).pvalue if better + worse else 1.0
        else:
            p = float((np.abs(flips(len(pairs)) @ pairs) >= abs(pairs.sum())).mean())
        differences.append(pairs.sum())
        p_values.append(p)
    adjusted = np.concatenate([p_values[:1], holm(np.array(p_values[1:]))])  # level 0 is a family of its own
    clear = run.draws == 1 or (np.abs(adjusted - 0.05) > 0.015).all()  # beyond the error of random flips
    return np.where(adjusted < 0.05, np.sign(differences), 0).astype(int), clear


def counted(sentence, model, total):
    """The number of levels that a sentence gives for a model; 0 where it does not name the model."""
    levels = r"(?:(\d+) of \d+ levels|(all \d+ levels|the only level))"
    found = re.search(rf"(?:: |; ){model} at {levels}", sentence)
    if found is None:
        return 0
    return total if found[2] else int(found[1])


@pytest.mark.parametrize("seed", range(30))
def test_headline_mark_table_and_terminal_are_the_test(seed, tmp_path, capsys):
    path, baseline = invent(tmp_path / "run", seed)
    with Run.open(path) as run:
        analysis = Analysis(run, "gaussian", baseline=baseline)
        text = conclusions(analysis, AXIS)
        summary, marks = tables.summary({"run": analysis}, AXIS), tables.tests(analysis, AXIS, baseline)
        print_summary(analysis)
        print_conclusions(analysis)
        told = capsys.readouterr().out
        frame, best, total = analysis.paired, analysis.best, len(analysis.levels)
        test = cache(partial(by_hand, run))
        hands = {m: test(m, baseline) for m in run.models if m != baseline}
        rivals = {
            level: [test(best[level], m)[0][row] for m in run.models if m != best[level]]
            for row, level in enumerate(analysis.levels)
            if best[level] is not None
        }
    assert all((wins == np.ones(len(wins))).all() for wins in map(np.array, rivals.values()))
    gains = next(s for s in text if f"better than {baseline} at any" in s or s.startswith("Better than"))
    losses = next(s for s in text if f"worse than {baseline} at any" in s or s.startswith("Worse than"))
    cells = dict(summary.rows)
    columns = marks.header[1:]
    for model, (verdicts, clear) in hands.items():
        if not clear:
            continue
        better, worse = int((verdicts > 0).sum()), int((verdicts < 0).sum())
        assert counted(gains, model, total) == better
        assert counted(losses, model, total) == worse
        plural = "" if total == 1 else "s"
        below = {0: "no level", 1: "1 level"}.get(worse, f"{worse} levels")
        words = f"better at {better} of {total} level{plural},", f"worse at {below}"
        assert cells[model][-1].text == " ".join(words)
        assert all(part in told for part in words)
        column = columns.index(f"{model} minus {baseline}")
        signs = [row[column].sign for _, row in marks.rows]
        assert signs == [{1: "better", -1: "worse", 0: ""}[v] for v in verdicts]
        found = frame[frame.model == model]
        decided = found[found.p_holm < 0.05]
        assert ((decided.low > 0) | (decided.high < 0)).all(), "the interval of a find is without zero"
    for sentence in text:
        plain = sentence.replace("\xa0", " ").replace("−", "-")
        assert plain in told
    named = text[0].partition(" At ")[0]
    for model in analysis.run.models:
        assert counted(named, model, total) == sum(m == model for m in best.values())
