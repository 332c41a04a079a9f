import json
import os
import sqlite3
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from support import invented
from support.processes import importing

from blrobust import atomic_write
from blrobust.errors import UserError
from blrobust.reports import template
from blrobust.runs.database import Picture
from blrobust.runs.database_files import COUNT, FILE
from blrobust.runs.record import digest
from blrobust.runs.run import Run

posix = pytest.mark.skipif(os.name != "posix", reason="folders cannot be moved while a file in them is open")
PAGE = {
    **{"sections": [], "matrix": None, "worst": {}, "provenance": {}, "published_label": "", "baseline": ""},
    **{"data_notes": {}, "files": [], "bibtex": "", "seeds": [], "rankings": [], "keys": []},
}
LABELS = np.array([0, 1, 2, 1], np.int16)
KINDS = {"gaussian": {"levels": [0.0, 0.5]}}


def record(**changes):
    given = {"kinds": KINDS, "draws": 2, **changes}
    return invented.record(invented.configuration("ab", n=4, **given), classes=["x", "y", "z"])


def start(path, **changes):
    return Run.create_or_resume(path, record(**changes), LABELS)


def add(run, model="a", level=0.0, draw=0, prediction=(0, 1, 1, -1)):
    outcomes = {"prediction": np.array(prediction, np.int16), "flag": np.array([True] * 4)}
    run.add((model, "gaussian", level, draw), outcomes, forwards=4, backwards=draw, seconds=0.5 + draw)


def finished(path):
    with start(path) as run:
        for draw in range(2):
            for model in "ab":
                for level in (0.0, 0.5):
                    add(run, model, level, draw)
        run.finish()
    return path


def state(path):
    return {
        entry.name: (entry.stat().st_mtime_ns, entry.read_bytes() if entry.is_file() else None)
        for entry in (path, *path.iterdir())
    }


def test_what_is_written_is_read_back(tmp_path):
    with start(tmp_path / "a" / "run") as run:
        assert run.done() == set()
        add(run)
        add(run, draw=1, prediction=(0, 1, 2, 1))
        add(run, level=0.5)
        run.add_pictures([Picture("gaussian", 0.0, 3, 1, b"png")])
    with Run.open(tmp_path / "a" / "run") as run:
        assert run.models == ["a", "b"]
        assert run.kinds == ["gaussian"]
        assert run.levels("gaussian") == [0.0, 0.5]
        assert run.draws == 2
        assert not run.finished
        assert run.labels.tolist() == LABELS.tolist()
        assert run.done() == {
            ("a", "gaussian", 0.0, 0),
            ("a", "gaussian", 0.0, 1),
            ("a", "gaussian", 0.5, 0),
        }
        outcome = run.outcome("a", "gaussian", 0.0, 0)
        assert outcome["prediction"].tolist() == [0, 1, 1, -1]
        assert outcome["prediction"].dtype == np.int16
        assert outcome["flag"].dtype == np.bool_
        correct = run.correct("a", "gaussian", 0.0)
        assert correct.tolist() == [[True, True, False, False], [True] * 4]
        assert run.correct("b", "gaussian", 0.5).shape == (0, 4)
        assert run.seconds("a", "gaussian", 0.0) == 2.0
        assert run.forwards("a", "gaussian", 0.0) == 8
        assert run.backwards("a", "gaussian", 0.0) == 1
        assert run.pictures() == [Picture("gaussian", 0.0, 3, 1, b"png")]


def test_the_row_of_a_cell_can_be_read_with_sql_alone(tmp_path):
    with start(tmp_path) as run:
        add(run)
    database = sqlite3.connect(tmp_path / "run.sqlite")
    row = database.execute(
        "SELECT model, kind, level, draw, n, correct, forwards, backwards, seconds FROM cells"
    ).fetchone()
    assert row == ("a", "gaussian", 0.0, 0, 4, 2, 4, 0, 0.5)
    assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    database.close()


def test_a_missing_cell_or_kind_is_one_line(tmp_path):
    with start(tmp_path) as run:
        with pytest.raises(UserError, match="not finished"):
            run.outcome("a", "gaussian", 0.5, 0)
        with pytest.raises(UserError, match="legal: gaussian"):
            run.levels("pixel")


def test_resuming_appends_the_session_and_keeps_the_rest(tmp_path):
    with start(tmp_path) as run:
        add(run)
        begun = run.record.started
    with start(tmp_path) as run:
        assert run.done() == {("a", "gaussian", 0.0, 0)}
    kept = json.loads((tmp_path / "run.json").read_text())
    assert len(kept["sessions"]) == 2
    assert kept["started"] == begun
    assert kept["hash"] == digest(kept["config"])


