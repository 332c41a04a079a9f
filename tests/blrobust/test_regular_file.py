"""Files of others: pipes and devices in their place neither block a reader nor fill the memory."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from blrobust.errors import UserError
from blrobust.regular_file import problem_of, read_bytes
from blrobust.reports.template import shows_baseline
from blrobust.runs.record import Record
from blrobust.training import history

pytestmark = pytest.mark.skipif(os.name != "posix", reason="pipes and devices as POSIX has them")


def pipe(path: Path) -> None:
    os.mkfifo(path)


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


@pytest.fixture(params=[pipe, device])
def irregular(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path: Path = tmp_path / "run.json"
    request.param(path)
    return path


@pytest.mark.timeout(20)
@pytest.mark.parametrize("read", [lambda path: read_bytes(path, most=9), history.read])
def test_only_regular_files_are_read(irregular: Path, read: Callable[[Path], object]) -> None:
    with pytest.raises(UserError, match=r"run.json: got a pipe or a device; legal: a regular file"):
        read(irregular)


@pytest.mark.timeout(20)
def test_a_run_folder_with_an_irregular_file_is_none(irregular: Path) -> None:
    with pytest.raises(UserError, match=r"got run.json, which is not a regular file; legal: a run folder"):
        Record.read(irregular.parent)


@pytest.mark.timeout(20)
def test_an_irregular_file_is_no_report(irregular: Path) -> None:
    assert not shows_baseline(irregular, "fp32")


def test_a_file_of_the_largest_size_is_read_and_a_larger_one_refused(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"123")
    assert read_bytes(path, most=3) == b"123"
    with pytest.raises(UserError, match="got 3 bytes; legal: at most 2"):
        read_bytes(path, most=2)


def test_a_sparse_record_takes_no_memory(tmp_path: Path) -> None:
    with (tmp_path / "run.json").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(UserError, match="bytes; legal: at most"):
        Record.read(tmp_path)


def test_the_problem_of_a_path(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")
    assert [problem_of(tmp_path / name) for name in ("file", "pipe", ".", "nothing")] == [
        None,
        "which is not a regular file",
        "which is a folder",
        "which does not exist",
    ]
