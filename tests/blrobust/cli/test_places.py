"""Links, pipes and folders in the places of the files of a run: replaced or refused in one line."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from blrobust.cli import main
from blrobust.runs.folder import REPORT, RESULTS
from blrobust.runs.record import Record

pytestmark = [pytest.mark.skipif(os.name != "posix", reason="links and pipes as POSIX has them")]
DATA = "--dataset cifar10-sample --limit 2 --device cpu --quiet"
COMMANDS = {
    "noise": f"noise --models fp32 --sigma 0 {DATA}",
    "heatmap": f"heatmap fp32 --size 1 {DATA}",
    "recover": f"recover --kind fgsm --networks fft50 --compressions 0.5 --bits 4 {DATA}",
}


def call(line: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> tuple[object, str]:
    with pytest.raises(SystemExit) as end:
        main([*line.split(), "--out", str(folder)])
    return end.value.code, capsys.readouterr().err


def link(path: Path) -> None:
    path.symlink_to(path.parents[1] / "precious")


OTHERS: list[Callable[[Path], object]] = [link, os.mkfifo, os.mkdir]


@pytest.mark.timeout(120)
@pytest.mark.parametrize("command", COMMANDS)
def test_a_finished_run(command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, victim = tmp_path / "run", tmp_path / "precious"
    victim.write_text("mine")
    assert call(COMMANDS[command], folder, capsys) == (0, "")
    table = (folder / RESULTS).read_bytes()
    for name in (RESULTS, REPORT):
        for make in OTHERS:
            (folder / name).unlink()
            make(folder / name)
            code, err = call(COMMANDS[command], folder, capsys)
            if make is os.mkdir:
                assert (code, err.count("\n")) == (2, 1)
                assert name in err
                (folder / name).rmdir()
                (folder / name).touch()
            else:
                assert (code, err) == (0, "")
                assert (folder / name).is_file()
                assert not (folder / name).is_symlink()
        assert call(COMMANDS[command], folder, capsys)[0] == 0
        (folder / RESULTS).unlink(missing_ok=True)
    assert call(COMMANDS[command], folder, capsys) == (0, "")
    assert (folder / RESULTS).read_bytes() == table
    assert "</html>" in (folder / REPORT).read_text("utf-8")
    assert victim.read_text() == "mine"


@pytest.mark.parametrize("place", ["adversarials", "adversarials/fgsm", "adversarials/fgsm/fp32"])
def test_adversarial_inputs_are_not_written_behind_a_link(
    place: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, victim = tmp_path / "run", tmp_path / "precious"
    command = f"attack --models fp32 --kind fgsm --strength 0.1 --save-adversarials {DATA}"
    assert call(command, folder, capsys) == (0, "")
    kept = {path.relative_to(folder / place): path.read_bytes() for path in (folder / place).rglob("*.s*")}
    (folder / place).rename(victim)
    (folder / place).symlink_to(victim)
    assert call(command, folder, capsys) == (0, "")  # a finished run is only read
    record = Record.read(folder)
    record.finished = None
    record.write(folder)
    code, err = call(command, folder, capsys)
    assert (code, err.count("\n")) == (2, 1)
    assert f"got {folder / place}, which is a link; legal: a folder, or none" in err
    assert {path.relative_to(victim): path.read_bytes() for path in victim.rglob("*.s*")} == kept