def test_a_finished_run_is_not_touched(tmp_path):
    path = finished(tmp_path / "run")
    assert {entry.name for entry in path.iterdir()} == {"run.json", "run.sqlite", "lock"}
    before = state(path)
    with start(path) as run:
        assert run.finished
        assert run.correct("b", "gaussian", 0.5).shape == (2, 4)
    with Run.open(path) as run:
        assert len(run.done()) == 8
    assert state(path) == before


def test_an_unfinished_run_can_be_read_while_another_writes(tmp_path):
    with start(tmp_path) as run:
        add(run)
        with Run.open(tmp_path) as reader:
            assert len(reader.done()) == 1
            add(run, level=0.5)
            assert len(reader.done()) == 2


def test_another_configuration_is_refused_and_named(tmp_path):
    with start(tmp_path) as run:
        add(run)
    before = (tmp_path / "run.json").read_bytes()
    with pytest.raises(UserError, match=r"different: seed, kinds\)"):
        start(tmp_path, seed=1, kinds={"gaussian": {"levels": [0.0]}})
    assert (tmp_path / "run.json").read_bytes() == before


@pytest.mark.parametrize("name", ["notes.txt", "run.sqlite"])
def test_a_folder_of_something_else_is_refused(tmp_path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(UserError, match=name):
        start(tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == [name]


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "run").write_text("mine")
    with pytest.raises(UserError, match="is a file"):
        start(tmp_path / "run")


def test_what_a_kill_before_the_first_record_leaves_is_taken_over(tmp_path):
    (tmp_path / "lock").touch()
    process = subprocess.Popen(["true"])
    process.wait()
    leftover = tmp_path / f".blrobust-{atomic_write.HOST}-{process.pid}-{'0' * 16}.tmp"
    leftover.write_text('{"conf')
    with start(tmp_path) as run:
        add(run)
    assert {entry.name for entry in tmp_path.iterdir()} == {"lock", "run.json", FILE, COUNT}


def test_a_second_process_is_refused_and_the_first_goes_on(tmp_path):
    script = "import sys\nfrom pathlib import Path\nfrom test_run import start\nstart(Path(sys.argv[1]))\n"
    arguments = [sys.executable, "-c", script, str(tmp_path)]
    with start(tmp_path) as run:
        second = subprocess.run(
            arguments, capture_output=True, text=True, check=False, env=importing(__file__)
        )
        assert "another process" in second.stderr.splitlines()[-1]
        add(run)
    assert subprocess.run(arguments, capture_output=True, env=importing(__file__)).returncode == 0
    with Run.open(tmp_path) as run:
        assert len(run.record.sessions) == 2


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", "\udcff", '{"config": {}, "hash": "", "finished": null}']
)
def test_a_damaged_record_is_one_line(tmp_path, text):
    finished(tmp_path)
    (tmp_path / "run.json").write_bytes(text.encode(errors="surrogateescape"))
    for use in (Run.open, start):
        with pytest.raises(UserError, match=r"run.json is corrupt"):
            use(tmp_path)


def test_a_record_whose_configuration_was_edited_is_corrupt(tmp_path):
    finished(tmp_path)
    kept = json.loads((tmp_path / "run.json").read_text())
    kept["config"]["seed"] = 7
    (tmp_path / "run.json").write_text(json.dumps(kept))
    with pytest.raises(UserError, match=r"run.json is corrupt"):
        Run.open(tmp_path)


@pytest.mark.parametrize("content", [b"", b"not a database " * 100, None])
def test_a_damaged_database_of_a_finished_run_is_one_line(tmp_path, content):
    database = finished(tmp_path) / "run.sqlite"
    database.write_bytes(database.read_bytes()[:3000] if content is None else content)
    for use in (Run.open, start):
        with pytest.raises(UserError, match=r"run.sqlite cannot be used"):
            use(tmp_path)


def test_a_damaged_blob_is_one_line(tmp_path):
    with start(tmp_path) as run:
        add(run)
    database = sqlite3.connect(tmp_path / "run.sqlite")
    with database:
        database.execute("UPDATE cells SET outcomes = x'00'")
    database.close()
    with pytest.raises(UserError, match=r"run.sqlite cannot be used"):
        Run.open(tmp_path)


