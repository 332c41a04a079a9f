"""Sentences about models that are the mean of several training seeds."""

from collections.abc import Iterable

from blrobust.analysis.groups import Group, seed_counts
from blrobust.analysis.level_outcome import FEW_SEEDS
from blrobust.reports.number_text import NBSP

PERCENT = 100


def seed_notes(groups: Iterable[Group]) -> list[str]:
    """Return the sentence that names the models of several seeds and their numbers of seeds, if any."""
    counts = seed_counts(groups)
    if not counts:
        return []
    parts = [f"{', '.join(names)} ({count} seeds)" for count, names in counts.items()]
    few = f", and rough: fewer than {FEW_SEEDS} seeds" if min(counts) < FEW_SEEDS else ""
    return [f"Means over training seeds: {'; '.join(parts)}. Intervals are over seeds and images{few}."]


def seed_range(groups: Iterable[Group]) -> str:
    """Return the probability that the range of the seeds contains the median over all trainings, in words.

    Of S independent seeds, all lie on one side of the median with the probability 2^(1 - S).
    """
    parts = [
        f"{PERCENT * (1 - 2 ** (1 - count)):.3g}{NBSP}% for {count} seeds" for count in seed_counts(groups)
    ]
    return " and ".join(parts)
