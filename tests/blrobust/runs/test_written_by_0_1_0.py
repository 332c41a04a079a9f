"""Runs and checkpoints that blrobust 0.1.0 wrote still open, render and resume."""

import gzip
import json
import shlex
import shutil
import sqlite3
from pathlib import Path

import pandas as pd
import pytest
import torch
from support.messages import error

from blrobust import __version__
from blrobust.analysis.run_analysis import RunAnalysis
from blrobust.cli import main
from blrobust.models import checkpoint
from blrobust.runs.record import ANCIENT, Record
from blrobust.runs.run import Run

WRITTEN = Path(__file__).parent / "written_by_0.1.0"
resumes = pytest.mark.skipif(__version__ != "0.1.0", reason="a run is resumed by the version that began it")


@pytest.fixture
def written(tmp_path):
    """A copy of the folders: a run of noise, one of attacks, a heat map, a recovery of labels."""
    return shutil.copytree(WRITTEN, tmp_path / "written")


def call(*arguments):
    with pytest.raises(SystemExit) as exit_:
        main([str(argument) for argument in arguments])
    return exit_.value.code


def command_of(file):
    """The arguments that wrote a folder, with its present place for `--out`."""
    program, *arguments, out, _ = shlex.split(json.loads(file.read_text())["command_line"])
    assert (program, out) == ("blrobust", "--out")
    return [*arguments, "--out", file.parent]


def read_table(file):
    """A table, with the columns that 0.1.0 does not write."""
    frame = pd.read_csv(file)
    new = ["not_finite", *(["rejected", "source_rejected"] if "fooled" in frame else [])]
    return frame.assign(**{column: 0 for column in new if column not in frame})


def bytes_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix != ".html"}


@pytest.mark.parametrize("name", ["noise", "attack"])
def test_a_run_is_read_and_rendered(written, name, capsys):
    with Run.open(written / name) as run:
        table = RunAnalysis(run).table
    pd.testing.assert_frame_equal(table, read_table(written / name / "results.csv"))
    before = bytes_of(written / name)
    assert call("report", written / name) == 0
    assert call("runs", written) == 0
    (line,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith(f"{name} "))
    assert "12/12" in line
    assert bytes_of(written / name) == before
    assert "One training seed" in (written / name / "report.html").read_text("utf-8")


@resumes
@pytest.mark.parametrize("name", ["noise", "attack"])
def test_the_command_of_a_finished_run_prints_it(written, name):
    before = bytes_of(written / name)
    assert call(*command_of(written / name / "run.json")) == 0
    assert bytes_of(written / name) == before


@resumes
@pytest.mark.parametrize("name", ["noise", "attack"])
def test_an_unfinished_run_is_resumed(written, name):
    record = Record.read(written / name)
    record.finished = None
    record.write(written / name)
    database = sqlite3.connect(written / name / "run.sqlite")
    with database:
        database.execute("DELETE FROM cells WHERE model = 'fft85'")
    database.close()
    assert call(*command_of(written / name / "run.json")) == 0
    before, after = (read_table(folder / name / "results.csv") for folder in (WRITTEN, written))
    kept = before.model == "fp32"
    pd.testing.assert_frame_equal(after[kept], before[kept])  # with their seconds: not measured again
    assert len(after) == len(before)


@pytest.mark.parametrize("name", ["heatmap", "recover"])
def test_a_measurement_is_refused_in_one_line(written, name, capsys):
    before = bytes_of(written / name)
    for arguments in (["report"], ["report", written / "noise"]):
        assert call(*arguments, written / name) == 2
        line = error(capsys.readouterr().err)
        assert f"{name}: got measurement.json of an earlier format" in line
        assert "run the command again with another folder" in line
    assert call("runs", written) == 0
    assert f"{name} " in capsys.readouterr().out
    assert bytes_of(written / name) == before


@resumes
@pytest.mark.parametrize("name", ["heatmap", "recover"])
def test_a_measurement_is_not_overwritten_and_measured_again_with_the_same_numbers(written, name, capsys):
    arguments = command_of(written / name / ANCIENT)
    assert call(*arguments) == 2
    assert "got measurement.json of an earlier format" in capsys.readouterr().err.splitlines()[-1]
    assert call(*arguments[:-1], written / "new") == 0
    before = read_table(next((written / name).glob("*.csv")))
    pd.testing.assert_frame_equal(read_table(written / "new" / "results.csv"), before, rtol=1e-4)


def test_a_checkpoint_is_loaded(tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    path.write_bytes(gzip.decompress((WRITTEN / "checkpoint.safetensors.gz").read_bytes()))
    model, facts = checkpoint.load_model(path)
    assert (facts.arch, facts.compression, facts.fft_size) == ("resnet20", 0.84, "paper")
    # All weights are 0 but the biases of the last layer, 0 to 9.
    logits = model(torch.rand(2, 3, 32, 32))
    assert torch.equal(logits, torch.arange(10.0).expand(2, 10))