@pytest.mark.parametrize(
    "change", ["DELETE FROM labels", "UPDATE cells SET outcomes = NULL", "UPDATE labels SET labels = 'text'"]
)
def test_a_database_that_somebody_edited_is_one_line(tmp_path, change):
    with start(tmp_path) as run:
        add(run)
    database = sqlite3.connect(tmp_path / "run.sqlite")
    with database:
        database.execute(change)
    database.close()
    with pytest.raises(UserError, match=r"run.sqlite cannot be used"), Run.open(tmp_path) as run:
        run.correct("a", "gaussian", 0.0)


def test_a_missing_database_is_one_line(tmp_path):
    (finished(tmp_path) / "run.sqlite").unlink()
    with pytest.raises(UserError, match=r"run.sqlite is missing"):
        Run.open(tmp_path)


def test_a_damaged_database_of_an_unfinished_run_is_one_line_and_gives_the_lock_back(tmp_path):
    with start(tmp_path) as run:
        add(run)
    good = (tmp_path / "run.sqlite").read_bytes()
    (tmp_path / "run.sqlite").write_bytes(b"not a database " * 100)
    with pytest.raises(UserError, match=r"run.sqlite cannot be used"):
        start(tmp_path)
    (tmp_path / "run.sqlite").write_bytes(good)
    with start(tmp_path) as run:
        assert len(run.done()) == 1


def test_a_disk_that_fills_up_loses_no_finished_cell(tmp_path):
    script = (
        "import resource, signal, sys\n"
        "from pathlib import Path\n"
        "from test_run import add, start\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "with start(Path(sys.argv[1]), kinds={'gaussian': {'levels': list(range(100))}}) as run:\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))\n"
        "    for i in range(100):\n"
        "        add(run, level=float(i))\n"
        "        print(i, flush=True)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        env=importing(__file__),
    )
    assert done.returncode == 1
    assert "run.sqlite cannot be used: " in done.stderr.splitlines()[-1]
    written = len(done.stdout.splitlines())
    assert 0 < written < 100
    with start(tmp_path, kinds={"gaussian": {"levels": list(range(100))}}) as run:
        assert {cell[2] for cell in run.done()} == {float(i) for i in range(written)}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_write_permission_is_an_os_error(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(PermissionError):
        start(tmp_path / "run")


def moved(path):
    """Move a run, and put a finished one of another configuration in its place; return the bytes of both."""
    path.rename(path.with_name("moved"))
    finished(path.with_name("other")).rename(path)
    return {entry.name: entry.read_bytes() for entry in path.iterdir()}


@posix
@pytest.mark.parametrize(
    "write",
    [
        lambda run: add(run, draw=1),
        lambda run: run.save_record(),
        lambda run: run.finish(),
        lambda run: run.write_results(pd.DataFrame()),
    ],
    ids=["add", "save_record", "finish", "write_results"],
)
def test_a_run_that_was_moved_writes_nothing_to_the_run_in_its_place(tmp_path, write):
    path = tmp_path / "run"
    with start(path, seed=7) as run:
        add(run)
        before = moved(path)
        with pytest.raises(OSError, match="the folder was moved or replaced"):
            write(run)
    assert {entry.name: entry.read_bytes() for entry in path.iterdir()} == before
    with start(tmp_path / "moved", seed=7) as run:
        assert ("a", "gaussian", 0.0, 0) in run.done()


@posix
def test_a_run_that_was_moved_away_is_told_so(tmp_path):
    with start(tmp_path / "run") as run:
        (tmp_path / "run").rename(tmp_path / "moved")
        with pytest.raises(OSError, match="the folder was moved or replaced"):
            run.save_record()


@posix
def test_a_folder_that_is_moved_during_a_write_gets_the_file(tmp_path, monkeypatch):
    path, sync = tmp_path / "run", os.fsync

    def fsync(descriptor):
        monkeypatch.setattr(os, "fsync", sync)
        before.update(moved(path))
        sync(descriptor)

    with start(path, seed=7) as run:
        before = {}
        monkeypatch.setattr(os, "fsync", fsync)
        run.write_results(pd.DataFrame({"a": [1]}))
    assert {entry.name: entry.read_bytes() for entry in path.iterdir()} == before
    assert (tmp_path / "moved" / "results.csv").read_text() == "a\n1\n"


@posix
def test_a_report_is_not_written_to_a_run_in_the_place_of_another(tmp_path):
    with Run.open(finished(tmp_path / "run")) as run:
        (tmp_path / "run").rename(tmp_path / "moved")
        finished(tmp_path / "run")
        with pytest.raises(OSError, match="the folder was moved or replaced"):
            template.render("page.html", tmp_path / "run" / "report.html", of=[run], **PAGE)
        template.render("page.html", tmp_path / "report.html", of=[run], **PAGE)
    assert not (tmp_path / "run" / "report.html").exists()
