"""`--dry-run`: a command prints its plan, and measures and writes nothing."""

from pathlib import Path

import pytest

from blrobust.cli import main
from blrobust.runs.run import Run

SAMPLE = "--dataset cifar10-sample --device cpu --limit 2"
COMMANDS = {
    f"noise --models fp32 --sigma 0.5 {SAMPLE}": "fp32 x 2 levels x 2 images",
    f"attack --models fp32 --kind fgsm --strength 2/255 {SAMPLE}": "fp32 x fgsm (2 levels) x 2 images",
    f"heatmap fp32 --size 1 {SAMPLE}": "fp32: a map of 1 by 1 frequencies, 2 images",
    f"recover --kind fgsm --compressions 0.5 --bits 4 --models fft85 {SAMPLE}": (
        "fgsm on fp32 x 3 channels x 2 images"
    ),
}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def call(capsys, command):
    with pytest.raises(SystemExit) as exit_:
        main(command.split())
    return exit_.value.code, *capsys.readouterr()


def files():
    return {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}


@pytest.mark.parametrize("command", COMMANDS)
def test_the_plan_names_the_folder_that_the_command_uses(command, capsys):
    code, out, err = call(capsys, f"{command} --dry-run")
    assert (code, err) == (0, "cifar10-sample: the first 1,000 test images of cifar10\n")
    assert list(Path().iterdir()) == []
    work, device, folder, state = out.splitlines()
    assert work == COMMANDS[command]
    assert device.startswith("device: cpu")
    assert state == "state: a new run"
    assert call(capsys, command)[0] == 0
    before = files()
    assert Path(folder.removeprefix("folder: "), "run.json") in before
    code, out, _ = call(capsys, f"{command} --dry-run")
    assert (code, out.splitlines()[:3]) == (0, [work, device, folder])
    assert out.splitlines()[3].startswith("state: finished, all ")
    assert files() == before


def test_an_unfinished_run_would_be_resumed(capsys, monkeypatch):
    command = f"noise --models fp32 --sigma 0.5 --out x {SAMPLE}"
    really = Run.add

    def add_one(run, *values, **further):
        really(run, *values, **further)
        raise KeyboardInterrupt

    monkeypatch.setattr(Run, "add", add_one)
    assert call(capsys, command)[0] == 130
    before = files()
    code, out, _ = call(capsys, f"{command} --dry-run")
    assert code == 0
    assert out.splitlines()[2:] == [
        "folder: x",
        "state: 1 of 2 cells are stored; the run would be resumed",
    ]
    assert files() == before
    Path("x/run.sqlite").unlink()  # as after a kill before it was created
    code, out, _ = call(capsys, f"{command} --dry-run")
    assert (code, out.splitlines()[3]) == (0, "state: a new run")


def test_a_folder_that_cannot_be_used_is_an_error(capsys):
    Path("file").write_text("text")
    code, out, err = call(capsys, f"noise --models fp32 --sigma 0.5 --out file {SAMPLE} --dry-run")
    assert (code, out) == (2, "")
    assert "Error: --out: got file, which is a file" in err
