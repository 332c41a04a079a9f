"""Export the results of runs for the documents: `python scripts/export_run.py NAME RUN... [--tests]`.

`docs/results/NAME.csv` gets the rows of each run's results.csv without the columns that documents do not use.
With `--tests` two more files are computed from the outcomes of the images:

- `NAME-summary.csv`: clean accuracy, area under the curve and the level at 50 %, with 95 % intervals;
- `NAME-paired.csv`: McNemar's exact test of every model with a band limit against every model without one,
  level by level. `p_holm` is adjusted by Holm's method over all tests of the file.

`python scripts/write_docs.py` makes tables and pictures from these files.
"""

import argparse
from pathlib import Path

import pandas as pd

from blrobust.analysis import statistics
from blrobust.analysis.analysis import Analysis
from blrobust.analysis.run_analysis import RunAnalysis
from blrobust.runs.run import Run

RESULTS = Path(__file__).parents[1] / "docs" / "results"
COLUMNS = [
    *("model", "dataset", "kind", "space", "level", "draws", "n", "accuracy", "ci_low", "ci_high"),
    *("nominal_compression", "effective_compression"),
]
DIGITS = 6


def export(name: str, folders: list[Path], *, with_tests: bool) -> None:
    """Write the files for documents whose names begin with `name`, from the runs in `folders`."""
    tables, summaries, tests = [], [], []
    for folder in folders:
        with Run.open(folder) as run:
            results = RunAnalysis(run)
            tables.append(results.table[COLUMNS])
            if with_tests:
                summaries.append(results.summary.drop(columns=["better", "worse"]))
                tests += [paired(analysis) for analysis in results.kinds.values()]
    _write(RESULTS / f"{name}.csv", pd.concat(tables))
    if with_tests:
        _write(RESULTS / f"{name}-summary.csv", pd.concat(summaries))
        frame = pd.concat(tests, ignore_index=True)
        frame["p_holm"] = statistics.holm(frame.p.to_numpy())
        # p-values keep three digits, however small.
        for column in ("p", "p_holm"):
            frame[column] = [f"{p:.3g}" for p in frame[column]]
        _write(RESULTS / f"{name}-paired.csv", frame)


def paired(analysis: Analysis) -> pd.DataFrame:
    """Return a row for each model with a band limit, model without one (`against`), and level.

    `difference` is the accuracy of the first model minus that of the second, and `p` is from McNemar's exact
    test, or for models of several training seeds from Welch's test. Raises `ValueError` for several draws,
    for which McNemar's test does not hold.
    """
    if analysis.draws != 1:
        raise ValueError(f"got a run of {analysis.draws} draws; legal: 1")
    cards = analysis.cards
    limited = [model for model in analysis.models if cards[model].nominal_compression > 0]
    others = [model for model in analysis.models if model not in limited]
    tests = [
        analysis.compare(model, other).assign(kind=analysis.kind, model=model, against=other)
        for model in limited
        for other in others
    ]
    return pd.concat(tests, ignore_index=True)[["kind", "model", "against", "level", "difference", "p"]]


def _write(path: Path, frame: pd.DataFrame) -> None:
    frame.round(DIGITS).to_csv(path, index=False, lineterminator="\n")


def main() -> None:
    """Parse the command line and export."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("name", help="of the files in docs/results, without their ending")
    parser.add_argument("runs", nargs="+", type=Path, help="run folders")
    parser.add_argument("--tests", action="store_true", help="write the summary and the paired tests too")
    arguments = parser.parse_args()
    export(arguments.name, arguments.runs, with_tests=arguments.tests)


if __name__ == "__main__":
    main()
