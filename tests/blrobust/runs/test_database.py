"""run.sqlite: it belongs to one run.json, and damaged or edited rows are refused in one line."""

import json
import os
import shutil
import sqlite3
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from support import invented, invented_frequencies

from blrobust.analysis.view import view
from blrobust.errors import UserError
from blrobust.runs.database_files import FILE
from blrobust.runs.packed_arrays import pack
from blrobust.runs.record import Record
from blrobust.runs.run import Run
from blrobust.runs.stored_rows import checksum

MAKE: dict[str, Callable[[Path], Path]] = {
    "noise": partial(invented.run, curves={"fp32": [0.9, 0.5], "b": [0.8, 0.6]}, levels=[0.0, 0.5], n=5),
    "heatmap": invented_frequencies.heatmap,
    "recover": invented_frequencies.recovery,
}


def use(folder: Path) -> str:
    """Return everything that is read from a run; raises `UserError` of one line."""
    try:
        with Run.open(folder) as run:
            results = view(run)
            shown = (results.table.to_csv(), results.flags, run.pictures(), run.labels, sorted(run.done()))
            return str(shown)
    except UserError as error:
        text = str(error)
    assert "\n" not in text
    assert FILE in text
    raise UserError(text)


def execute(folder: Path, *statements: str) -> None:
    database = sqlite3.connect(folder / FILE)
    with database:
        for statement in statements:
            database.execute(statement)
    database.close()


@pytest.mark.parametrize("command", MAKE)
def test_a_flipped_bit_is_refused_or_changes_nothing(tmp_path: Path, command: str) -> None:
    folder = MAKE[command](tmp_path / "run")
    whole, table = (folder / FILE).read_bytes(), use(folder)
    refused = 0
    for place in range(5, 8 * len(whole), 1009):
        flipped = bytearray(whole)
        flipped[place // 8] ^= 1 << place % 8
        (folder / FILE).write_bytes(flipped)
        try:
            assert use(folder) == table, place
        except UserError:
            refused += 1
    assert refused > 10


@pytest.mark.parametrize("command", MAKE)
@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("UPDATE cells SET seconds = 99", "checksum mismatch of a row in the table cells"),
        ("UPDATE cells SET forwards = forwards + 1", "checksum mismatch of a row in the table cells"),
        ("UPDATE cells SET outcomes = (SELECT outcomes FROM cells LIMIT 1)", "checksum mismatch"),
        ("UPDATE labels SET checksum = NULL", "checksum mismatch of a row in the table labels"),
        ("DELETE FROM cells WHERE rowid = 1", "cells are missing"),
        ("UPDATE cells SET model = 'x' WHERE rowid = 1", "checksum mismatch of a row in the table cells"),
        ("UPDATE cells SET level = 'x' WHERE rowid = 1", "checksum mismatch of a row in the table cells"),
        ("UPDATE cells SET draw = 9 WHERE rowid = 1", "checksum mismatch of a row in the table cells"),
        ("UPDATE run SET id = 'x'", "it belongs to another run than run.json"),
        ("DELETE FROM run", "it belongs to another run than run.json"),
        ("CREATE VIEW more AS SELECT 1", "its tables are not those of this run"),
        ("DROP TABLE run", "its tables are not those of this run"),
        ("DROP TABLE labels", "its tables are not those of this run"),
        ("CREATE TRIGGER t AFTER INSERT ON cells BEGIN DELETE FROM cells; END", "its tables are not those"),
        ("DROP TABLE cells", "its tables are not those of this run"),
    ],
)
def test_an_edited_row_is_one_line(tmp_path: Path, command: str, change: str, told: str) -> None:
    folder = MAKE[command](tmp_path / "run")
    execute(folder, change)
    with pytest.raises(UserError) as caught:
        use(folder)
    assert told in str(caught.value)


def test_edited_labels_are_one_line(tmp_path: Path) -> None:
    folder = MAKE["noise"](tmp_path / "run")
    database = sqlite3.connect(folder / FILE)
    with database:
        database.execute("UPDATE labels SET labels = ?", (pack({"labels": np.ones(5, np.int16)}),))
    database.close()
    with pytest.raises(UserError, match="checksum mismatch of a row in the table labels"):
        use(folder)


@pytest.mark.parametrize("labels", [[0, 1], [0, 1, 2, 1, 99], [0, 1, 2, 1, -1]])
def test_labels_that_do_not_fit_are_one_line(tmp_path: Path, labels: list[int]) -> None:
    folder = MAKE["noise"](tmp_path / "run")
    blob, record = pack({"labels": np.array(labels, np.int16)}), Record.read(folder)
    assert record.id is not None
    database = sqlite3.connect(folder / FILE)
    with database:
        database.execute("UPDATE labels SET labels = ?, checksum = ?", (blob, checksum(record.id, (0, blob))))
    database.close()
    with pytest.raises(UserError, match=r"the labels do not fit run.json"):
        use(folder)


def test_a_blob_of_more_bytes_than_the_images_need_is_not_unpacked(tmp_path: Path) -> None:
    """A few kilobytes that unpack to 64 megabytes; the checksum fits."""
    folder = MAKE["noise"](tmp_path / "run")
    record = Record.read(folder)
    assert record.id is not None
    blob = zlib.compress(bytes(2**26))
    database = sqlite3.connect(folder / FILE)
    with database:
        database.execute("UPDATE labels SET labels = ?, checksum = ?", (blob, checksum(record.id, (0, blob))))
    database.close()
    with pytest.raises(UserError, match="got a blob that is cut or has more than 70,656 bytes"):
        use(folder)


