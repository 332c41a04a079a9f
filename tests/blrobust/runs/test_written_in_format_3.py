"""Runs of format 3, whose cells have no probabilities and margins, still open, compare and resume."""

import json
import shlex
import shutil
import sqlite3
from pathlib import Path

import pandas as pd
import pytest

from blrobust import __version__
from blrobust.analysis.per_image import per_image
from blrobust.analysis.run_analysis import RunAnalysis
from blrobust.cli import main
from blrobust.runs.record import Record
from blrobust.runs.run import Run

WRITTEN = Path(__file__).parent / "written_in_format_3"
NEW = ["probability_label", "probability_prediction", "margin"]
resumes = pytest.mark.skipif(__version__ != "0.1.0", reason="a run is resumed by the version that began it")
kinds = pytest.mark.parametrize("name", ["noise", "attack"])


@pytest.fixture
def written(tmp_path):
    """A copy of the folders: a run of noise, and one of attacks."""
    return shutil.copytree(WRITTEN, tmp_path / "written")


def call(*arguments):
    with pytest.raises(SystemExit) as exit_:
        main([str(argument) for argument in arguments])
    return exit_.value.code


def again(folder):
    """The arguments that wrote a folder, with its present place for `--out`."""
    program, *arguments, out, _ = shlex.split(json.loads((folder / "run.json").read_text())["command_line"])
    assert (program, out) == ("blrobust", "--out")
    return [*arguments, "--out", folder]


def interrupt(folder):
    """Make a run unfinished, without the cells of its second model."""
    record = Record.read(folder)
    record.finished = None
    record.write(folder)
    with sqlite3.connect(folder / "run.sqlite") as database:
        removed = database.execute("DELETE FROM cells WHERE model = 'fft85'").rowcount
        database.execute("UPDATE run SET cells = cells - ?", (removed,))
    database.close()


@kinds
def test_a_run_is_read_without_probabilities(written, name):
    with Run.open(written / name) as run:
        assert run.record.format == 3
        table, images = RunAnalysis(run).table, per_image(run)
    pd.testing.assert_frame_equal(table, pd.read_csv(written / name / "results.csv"))
    assert images[NEW].isna().all(axis=None)
    assert images.prediction.notna().all()


@kinds
def test_a_run_is_compared_with_a_new_one(written, name):
    old = written / name
    assert call(*again(old)[:-1], written / "new") == 0
    before, after = (pd.read_csv(folder / "results.csv", dtype=str) for folder in (old, written / "new"))
    pd.testing.assert_frame_equal(after.drop(columns="seconds"), before.drop(columns="seconds"))
    with Run.open(written / "new") as run:
        assert run.record.format == 4
        assert per_image(run)[NEW].notna().all(axis=None)
    assert call("report", old, written / "new", "--output", written / "report.html") == 0


@resumes
@kinds
def test_an_unfinished_run_is_resumed_with_probabilities_in_the_new_cells(written, name):
    interrupt(written / name)
    assert call(*again(written / name)) == 0
    with Run.open(written / name) as run:
        assert (run.record.format, run.finished) == (3, True)
        images = per_image(run)
    assert images[images.model == "fp32"][NEW].isna().all(axis=None)
    assert images[images.model == "fft85"][NEW].notna().all(axis=None)
    before, after = (pd.read_csv(folder / name / "results.csv") for folder in (WRITTEN, written))
    pd.testing.assert_frame_equal(after.drop(columns="seconds"), before.drop(columns="seconds"))
