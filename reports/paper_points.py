"""The published points (Dziedzic et al., ICML 2019) beside those of a run, one by one."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from blrobust.analysis import statistics, trained_and_tested
from blrobust.analysis.analysis import Analysis
from blrobust.analysis.statistics import SAME, Estimate
from blrobust.analysis.trained import frame
from blrobust.analysis.trained_and_tested import Topic
from blrobust.reports import paper_curves
from blrobust.reports.paper_curves import Series

COLUMNS = (
    *("model", "level", "published", "images", "measured", "at"),
    *("ours", "ours_low", "ours_high", "difference", "low", "high"),
)
SAME_LEVEL = 1e-3  # levels that differ by less, relatively, are one: published ones are rounded
NEAR = 0.03  # effective compressions that differ by at most this are compared


def level_points(analysis: Analysis) -> pd.DataFrame:
    """Return a row for each published point of this noise or attack; empty if nothing was published for it.

    - `model` and `level`: those of the point. NaN as the level is the mean over all levels of the model that
      were published and measured (`statistics.area`), if there are two or more.
    - `published`, and `images`: the accuracy, and the number of images on which it was measured.
    - `measured` and `at`: the model of the run, and its level.
    - `ours`, `ours_low`, `ours_high`: its accuracy with the 95 % interval; NaN if the level was not measured.
    - `difference`, `low`, `high`: `ours` minus `published` (`statistics.difference_of_samples`), with the
      Wilson interval of the published accuracy. The interval covers the images of both and the seeds of
      ours, but not the only seed of the published model, and is too wide where the images are the same.
    """
    run = analysis.run
    series = paper_curves.series(
        kind=analysis.kind,
        space=run.sweep.space,
        datasets=[run.record.dataset.name],
        n=run.record.dataset.n,
        models=analysis.models,
        last=np.inf,
    )
    rows = []
    for curve in series:
        cells = analysis.outcomes[curve.model]
        shared: dict[float, Estimate] = {}  # published accuracies by measured level
        for level, published in _points(curve):
            at = next((x for x in cells if np.isclose(x, level, rtol=SAME_LEVEL, atol=SAME)), np.nan)
            ours = cells[at].accuracy if at in cells else None
            rows.append(_row(curve, level, published, model=curve.model, at=at, ours=ours))
            if ours is not None:
                shared[at] = published
        if len(shared) > 1 and curve.model in analysis.complete:
            rows.append(_mean_row(analysis, curve, shared))
    return frame(rows, COLUMNS)


def band_limit_points(analysis: Analysis, topic: Topic) -> pd.DataFrame:
    """Return a row for each published clean accuracy by band limit, with the columns of `level_points`.

    `topic` is "rates" for models at the band limit of their training, and "mismatch" for those at others
    (`trained_and_tested`). Levels are effective compressions in the test, as fractions. The model of the run
    is the one of the same training whose effective compression is nearest, at most `NEAR` away.
    """
    if not topic:
        return frame([], COLUMNS)
    compute = trained_and_tested.mismatch if topic == "mismatch" else trained_and_tested.rates
    measured = compute(analysis)
    series = paper_curves.band_limits(
        topic, datasets=[analysis.run.record.dataset.name], models=dict.fromkeys(measured.trained)
    )
    rows = []
    for curve in series:
        cells = measured[measured.trained == curve.model].to_dict("records")
        for level, published in _points(curve):
            share = level / 100
            nearest = min(cells, key=lambda cell: abs(cell["compression"] - share))
            if abs(nearest["compression"] - share) > NEAR:
                rows.append(_row(curve, share, published))
                continue
            ours = Estimate(nearest["accuracy"], nearest["ci_low"], nearest["ci_high"])
            at = nearest["compression"]
            rows.append(_row(curve, share, published, model=nearest["model"], at=at, ours=ours))
    return frame(rows, COLUMNS)


def _points(curve: Series) -> Iterable[tuple[float, Estimate]]:
    """Yield the levels of a published curve and its accuracies with their Wilson intervals."""
    for level, accuracy in zip(curve.levels, curve.accuracy, strict=True):
        if not np.isnan(accuracy):
            yield level, statistics.wilson(accuracy, curve.images)


def _row(
    curve: Series,
    level: float,
    published: Estimate,
    *,
    model: str | None = None,
    at: float = np.nan,
    ours: Estimate | None = None,
) -> dict[str, Any]:
    nothing = Estimate(np.nan, np.nan, np.nan)
    difference = nothing if ours is None else statistics.difference_of_samples(ours, published)
    values = (curve.model, level, published.value, curve.images, model, at, *(ours or nothing), *difference)
    return dict(zip(COLUMNS, values, strict=True))


def _mean_row(analysis: Analysis, curve: Series, shared: dict[float, Estimate]) -> dict[str, Any]:
    """Return the row of the mean over the levels `shared`.

    The published interval is the mean of the intervals of its levels. That is as wide as if all levels erred
    alike, because their common images are not known.
    """
    levels = np.array(list(shared))
    ends = np.array([list(estimate) for estimate in shared.values()])  # (levels, 3)
    published = Estimate(*(float(statistics.area(levels, end)) for end in ends.T))
    rows = analysis.summary_over(list(shared)).to_dict("records")
    ours = next(
        Estimate(row["mean"], row["mean_low"], row["mean_high"])
        for row in rows
        if row["model"] == curve.model
    )
    return _row(curve, np.nan, published, model=curve.model, ours=ours)
