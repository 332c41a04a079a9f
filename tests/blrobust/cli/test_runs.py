import json
import sqlite3
from pathlib import Path

import numpy as np
import pytest
from support import invented, invented_frequencies

from blrobust.cli import main
from blrobust.errors import UserError
from blrobust.runs.record import digest
from blrobust.runs.run import Run
from blrobust.runs.stored_runs import find


def call(*arguments):
    with pytest.raises(SystemExit) as exit_:
        main(["runs", *arguments])
    return exit_.value.code


def make(path, *, finish, label="mine [red]"):
    kinds = {"gaussian": {"levels": [0.0, 1.0]}}
    data = {"name": "tiny", "checksum": "cd" * 32, "n": 3}
    config = invented.configuration([label], n=3, kinds=kinds, space="pixel", dataset=data)
    record = invented.record(config)
    prediction = {"prediction": np.zeros(3, np.int16)}
    with Run.create_or_resume(path, record, np.zeros(3, np.int16)) as run:
        for level in (0.0, 1.0) if finish else (0.0,):
            run.add((label, "gaussian", level, 0), prediction, forwards=3, backwards=0, seconds=1)
        if finish:
            run.finish(end="2020-01-02T03:04:05+00:00")


def lines(capsys):
    return capsys.readouterr().out.splitlines()


def test_runs_are_listed_with_their_state(tmp_path, capsys):
    make(tmp_path / "one", finish=True)
    make(tmp_path / "two", finish=False)
    (tmp_path / "something else").mkdir()
    assert call(str(tmp_path)) == 0
    shown = lines(capsys)
    (one,) = (line for line in shown if line.startswith("one "))
    (two,) = (line for line in shown if line.startswith("two "))
    for text in ("noise", "gaussian (pixel)", "mine [red]", "tiny", "2/2", "2020-01-02T03:04:05"):
        assert text in one
    assert "1/2" in two
    assert not any("else" in line for line in shown)


def test_broken_runs_do_not_hide_the_others(tmp_path, capsys):
    make(tmp_path / "good", finish=True)
    make(tmp_path / "text", finish=True)
    (tmp_path / "text" / "run.json").write_text("{")
    make(tmp_path / "lost", finish=True)
    (tmp_path / "lost" / "run.json").unlink()
    make(tmp_path / "cut", finish=True)
    (tmp_path / "cut" / "run.sqlite").write_bytes(b"x" * 5000)
    make(tmp_path / "half", finish=True)
    (tmp_path / "half" / "run.sqlite").unlink()
    make(tmp_path / "odd", finish=False)
    plain = json.loads((tmp_path / "odd" / "run.json").read_text())
    plain["models"] = [1]
    del plain["checksum"]
    (tmp_path / "odd" / "run.json").write_text(json.dumps({**plain, "checksum": digest(plain)}))
    assert call(str(tmp_path)) == 0
    shown = lines(capsys)
    for name in ("text", "lost", "cut", "half", "odd"):
        assert any(line.startswith(f"{name} ") and "unreadable" in line for line in shown), name
    assert any(line.startswith("good ") and "2/2" in line for line in shown)


def test_listing_changes_nothing(tmp_path):
    make(tmp_path / "run", finish=True)
    before = [(p, p.stat().st_mtime_ns) for p in sorted(tmp_path.rglob("*"))]
    assert call(str(tmp_path)) == 0
    assert [(p, p.stat().st_mtime_ns) for p in sorted(tmp_path.rglob("*"))] == before


def test_a_run_itself_can_be_named(tmp_path, capsys):
    make(tmp_path / "run", finish=True)
    assert call(str(tmp_path / "run")) == 0
    assert any(line.startswith("run ") for line in lines(capsys))


@pytest.mark.parametrize("folder", ["missing", "file", "empty"])
def test_a_folder_without_runs_is_one_line(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    Path("empty").mkdir()
    assert call(folder) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_the_default_folder_is_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    make(Path("runs") / "x", finish=False)
    assert call() == 0
    assert any(line.startswith("x ") for line in lines(capsys))


def test_every_kind_of_run_is_listed(tmp_path, capsys):
    make(tmp_path / "noisy", finish=True)
    invented_frequencies.heatmap(tmp_path / "map", cells=4)
    invented_frequencies.recovery(tmp_path / "back")
    assert call(str(tmp_path)) == 0
    shown = {line.split()[0]: line for line in lines(capsys)}
    for name, texts in {
        "noisy": ("noise", "gaussian (pixel)", "2/2"),
        "map": ("heatmap", "3 x 3 frequencies", "4/12", " no"),
        "back": ("recover", "fgsm, deepfool-l2 on a", "6/6"),
    }.items():
        assert all(text in shown[name] for text in texts), shown[name]


def test_progress_is_never_more_than_all(tmp_path, capsys):
    make(tmp_path / "run", finish=False)
    database = sqlite3.connect(tmp_path / "run" / "run.sqlite")
    with database:
        database.execute("UPDATE run SET cells = 999")
    database.close()
    assert call(str(tmp_path)) == 0
    (line,) = (line for line in lines(capsys) if line.startswith("run ") and "unreadable" in line)
    assert "cannot be used: cells are" in line  # the table cuts the rest


@pytest.mark.parametrize("columns", ["60", "80", "160"])
def test_a_terminal_shows_every_name_whole(columns, tmp_path, monkeypatch, capsys):
    for name, value in {"COLUMNS": columns, "FORCE_COLOR": "1", "NO_COLOR": "1"}.items():
        monkeypatch.setenv(name, value)
    names = [
        "recover-1cb0f1f49167-2",
        "1cb0f1f49167",
        "a name that somebody gave with --out, of 60 characters and more",
    ]
    for name in names:
        make(tmp_path / name, finish=True)
    assert call(str(tmp_path)) == 0
    shown = capsys.readouterr().out
    assert all(f" {name} " in shown for name in names)
    assert all(line[-1] in "│┃┓┩┘." for line in shown.splitlines()), "no line is cut"
    assert ("also shows models, data set, n, started" in shown) == (columns != "160")


def test_runs_that_were_measured_together_are_listed_and_found(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    make(Path("runs/both/noise"), finish=True)
    make(Path("runs/both/attack"), finish=True)
    assert call() == 0
    assert {line.split()[0] for line in lines(capsys)} == {"run", "both/noise", "both/attack"}
    assert find("both") == [Path("runs/both/noise"), Path("runs/both/attack")]
    assert find("both/att") == [Path("runs/both/attack")]


def test_a_run_is_found_by_the_beginning_of_its_name_or_id(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make(Path("runs/first run"), finish=True)
    make(Path("runs/first of all"), finish=True)
    for path in (Path("runs/first run"), Path("runs/first of all")):
        assert find(Run.open(path).record.id[:20]) == [path]
    assert find("first r") == [Path("runs/first run")]
    with pytest.raises(UserError) as error:
        find("first")
    assert "which fits 2 runs: first of all, first run; legal" in str(error.value)
    for text in ("fir", "nowhere", "~nobody-here/x"):
        with pytest.raises(UserError, match="which does not exist; legal: a run folder"):
            find(text)