ENDLESS = "WITH RECURSIVE r(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM r)"


@pytest.mark.parametrize("table", ["run", "cells", "labels", "pictures"])
def test_a_view_in_the_place_of_a_table_is_not_evaluated(tmp_path: Path, table: str) -> None:
    folder = MAKE["noise"](tmp_path / "run")
    view = f"CREATE VIEW {table} AS {ENDLESS} SELECT old.* FROM old, r"
    execute(folder, f"ALTER TABLE {table} RENAME TO old", view)
    with pytest.raises(UserError, match="its tables are not those of this run"):
        use(folder)


@pytest.mark.parametrize("seconds", ["9e999", "-1.0", "1e10"])
def test_an_impossible_time_with_a_checksum_that_fits_is_refused(tmp_path: Path, seconds: str) -> None:
    folder = MAKE["noise"](tmp_path / "run")
    execute(folder, f"UPDATE cells SET seconds = {seconds}")
    database, run_id = sqlite3.connect(folder / FILE), Record.read(folder).id
    assert run_id is not None
    with database:
        for place, *row, _ in database.execute("SELECT rowid, * FROM cells").fetchall():
            database.execute("UPDATE cells SET checksum = ? WHERE rowid = ?", (checksum(run_id, row), place))
    database.close()
    with pytest.raises(UserError, match="a cell has a value of another type or out of range"):
        Run.open(folder)


@pytest.mark.skipif(os.name != "posix", reason="links as POSIX has them")
@pytest.mark.parametrize("is_database", [True, False])
def test_a_link_to_a_file_elsewhere_is_refused_and_the_file_stays(tmp_path: Path, is_database: bool) -> None:
    folder, target = MAKE["noise"](tmp_path / "run"), tmp_path / "mine"
    (folder / FILE).unlink()
    (folder / FILE).symlink_to(target)
    if is_database:
        sqlite3.connect(target).execute("CREATE TABLE mine (a)").connection.close()
    record = Record.read(folder)
    record.finished = None
    record.write(folder)
    before = {path: path.read_bytes() for path in tmp_path.glob("mine*")}
    with pytest.raises(UserError, match=r"got run.sqlite, which is a link; legal: a regular file, or none"):
        Run.create_or_resume(folder, record, np.zeros(5, np.int16))
    assert {path: path.read_bytes() for path in tmp_path.glob("mine*")} == before


def test_more_cells_than_the_run_has_are_refused(tmp_path: Path) -> None:
    folder = invented.run(tmp_path / "run", {"a": [0.9, 0.5]}, [0.0, 0.5], n=5, cells=1)
    copies = (
        "INSERT INTO cells SELECT model, kind, level, draw + 1, n, correct, forwards, backwards, seconds, "
    )
    execute(folder, f"{copies} finished, outcomes, checksum FROM cells", "UPDATE run SET cells = 2")
    with pytest.raises(UserError, match="checksum mismatch of a row in the table cells"):
        use(folder)


@pytest.mark.parametrize("command", MAKE)
def test_the_database_of_another_run_is_refused(tmp_path: Path, command: str) -> None:
    one, two = (MAKE[command](tmp_path / name) for name in ("one", "two"))
    shutil.copyfile(two / FILE, one / FILE)
    with pytest.raises(UserError, match=r"it belongs to another run than run.json"):
        use(one)


def test_a_row_of_another_run_is_refused(tmp_path: Path) -> None:
    one, two = (MAKE["noise"](tmp_path / name) for name in ("one", "two"))
    attach, copy = f"ATTACH '{two / FILE}' AS other", "INSERT INTO cells SELECT * FROM other.cells"
    execute(one, attach, "DELETE FROM cells", copy)
    with pytest.raises(UserError, match="checksum mismatch of a row in the table cells"):
        use(one)


def test_a_run_without_its_tables_is_refused_and_resumed(tmp_path: Path) -> None:
    folder = invented.run(tmp_path / "run", {"a": [0.9, 0.5]}, [0.0, 0.5], n=5, cells=1)
    with Run.open(folder) as run:
        labels, record = run.labels, run.record
    for file in folder.glob(f"{FILE}*"):
        file.unlink()
    (folder / FILE).touch()  # a kill between the file and its tables leaves this
    with pytest.raises(UserError, match="it has no tables"):
        use(folder)
    with Run.create_or_resume(folder, record, labels) as run:
        assert run.done() == set()


def test_a_run_is_not_resumed_with_other_labels(tmp_path: Path) -> None:
    folder = invented.run(tmp_path / "run", {"a": [0.9, 0.5]}, [0.0, 0.5], n=5, cells=1)
    record = Record.read(folder)
    with pytest.raises(UserError, match="the labels are not those of the data set"):
        Run.create_or_resume(folder, record, np.zeros(5, np.int16))


def test_an_id_removed_from_the_record_does_not_help(tmp_path: Path) -> None:
    folder = MAKE["noise"](tmp_path / "run")
    record = Record.read(folder)
    record.format, record.id = 2, None
    record.write(folder)
    assert "id" not in json.loads((folder / "run.json").read_text())
    with pytest.raises(UserError, match="its tables are not those of this run"):
        use(folder)
