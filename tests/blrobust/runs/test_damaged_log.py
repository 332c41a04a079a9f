"""run.sqlite-wal of a killed run: readers of a damaged one get an error, and the same command continues."""

import os
import random
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from support import invented
from support.processes import importing

from blrobust.errors import UserError
from blrobust.runs.database_files import COUNT, FILE, JOURNAL, LOG
from blrobust.runs.run import Run

LABELS = np.array([0, 1, 2, 1], np.int16)
LEVELS = [float(level) for level in range(20)]


def start(path: Path) -> Run:
    configuration = invented.configuration("a", n=4, kinds={"gaussian": {"levels": LEVELS}})
    return Run.create_or_resume(path, invented.record(configuration, classes=["x", "y", "z"]), LABELS)


def add(run: Run, level: float) -> None:
    run.add(("a", "gaussian", level, 0), {"prediction": LABELS}, forwards=4, backwards=0, seconds=1.0)


def cells_in(path: Path) -> int:
    with Run.open(path) as run:
        return len(run.done())


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run that was killed when all cells but the first were in the log alone."""
    folder = tmp_path_factory.mktemp("killed") / "run"
    script = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from test_damaged_log import LEVELS, add, start\n"
        "run = start(Path(sys.argv[1]))\n"
        "for level in LEVELS:\n"
        "    add(run, level)\n"
        "    run._database._next_copy = float('inf')\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(folder)], env=importing(__file__), check=False)
    assert done.returncode == -signal.SIGKILL
    assert (folder / LOG).stat().st_size > 100_000
    return folder


def test_a_damaged_log_is_refused_or_has_all_cells(killed: Path, tmp_path: Path) -> None:
    source, whole, refused = random.Random(0), (killed / LOG).read_bytes(), 0
    for trial in range(60):
        shutil.copytree(killed, folder := tmp_path / str(trial))
        place, log = source.randrange(len(whole)), bytearray(whole)
        log[place] ^= 1 << source.randrange(8)
        (folder / LOG).write_bytes(whole[:place] if trial % 2 else log)
        with suppress(UserError):
            assert cells_in(folder) == len(LEVELS)
            continue
        refused += 1
    assert refused > 50


def test_the_command_continues_after_damage_to_the_log(killed: Path, tmp_path: Path) -> None:
    shutil.copytree(killed, folder := tmp_path / "run")
    os.truncate(folder / LOG, (folder / LOG).stat().st_size // 2)
    with start(folder) as run:
        done = {level for _, _, level, _ in run.done()}
        assert 1 <= len(done) < len(LEVELS)
        for level in sorted({*LEVELS} - done):
            add(run, level)
        assert cells_in(folder) == len(LEVELS)
        run.finish()
    assert cells_in(folder) == len(LEVELS)
    assert {entry.name for entry in folder.iterdir()} == {"lock", "run.json", FILE}


@pytest.mark.parametrize("part", [10, 2000])
def test_a_kill_in_the_middle_of_a_commit_is_no_damage(killed: Path, tmp_path: Path, part: int) -> None:
    shutil.copytree(killed, folder := tmp_path / "run")
    frame = (folder / LOG).read_bytes()[32:][:part]
    with (folder / LOG).open("ab") as file:
        file.write(frame)
    assert cells_in(folder) == len(LEVELS)


def test_a_finished_cell_is_soon_in_the_database_itself(tmp_path: Path) -> None:
    with start(tmp_path / "run") as run:
        for level in LEVELS[:5]:
            run._database._next_copy = 0.0  # much time has passed
            add(run, level)
            assert (tmp_path / "run" / LOG).stat().st_size == 0


def test_copies_take_a_small_part_of_the_time(tmp_path: Path) -> None:
    with start(tmp_path / "run") as run:
        for level in LEVELS:
            add(run, level)
        assert (tmp_path / "run" / LOG).stat().st_size > 0


@pytest.mark.parametrize("text", [b"", b"x", b"99", b"-"])
def test_a_damaged_count_loses_nothing(text: bytes, tmp_path: Path) -> None:
    with start(tmp_path) as run:
        add(run, 0.0)
    (tmp_path / COUNT).write_bytes(text)
    if text:
        with pytest.raises(UserError, match=r"run.sqlite cannot be used: (run.sqlite-rows is|cells are)"):
            Run.open(tmp_path)
    with start(tmp_path) as run:
        assert len(run.done()) == 1
    assert cells_in(tmp_path) == 1


def test_a_cell_that_is_added_while_cells_are_counted_is_no_error(tmp_path: Path) -> None:
    added = []

    def add_one(statement: str) -> None:
        if "cells FROM run" in statement:  # the second query
            add(run, LEVELS[len(added)])
            added.append(statement)

    with start(tmp_path) as run, Run.open(tmp_path) as reader:
        reader._database._connection.set_trace_callback(add_one)
        assert reader.done() == set()
        assert len(reader.done()) == 1
    assert len(added) == 2


JOURNAL_MAGIC = bytes.fromhex("d9d505f920a163d7")


def journal_that_removes(database: bytes, victim: Path) -> bytes:
    """Return a rollback journal of the first page, which names `victim` as the journal of other databases."""
    page, name = database[:4096], bytes(victim)
    numbers = (1, 0, len(database) // 4096, 512, 4096)
    header = JOURNAL_MAGIC + b"".join(number.to_bytes(4, "big") for number in numbers)
    checksum = sum(page[-200 * k] for k in range(1, 21)) & 0xFFFFFFFF
    body = header.ljust(512, b"\0") + (1).to_bytes(4, "big") + page + checksum.to_bytes(4, "big")
    body = body.ljust(-(-len(body) // 512) * 512, b"\0") + (2**30 // 4096 + 1).to_bytes(4, "big") + name
    return body + len(name).to_bytes(4, "big") + sum(name).to_bytes(4, "big") + JOURNAL_MAGIC


def test_a_journal_cannot_remove_a_file(tmp_path: Path) -> None:
    victim, folder = tmp_path / "precious", tmp_path / "run"
    victim.write_text("mine")
    with start(folder) as run:
        add(run, 0.0)
    (folder / JOURNAL).write_bytes(journal_that_removes((folder / FILE).read_bytes(), victim))
    for use in (start, Run.open):
        with pytest.raises(UserError, match=r"got run.sqlite-journal, which blrobust does not write"):
            use(folder)
    assert victim.read_text() == "mine"


@pytest.mark.skipif(os.name != "posix", reason="links and pipes as POSIX has them")
@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", [FILE, LOG, f"{FILE}-shm", COUNT, JOURNAL, "lock"])
@pytest.mark.parametrize("kind", ["pipe", "folder", "link"])
def test_only_regular_files_are_opened(name: str, kind: str, tmp_path: Path) -> None:
    victim, folder = tmp_path / "precious", tmp_path / "run"
    victim.write_text("mine")
    with start(folder) as run:
        add(run, 0.0)
    (folder / name).unlink(missing_ok=True)
    make = {"pipe": os.mkfifo, "folder": os.mkdir, "link": lambda path: path.symlink_to(victim)}
    make[kind](folder / name)
    for use in (start, Run.open)[: 1 if name == "lock" else 2]:
        with pytest.raises(UserError, match=f"{folder}: got {name}, which "):
            use(folder)
    assert victim.read_text() == "mine"
