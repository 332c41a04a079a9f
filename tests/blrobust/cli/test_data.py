import urllib.error
import urllib.request
from pathlib import Path

import pytest

from blrobust.cli import main
from blrobust.data.registry import NAMES


def run(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as caught:
        main(["data", *args])
    out, err = capsys.readouterr()
    assert isinstance(caught.value.code, int)
    return caught.value.code, out, err


def test_list_shows_every_set_and_where_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    folder = tmp_path / "[red]odd"
    file = folder / NAMES["svhn"].files["test"]
    file.parent.mkdir(parents=True)
    file.touch()
    code, out, err = run(capsys, "list", "--data-dir", str(folder))
    assert (code, err) == (0, "")
    rows = {name: next(line for line in out.splitlines() if line.startswith(f"{name} ")) for name in NAMES}
    assert "bundled" in rows["cifar10-sample"]
    assert "not found" in rows["cifar10"]
    assert "test_32x32.mat" in rows["svhn"]
    assert "10,000" in rows["cifar100"]
    assert "arXiv:1708.07747" in rows["fashion-mnist"]
    assert str(folder) in out
    assert "npz:PATH" in out


def test_list_in_a_folder_that_does_not_exist(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "list", "--data-dir", "missing")
    assert code == 0
    assert out.count("not found") == 4


@pytest.mark.parametrize("name", [name for name in NAMES if NAMES[name].files])
def test_failed_download_is_one_line(
    name: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def offline(*args: object, **kwargs: object) -> None:
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(urllib.request, "urlopen", offline)
    code, out, err = run(capsys, "get", name, "--data-dir", str(tmp_path))
    assert (code, out) == (2, "")
    (line,) = err.splitlines()
    assert line.startswith(f"Error: {name} could not be downloaded into {tmp_path}: ")
    assert "no route to host" in line


def test_get_the_bundled_sample(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "get", "cifar10-sample")
    assert (code, err) == (0, "")
    assert "bundled" in out


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["get", "cifar"], "legal: cifar10, cifar10-sample"),
        (["get"], "Missing argument"),
        (["get", "cifar10", "--data-dir", __file__], "could not be downloaded"),
        (["fetch"], "No such command"),
    ],
)
def test_bad_input_is_one_line(args: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, *args)
    assert code == 2
    (line,) = err.splitlines()
    assert message in line
