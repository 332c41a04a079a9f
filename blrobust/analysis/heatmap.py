"""The numbers of a Fourier heat map: a row for each frequency, and means over rings of frequencies."""

from functools import cached_property
from typing import NamedTuple

import pandas as pd

from blrobust.analysis.flags import model_flags
from blrobust.analysis.statistics import wilson
from blrobust.runs.configuration import Heatmap
from blrobust.runs.frequencies import CLEAN, axis_frequencies, canonical, wave_kind
from blrobust.runs.run import Run

TABLE = (
    *("model", "dataset", "row", "column", "norm", "n", "errors", "error"),
    *("ci_low", "ci_high", "clean_error", "not_finite"),
)  # results.csv of a heat map


class Worst(NamedTuple):
    """The frequency at which a model has the most errors, and the number of waves with as many errors."""

    row: int
    column: int
    waves: int


class HeatmapAnalysis:
    """The results of a heat map, read from the run folder and computed once.

    In an unfinished run, models that lack a frequency are left out.
    """

    def __init__(self, run: Run, config: Heatmap) -> None:
        """Prepare to read the results of `run`, which has the configuration `config`."""
        self.run = run
        self.config = config

    @cached_property
    def models(self) -> list[str]:
        """The models for which all frequencies have been measured."""
        done = [model for model, *_ in self.run.done()]
        return [model for model in self.run.models if done.count(model) == len(self.run.kinds)]

    @cached_property
    def table(self) -> pd.DataFrame:
        """One row per model and frequency of the map.

        The frequencies (k, l) and (-k, -l) are the same wave, which is measured once; each has a row. The
        columns are those of `TABLE`: row and column are signed frequencies, ci_low and ci_high are the ends
        of Wilson's 95 % interval of the error, and not_finite is the number of errors with logits that are
        not finite.
        """
        _, height, width = self.config.shape
        axis, n = axis_frequencies(self.config.size), self.run.record.dataset.n
        rows = []
        for model in self.models:
            counts = self._counts[model]
            clean, _ = counts[CLEAN]
            intervals = {wrong: wilson(wrong / n, n) for wrong, _ in counts.values()}
            for k in axis:
                for l_ in axis:
                    wrong, not_finite = counts[wave_kind(canonical(k, l_, height=height, width=width))]
                    shares = (*intervals[wrong], clean / n)
                    cell = (k, l_, self.config.norm, n, wrong, *shares, not_finite)
                    rows.append((model, self.run.record.dataset.name, *cell))
        return pd.DataFrame(rows, columns=list(TABLE))

    @cached_property
    def worst(self) -> dict[str, Worst]:
        """The frequency with the most errors, by model."""
        found = {}
        for label, rows in self.table.groupby("model", sort=False):
            first = max(rows.to_dict("records"), key=lambda row: row["errors"])
            waves = [wrong for kind, (wrong, _) in self._counts[str(label)].items() if kind != CLEAN]
            found[str(label)] = Worst(first["row"], first["column"], waves.count(first["errors"]))
        return found

    @cached_property
    def flags(self) -> dict[str, list[str]]:
        """Flags of each model; one of them is the number of predictions without finite logits, if above 0."""
        return {
            model: model_flags(
                self.run.record, model, not_finite=sum(count for _, count in self._counts[model].values())
            )
            for model in self.models
        }

    @cached_property
    def _counts(self) -> dict[str, dict[str, tuple[int, int]]]:
        """Numbers of misclassified images and of those without finite logits, by model and kind of cell."""
        return {model: {kind: self._count(model, kind) for kind in self.run.kinds} for model in self.models}

    def _count(self, model: str, kind: str) -> tuple[int, int]:
        (level,) = self.run.levels(kind)
        (correct,) = self.run.correct(model, kind, level)
        return int((~correct).sum()), int(self.run.not_finite(model, kind, level).sum())

    def write_csv(self) -> None:
        """Write results.csv in the run folder, completely or not at all."""
        self.run.write_results(self.table)


RINGS = ("low", "middle", "high")


def ring_bounds(frame: pd.DataFrame) -> dict[str, str]:
    """Return the first and the last frequency of each ring (see the function `rings`), such as "1 to 5".

    Maps of different sizes have different bounds. Rings without a frequency are left out.
    """
    highest = 0 if frame.empty else int(_radius(frame).max())
    rings = {name: [r for r in range(1, highest + 1) if _ring(r, highest) == name] for name in RINGS}
    return {
        name: str(found[0]) if len(found) == 1 else f"{found[0]} to {found[-1]}"
        for name, found in rings.items()
        if found
    }


def rings(frame: pd.DataFrame) -> pd.DataFrame:
    """Return each model's clean, worst and mean error, and its mean errors over three rings of frequencies.

    The rings "low", "middle" and "high" are three bands of max(|row|, |column|) of equal width; a
    band-limited layer drops frequencies by this maximum too. The frequency (0, 0) is in no ring and not in
    the mean error, but may be the worst. `frame` is a table such as `HeatmapAnalysis.table`.
    """
    radius = _radius(frame)
    waves = frame.assign(ring=[_ring(r, radius.max()) for r in radius.tolist()])[radius > 0]
    means = waves.pivot_table(index="model", columns="ring", values="error", sort=False)
    facts = frame.groupby("model", sort=False).agg(clean=("clean_error", "first"), worst=("error", "max"))
    mean = waves.groupby("model", sort=False)["error"].mean().rename("mean")
    return facts.join(mean).join(means.reindex(columns=list(RINGS)))


def _radius(frame: pd.DataFrame) -> pd.Series:
    return frame[["row", "column"]].abs().max(axis=1)


def _ring(radius: int, highest: int) -> str:
    """Return the name of the ring that contains `radius`, from 1 to `highest`: one of three equal parts."""
    return RINGS[int(3 * radius > highest) + int(3 * radius > 2 * highest)]
