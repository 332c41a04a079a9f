"""Files that are complete or absent, in folders that others can write to."""

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from blrobust import atomic_write
from blrobust.cli import main

posix = pytest.mark.skipif(os.name != "posix", reason="links, modes and processes as POSIX has them")


def names(folder: Path) -> set[str]:
    return {entry.name for entry in folder.iterdir()}


def temporary(process: int, *, host: str = atomic_write.HOST) -> str:
    return f".blrobust-{host}-{process}-{'5' * 16}.tmp"


@pytest.fixture
def dead() -> int:
    """Return the id of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


@pytest.fixture(params=[0o022, 0o077, 0o002])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, call):
    path = tmp_path / "file"
    atomic_write.write_text(path, "old")

    def full(*arguments, **folders):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(f"os.{call}", full)
    with pytest.raises(OSError, match=f"No space left on device: '{path}'"):
        atomic_write.write_text(path, "new")
    assert names(tmp_path) == {"file"}
    assert path.read_text() == "old"


def test_names_of_files_that_are_no_text_can_be_written(tmp_path):
    atomic_write.write_text(tmp_path / "file", "o\udcff and ü")
    assert (tmp_path / "file").read_text("utf-8") == "o\\udcff and ü"


@posix
def test_a_link_in_the_place_of_the_file_is_replaced_and_not_followed(tmp_path):
    (tmp_path / "mine").write_text("mine")
    (tmp_path / "file").symlink_to("mine")
    atomic_write.write_text(tmp_path / "file", "new")
    assert (tmp_path / "mine").read_text() == "mine"
    assert not (tmp_path / "file").is_symlink()
    assert (tmp_path / "file").read_text() == "new"


@posix
def test_a_link_in_the_place_of_the_temporary_file_is_not_followed(tmp_path, monkeypatch):
    monkeypatch.setattr("secrets.token_hex", lambda size: "5" * 16)
    (tmp_path / "mine").write_text("mine")
    (tmp_path / temporary(os.getpid())).symlink_to("mine")
    with pytest.raises(FileExistsError):
        atomic_write.write_text(tmp_path / "file", "new")
    assert (tmp_path / "mine").read_text() == "mine"
    assert not (tmp_path / "file").exists()


@posix
def test_a_folder_may_be_a_link(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    atomic_write.write_text(tmp_path / "link" / "file", "new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real" / "file").read_text() == "new"


@posix
def test_the_mode_is_that_of_the_users_umask(tmp_path, umask):
    atomic_write.write_text(tmp_path / "file", "new")
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o666 & ~umask


@posix
def test_file_and_folder_are_synced_around_the_rename(tmp_path, monkeypatch):
    calls = []
    sync, rename = os.fsync, os.replace

    def fsync(descriptor):
        calls.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        sync(descriptor)

    def replace(*paths, **folders):
        calls.append("rename")
        rename(*paths, **folders)

    monkeypatch.setattr("os.fsync", fsync)
    monkeypatch.setattr("os.replace", replace)
    atomic_write.write_text(tmp_path / "file", "new")
    assert calls == ["file", "rename", "folder"]


@posix
def test_temporary_files_of_dead_processes_are_removed_and_no_others(tmp_path, dead):
    kept = {
        temporary(os.getpid()),
        temporary(os.getppid()),
        temporary(dead, host="0" * 8),
        temporary(dead) + "x",
        "x" + temporary(dead),
    }
    (tmp_path / "mine").write_text("mine")
    for name in kept:
        (tmp_path / name).touch()
    (tmp_path / temporary(dead)).symlink_to("mine")
    (tmp_path / temporary(9_999_999_999)).touch()
    (tmp_path / temporary(dead).replace("5", "6")).mkdir()
    atomic_write.write_text(tmp_path / "file", "new")
    left = {"mine", "file", temporary(dead).replace("5", "6")}
    assert names(tmp_path) == kept | left
    assert (tmp_path / "mine").read_text() == "mine"


KILLED = """
import os, sys
from pathlib import Path
from blrobust import atomic_write
from blrobust.cli import main
setattr(os, sys.argv[2], lambda *arguments, **folders: os._exit(9))
atomic_write.write_text(Path(sys.argv[1]), "new")
"""


@posix
@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_kill_leaves_the_old_file_and_the_next_write_cleans_up(tmp_path, call):
    path = tmp_path / "file"
    atomic_write.write_text(path, "old")
    assert subprocess.run([sys.executable, "-c", KILLED, str(path), call]).returncode == 9
    assert path.read_text() == "old"
    assert len(names(tmp_path)) == 2
    atomic_write.write_text(path, "newer")
    assert path.read_text() == "newer"
    assert names(tmp_path) == {"file"}


def test_names_as_long_as_the_file_system_takes(tmp_path):
    name = "n" * 255
    atomic_write.write_text(tmp_path / name, "new")
    assert names(tmp_path) == {name}


@pytest.mark.parametrize(("place", "kind"), [("no/file", FileNotFoundError), ("file/x", NotADirectoryError)])
def test_a_folder_that_cannot_be_used_is_one_error_with_the_name_of_the_file(tmp_path, place, kind):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(kind) as caught:
        atomic_write.write_text(tmp_path / place, "new")
    assert caught.value.filename == str(tmp_path / place)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (".run.json.tmp", True),
        (".measurement.json.tmp", True),
        (".results.csv.tmp", True),
        (".heatmap.csv.tmp", True),
        (".recovery.csv.tmp", True),
        (".report.html.tmp", True),
        (".heatmap.html.tmp", True),
        (".recovery.html.tmp", True),
        (".cifar10-resnet20-fp32.training.safetensors.tmp", True),
        (".cifar10-resnet20-fp32.history.csv.tmp", True),
        ("run.json.tmp", False),
        (".run.json", False),
        (".mine.tmp", False),
        (".mine.json.tmp", False),
        (".run.json.tmp.tmp", False),
        (".a/b.safetensors.tmp", False),
    ],
)
def test_predictable_names_are_recognised(name, expected):
    assert atomic_write.is_temporary(name) == expected


@posix
@pytest.mark.parametrize("command", ["noise --sigma 0 --models fp32", "heatmap fp32 --size 1"])
def test_links_with_predictable_names_do_not_stop_a_run_and_are_not_followed(tmp_path, command):
    (tmp_path / "mine").write_text("mine")
    out = tmp_path / "out"
    out.mkdir()
    leftovers = {f".{name}.tmp" for name in ("run.json", "report.html", "measurement.json", "heatmap.html")}
    for name in leftovers:
        (out / name).symlink_to(tmp_path / "mine")
    arguments = [*command.split(), "--dataset", "cifar10-sample", "--limit", "2", "--device", "cpu"]
    with pytest.raises(SystemExit) as end:
        main([*arguments, "--out", str(out)])
    assert end.value.code == 0
    assert leftovers < names(out)
    assert (tmp_path / "mine").read_text() == "mine"
