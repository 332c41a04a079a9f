"""The results of stored runs for Python: tables, reports, and what a notebook shows."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path

import pandas as pd

from blrobust.analysis.analysis import PAIRED, SPREAD, SUMMARY, concatenate
from blrobust.analysis.attack_results import WORST_CASE, worst_case
from blrobust.analysis.per_image import CATEGORIES, COLUMNS, LEVEL_LABEL, level_label, per_image
from blrobust.analysis.run_analysis import RunAnalysis
from blrobust.analysis.run_pairs import pairs
from blrobust.analysis.trained import TABLE
from blrobust.analysis.view import View, run_names, view
from blrobust.errors import UserError
from blrobust.file_names import REPORT_SUFFIXES
from blrobust.runs.run import Run
from blrobust.user_paths import StrPath, output_file

LABELLED = (*TABLE[: TABLE.index("level") + 1], LEVEL_LABEL, *TABLE[TABLE.index("level") + 1 :])
RUN = "run"  # the column with the name of a run, where runs are compared


class Results:
    """The results of one or more runs, read from the run folders when they are needed.

    A notebook shows a table and a figure for each kind of noise or attack. `folders` are the run folders. No
    file is open between calls.
    """

    def __init__(self, folders: Sequence[Path], *, named: bool = False) -> None:
        """Prepare to read the runs in `folders`; with `named`, tables have a first column `run`."""
        self.folders = tuple(folders)
        self._named = named

    @property
    def folder(self) -> Path:
        """The first run folder, the only one unless noise and attacks were measured together."""
        return self.folders[0]

    @cached_property
    def table(self) -> pd.DataFrame:
        """A row per kind, model and level, with the columns of results.csv; shares are fractions in [0, 1].

        `level_label` is the level in words, such as "2/255", except in tables of heat maps and recoveries.
        """
        with self._views() as views:
            columns = LABELLED if _are_sweeps(views) else ()
            return self._joined({name: _labelled(found) for name, found in views.items()}, columns)

    def per_image(self) -> pd.DataFrame:
        """Return a row per kind, model, level, draw and image (`analysis.per_image.per_image`).

        Raises `UserError` for a heat map or a recovery.
        """
        with self._views() as views:
            whole = self._joined({name: per_image(found.run) for name, found in views.items()}, COLUMNS)
        return whole.astype(dict.fromkeys(CATEGORIES, "category"))

    def summary(self, baseline: str | None = None) -> pd.DataFrame:
        """Return a row per kind and model: clean and mean accuracy, level at 50 %, and a comparison.

        The baseline is a model, by default "fp32", else the first one. `better` and `worse` are the shares
        of the levels at which a paired test finds that the model is better and worse than the baseline.
        Models that differ only in the training seed are one model, whose numbers are means over the seeds;
        the table then also has the number of `seeds`, and `clean_spread`, `mean_spread` and
        `half_level_spread`, standard deviations over them. Raises `UserError` for an unknown baseline, and
        for a heat map or a recovery.
        """
        with self._sweeps(baseline) as sweeps:
            tables = {name: found.summary for name, found in sweeps.items()}
        has_seeds = any("seeds" in table for table in tables.values())
        return self._joined(tables, (*SUMMARY, *(SPREAD if has_seeds else ())))

    def worst_case(self) -> pd.DataFrame:
        """Return the worst-case accuracy over the attacks, by norm, level and model.

        An image counts as correct if it is classified correctly under every attack of the norm, at every
        level up to that of the row. The column `attacks` is the number of these attacks. Raises `UserError`
        for a heat map or a recovery.
        """
        with self._sweeps(None) as sweeps:
            attacks = {n: found for n, found in sweeps.items() if found.run.config.command == "attack"}
            tables = {name: worst_case(found.kinds, least=1) for name, found in attacks.items()}
            return self._joined(tables, WORST_CASE)

    def paired(self) -> pd.DataFrame:
        """Return the paired tests between the models of the first run and those of each further run.

        There is a row for each kind, each model of the run `run`, each model of the first run (`baseline`)
        and each level (`analysis.run_pairs.pairs`). Raises `UserError` for runs on different images or in
        different input spaces.
        """
        with self._sweeps(None) as sweeps:
            first, *others = sweeps.values()
            names = list(sweeps)[1:]
            tests = [pairs(first, other).assign(run=name) for name, other in zip(names, others, strict=True)]
        return concatenate(tests, [RUN, *PAIRED])

    def report(self, path: StrPath, baseline: str | None = None) -> Path:
        """Write the report, one self-contained HTML file, and return its path.

        `baseline` is that of `summary`. Raises `UserError` for an unknown baseline and for a file name that
        does not end in .html or .htm, and `OSError` if the file cannot be written.
        """
        from blrobust.reports import document  # seaborn takes a second to import

        destination = output_file(path, "path", REPORT_SUFFIXES)
        with self._views(baseline) as views:
            document.render(list(views.values()), destination)
        return destination

    def __repr__(self) -> str:
        lines = []
        with self._views() as views:
            for name, found in views.items():
                if isinstance(found, RunAnalysis):
                    from blrobust.reports.notebook import accuracies

                    for kind, analysis in found.kinds.items():
                        lines += [f"{name}: {kind}, accuracy", accuracies(analysis).round(4).to_string()]
                else:
                    lines += [name, found.table.to_string(max_rows=20)]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        with self._views() as views:
            sweeps = {name: found for name, found in views.items() if isinstance(found, RunAnalysis)}
            if len(sweeps) < len(views):
                return str(self.table.to_html(max_rows=20))
            from blrobust.reports.notebook import fragment

            return fragment(sweeps)

    @contextmanager
    def _views(self, baseline: str | None = None) -> Iterator[dict[str, View]]:
        """Return a context with the results of the open runs, by the names of their folders."""
        with ExitStack() as stack:
            found = [view(stack.enter_context(Run.open(path)), baseline=baseline) for path in self.folders]
            yield dict(zip(run_names(self.folders), found, strict=True))

    @contextmanager
    def _sweeps(self, baseline: str | None) -> Iterator[dict[str, RunAnalysis]]:
        """Return the context of `_views` for runs of noise and attacks; raise `UserError` for others."""
        with self._views(baseline) as views:
            for found in views.values():
                _ = found.run.sweep  # raises for other runs
            yield {name: found for name, found in views.items() if isinstance(found, RunAnalysis)}

    def _joined(self, tables: Mapping[str, pd.DataFrame], columns: Sequence[str]) -> pd.DataFrame:
        """Return the rows of all tables in one table; a single table keeps the types of its columns."""
        filled = {name: table for name, table in tables.items() if len(table)}
        if self._named:
            named = [table.assign(**{RUN: name}) for name, table in filled.items()]
            return concatenate(named, [RUN, *columns])
        return concatenate(filled.values(), columns) if len(filled) != 1 else next(iter(filled.values()))


def joined(runs: Sequence[Results]) -> Results:
    """Return the results of several runs of noise and attacks; their tables have a column `run`.

    Raises `UserError` for a folder that is given twice, and for a heat map or a recovery.
    """
    folders = [folder for run in runs for folder in run.folders]
    for folder in folders:
        if sum(folder.resolve() == other.resolve() for other in folders) > 1:
            raise UserError(f"runs: got {folder} more than once; legal: different runs")
    found = Results(folders, named=True)
    with found._sweeps(None):
        return found


def _labelled(found: View) -> pd.DataFrame:
    """Return the table of a run; that of noise or attacks has the column `level_label`."""
    if not isinstance(found, RunAnalysis):
        return found.table
    cells = found.table[["kind", "level"]].itertuples(index=False)
    labels = [level_label(found.run, kind, level) for kind, level in cells]
    return found.table.assign(**{LEVEL_LABEL: labels})[list(LABELLED)]


def _are_sweeps(views: Mapping[str, View]) -> bool:
    return all(isinstance(found, RunAnalysis) for found in views.values())
