"""Paths from a user: what no file system can have is refused in one line that names the argument."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.plain_model import SHAPE, Plain

import blrobust
from blrobust.errors import UserError
from blrobust.user_paths import expanded, output_file, output_folder

IMPOSSIBLE: dict[str, Any] = {
    "NUL": "a\0b",
    "surrogate": "\ud800",
    "long name": "a" * 256,
    "long path": "a/" * 5000,
    "empty": " ",
    "bytes": b"x",
    "number": 3,
    "none": None,
}
PAIR = torch.rand(8, *SHAPE), torch.arange(8) % 3
CALLS: dict[str, Callable[[Any], object]] = {
    "out": lambda path: blrobust.evaluate(Plain(), data=PAIR, noise={"gaussian": [0, 1]}, out=path),
    "data_dir": lambda path: blrobust.load_data("cifar10", data_dir=path),
    "run": blrobust.open_run,
    "folder": blrobust.list_runs,
    "data set npz": lambda path: blrobust.load_data(f"npz:{path}"),
    "data set folder": lambda path: blrobust.load_data(f"folder:{path}"),
    "checkpoint of model 'a'": lambda path: blrobust.load_model(f"a={path}.safetensors"),
}


@pytest.mark.parametrize("kind", IMPOSSIBLE)
@pytest.mark.parametrize("argument", CALLS)
def test_an_impossible_path_is_one_line(
    argument: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = IMPOSSIBLE[kind]
    if " " in argument and kind in ("empty", "bytes", "number", "none"):
        pytest.skip("part of a text")
    if path is None and argument in ("out", "data_dir"):
        pytest.skip("None is the default")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as caught:
        CALLS[argument](path)
    message = str(caught.value)
    assert message.startswith(f"{argument}: got ")
    assert "; legal: " in message
    assert message.isprintable()
    assert len(message) < 600
    assert not list(tmp_path.iterdir())


def test_a_path_of_bytes_that_are_not_utf8_is_legal(tmp_path: Path) -> None:
    assert expanded("a\udcff", "out") == Path("a\udcff")


def test_the_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert expanded("~/x", "out") == Path("/home/me/x")
    assert expanded(Path("x"), "out") == Path("x")


def test_a_folder_behind_a_file_or_a_link_to_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("nothing")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "real").mkdir()
    (tmp_path / "good").symlink_to("real")
    for name, problem in {
        "file/x": "a file",
        "link": "a link to",
        "link/x": "a link to",
        "loop": "a link",
    }.items():
        with pytest.raises(UserError, match=f"out: got .*{name}, where .* is {problem}.*; legal: a new"):
            output_folder(tmp_path / name, "out")
    for name in ("good/x", "real", "new/x/y", "file"):  # a file at the place itself is refused later
        assert output_folder(tmp_path / name, "out") == tmp_path / name


def test_a_file_to_write(tmp_path: Path) -> None:
    (tmp_path / "folder.html").mkdir()
    for name, told in {
        "run.json": "a name that ends in .html or .htm",
        "x/y.html": "a file in a folder that exists",
        "folder.html": "is a directory",
    }.items():
        with pytest.raises(UserError, match=f"path: got .*{told}"):
            output_file(tmp_path / name, "path", (".html", ".htm"))
    assert output_file(tmp_path / "x.HTML", "path", (".html",)) == tmp_path / "x.HTML"


def test_a_report_replaces_only_pages(tmp_path: Path) -> None:
    run = blrobust.evaluate(Plain(), data=PAIR, noise={"gaussian": [0, 1]}, out=tmp_path / "run")
    record = tmp_path / "run/run.json"
    before = record.read_bytes()
    for path, told in {
        record: "legal: a name that ends in .html or .htm",
        tmp_path / "run/results.csv": "legal: a name that ends in .html or .htm",
        tmp_path / "none/x.html": "legal: a file in a folder that exists",
        None: "path: got None; legal: a path",
        "\0.html": r"path: got '\x00.html'; legal: a path",
    }.items():
        with pytest.raises(UserError) as caught:
            run.report(path)  # type: ignore[arg-type]
        assert told in str(caught.value)
    assert record.read_bytes() == before
    assert run.report(tmp_path / "x.htm").is_file()


@pytest.mark.skipif(sys.platform != "linux", reason="needs file names that are not UTF-8")
def test_a_folder_with_a_name_that_is_not_utf8_has_a_report(tmp_path: Path) -> None:
    folder = tmp_path / "a\udcff<b"
    run = blrobust.evaluate(Plain(), data=PAIR, noise={"gaussian": [0, 1]}, out=folder)
    other = blrobust.evaluate(Plain(), data=PAIR, noise={"gaussian": [0, 2]}, out=tmp_path / "other")
    assert run.report(folder / "report.html").is_file()
    both = blrobust.compare(run, other)
    page = both.report(tmp_path / "both.html").read_text("utf-8")
    assert r"a\udcff&lt;b" in page
    assert set(both.table["run"]) == {r"a\udcff<b", "other"}
    assert r"a\udcff<b" in repr(both)
    both._repr_html_()


@pytest.mark.skipif(sys.platform != "linux", reason="needs file names that are not UTF-8")
def test_data_with_a_name_that_is_not_utf8_are_measured(tmp_path: Path) -> None:
    np.savez(tmp_path / "a\udcff.npz", x=PAIR[0].numpy(), y=PAIR[1].numpy())
    name = f"npz:{tmp_path}/a\udcff.npz"
    run = blrobust.evaluate(Plain(), data=name, noise={"gaussian": [0, 1]}, out=tmp_path / "run")
    assert set(run.table.dataset) == {rf"npz:{tmp_path}/a\udcff.npz"}
    assert run.report(tmp_path / "page.html").is_file()
