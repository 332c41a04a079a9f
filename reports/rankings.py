"""The part of a report about models ranked over data sets or training seeds."""

from collections.abc import Mapping
from dataclasses import dataclass

from markupsafe import Markup

from blrobust.analysis.analysis import Analysis
from blrobust.analysis.ranking import DATA_SETS, SEEDS, Ranking, by_data_set, by_seed, ranking
from blrobust.analysis.run_analysis import RunAnalysis
from blrobust.analysis.statistics import SIGNIFICANCE
from blrobust.reports.critical_difference import NARROW, WIDE, diagram
from blrobust.reports.number_text import p_value, percent
from blrobust.reports.sentence_parts import listed
from blrobust.reports.tables import Cell, Table


@dataclass(frozen=True)
class RankEntry:
    """The ranking of the models under one kind of noise or attack: sentences, diagram and table."""

    name: str
    sentences: list[str]
    wide: Markup
    narrow: Markup
    table: Table


def rankings(runs: Mapping[str, RunAnalysis], models: list[str]) -> list[RankEntry]:
    """Return the rankings that the runs allow: over data sets, and over the training seeds of each run.

    `models` are all models of the page, in the order of their colours.
    """
    groups: dict[tuple[str, str], dict[str, Analysis]] = {}
    for name, results in runs.items():
        for kind, analysis in results.kinds.items():
            groups.setdefault((kind, results.run.sweep.space), {})[name] = analysis
    numbers = {model: number for number, model in enumerate(models)}
    entries = []
    for (kind, space), analyses in groups.items():
        if len(analyses) > 1 and (found := ranking(by_data_set(analyses))):
            entries.append(_entry(f"{kind}, {space} space", found, DATA_SETS, numbers))
        for name, analysis in analyses.items():
            if found := ranking(by_seed(analysis)):
                title = f"{kind}, {space} space"
                entries.append(_entry(title if len(runs) == 1 else f"{title}, {name}", found, SEEDS, numbers))
    return entries


def _entry(name: str, found: Ranking, blocks: str, numbers: dict[str, int]) -> RankEntry:
    models = list(found.ranks.index)
    table = Table(["model", "mean rank", "mean accuracy", *(f"against {model}" for model in models)])
    for model in models:
        pairs = [p_value(found.pairs.loc[model, other]) if other != model else "" for other in models]
        means = [Cell(f"{found.ranks[model]:.2f}"), Cell(percent(found.scores[model].mean()))]
        table.rows.append((str(model), [*means, *map(Cell, pairs)]))
    wide, narrow = (diagram(found, numbers=numbers, width=width) for width in (WIDE, NARROW))
    return RankEntry(name, _sentences(found, blocks), wide, narrow, table)


def _sentences(found: Ranking, blocks: str) -> list[str]:
    count, names = len(found.scores), [str(block) for block in found.scores.index]
    test = (
        f"Friedman's test over {count} {blocks} ({', '.join(names)}): chi-square {found.statistic:.2f}, "
        f"{p_value(found.p)}"
    )
    if found.p >= SIGNIFICANCE:
        return [f"{test}. No difference between the models is found."]
    best = found.ranks.index[0]
    worse = [str(model) for model in found.ranks.index if found.pairs.loc[best, model] < SIGNIFICANCE]
    end = f"{best} ranks above {listed(worse, ', ')}" if worse else "no pair of models differs"
    return [f"{test}: not all models are alike. By Nemenyi's test {end}."]
