"""The differences between two runs whose models are compared image by image, as notes."""

from collections.abc import Mapping

from blrobust.analysis.analysis import Analysis
from blrobust.reports.axes import Axis
from blrobust.reports.mixture import different_settings, shared_levels


def pair_notes(runs: Mapping[str, Analysis], axis: Axis) -> list[str]:
    """Return notes about settings, draws and levels in which two runs differ; empty without differences.

    `runs` are the results of one kind of noise or attack by the name of the run.
    """
    return [*_settings(runs), *_draws(runs), *_levels(runs, axis)]


def _settings(runs: Mapping[str, Analysis]) -> list[str]:
    parts = different_settings(runs)
    if not parts:
        return []
    names = " and ".join(runs)
    return [f"{names} have different settings: {'; '.join(parts)}. Differences may come from these."]


def _draws(runs: Mapping[str, Analysis]) -> list[str]:
    draws = {name: analysis.draws for name, analysis in runs.items()}
    fewest = min(draws.values())
    used = "the first draw" if fewest == 1 else f"the first {fewest} draws"
    return [
        f"Only {used} of {name} {'is' if fewest == 1 else 'are'} compared; it has {count}."
        for name, count in draws.items()
        if count > fewest
    ]


def _levels(runs: Mapping[str, Analysis], axis: Axis) -> list[str]:
    shared = shared_levels(runs)
    alone = {name: [x for x in analysis.levels if x not in shared] for name, analysis in runs.items()}
    parts = [
        f"{axis.phrase.format(', '.join(map(axis.format, levels)))} ({name})"
        for name, levels in alone.items()
        if levels
    ]
    adjusted = "The p-values are adjusted over the shared levels only."
    return [f"Not compared, as only one run has it: {'; '.join(parts)}. {adjusted}"] if parts else []
