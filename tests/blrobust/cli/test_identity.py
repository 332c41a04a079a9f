"""A run knows the model that it measured: a user's model is edited between two commands."""

import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from blrobust.cli import main
from blrobust.evaluation import heatmap, recovery, sweep
from blrobust.runs.record import Record
from blrobust.runs.run import Run

MODEL = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(10, 3, generator=torch.Generator().manual_seed(0)))
        self.sharpness = 30.0

    def forward(self, pixels):
        pixels = pixels + 0 * pixels.detach()
        return +self.sharpness * pixels.mean((2, 3)) @ self.weight.T


def net():
    return Net()


class Other(Net):
    def forward(self, pixels):
        return pixels.mean((2, 3)) @ self.weight.T


def other():
    return Other()
"""
DOUBTFUL = {
    "rounds its input": """
class Net(Other):
    def __init__(self):
        super().__init__()
        self.scale = [1.0] * 10

    def forward(self, pixels):
        return super().forward((255 * pixels).to(torch.uint8) / 255) * torch.tensor(self.scale)
""",
    "adds the batch before": """
class Net(Other):
    last, scale = 0, 1.0

    def forward(self, pixels):
        logits = super().forward(pixels)
        now, self.last = logits + self.scale * self.last, logits.mean(0)
        return now
""",
}
DATA = ("--dataset", "cifar10-sample", "--limit", "12", "--device", "cpu")
COMMANDS = {
    "noise": ("noise", "--models", "x=mine:net", "--sigma", "0,0.2", *DATA),
    "attack": ("attack", "--kind", "fgsm", "--models", "x=mine:net", "--strength", "0,1/255", *DATA),
    "source": (
        *("attack", "--kind", "fgsm", "--models", "y=mine:other", "--source", "x=mine:net"),
        *("--strength", "0,1/255", *DATA),
    ),
    "heatmap": ("heatmap", "x=mine:net", "--size", "3", *DATA),
    "recover": (
        *("recover", "--source", "x=mine:net", "--networks", "y=mine:other", "--kind", "fgsm"),
        *("--compressions", "0.5", "--bits", "4", *DATA),
    ),
}
EDITS = {
    "sign": ("+self", "-self"),
    "attribute": ("30.0", "20.0"),
    "gradient": ("pixels + 0 * pixels.detach()", "pixels.detach() + 0 * pixels"),
}
WITH_GRADIENTS = ("attack", "source", "recover")


@pytest.fixture(autouse=True)
def _own_model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # an edit can keep the time and size of the file
    write(MODEL)


def write(text: str) -> None:
    Path("mine.py").write_text(text)


def edit(name: str) -> None:
    write(MODEL.replace(*EDITS[name]))


def call(*arguments: str) -> int:
    sys.modules.pop("mine", None)
    with pytest.raises(SystemExit) as exit_:
        main([*arguments])
    return int(exit_.value.code or 0)


def results(folder: Path) -> pd.DataFrame:
    (file,) = folder.glob("*.csv")
    frame = pd.read_csv(file)
    return frame.drop(columns="seconds", errors="ignore")


def folders() -> list[str]:
    return sorted(entry.name for entry in Path("runs").iterdir())


@pytest.mark.parametrize(
    ("command", "name"),
    [("noise", "attribute"), *((c, "sign") for c in COMMANDS), *((c, "gradient") for c in WITH_GRADIENTS)],
)
def test_an_edited_model_is_measured_in_a_new_folder(command: str, name: str) -> None:
    assert call(*COMMANDS[command]) == 0
    (first,) = folders()
    edit(name)
    assert call(*COMMANDS[command]) == 0
    assert folders() == [first, f"{first}-2"]
    assert call(*COMMANDS[command], "--out", "new") == 0
    pd.testing.assert_frame_equal(results(Path("runs") / f"{first}-2"), results(Path("new")))
    write(MODEL)
    assert call(*COMMANDS[command]) == 0
    assert folders() == [first, f"{first}-2"]


@pytest.mark.parametrize("model", DOUBTFUL.values(), ids=DOUBTFUL)
def test_code_counts_where_answers_do_not_identify_a_model(model: str) -> None:
    text = f"{MODEL}\n{model}"
    write(text)
    assert call(*COMMANDS["noise"]) == 0
    (first,) = folders()
    write(f"# a comment\n{text}")
    assert call(*COMMANDS["noise"]) == 0
    assert folders() == [first]
    write(text.replace("[1.0] * 10", "[1.0] * 9 + [1.001]").replace("scale = 0, 1.0", "scale = 0, 1.01"))
    assert call(*COMMANDS["noise"]) == 0
    assert folders() == [first, f"{first}-2"]


@pytest.mark.parametrize("command", COMMANDS)
def test_an_out_with_the_run_of_another_model_is_refused(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(*COMMANDS[command], "--out", "here") == 0
    before = {path.name: path.read_bytes() for path in Path("here").iterdir()}
    edit("sign")
    capsys.readouterr()
    assert call(*COMMANDS[command], "--out", "here") == 2
    assert capsys.readouterr().err.splitlines()[-1] == (
        "Error: --out: got here, but x answers differently than when this run was made; choose another folder"
    ).replace("but x", f"but {'--source ' if command == 'source' else ''}x")
    assert before == {path.name: path.read_bytes() for path in Path("here").iterdir()}


@pytest.mark.parametrize("command", WITH_GRADIENTS)
def test_an_out_with_the_run_of_other_gradients_is_refused(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(*COMMANDS[command], "--out", "here") == 0
    edit("gradient")
    capsys.readouterr()
    assert call(*COMMANDS[command], "--out", "here") == 2
    name = "--source x" if command == "source" else "x"
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"Error: --out: got here, but {name} has other gradients than when this run was made; "
        "choose another folder"
    )


@pytest.mark.parametrize("command", ["noise", "heatmap"])
def test_an_edit_of_the_gradient_changes_no_run_without_gradients(command: str) -> None:
    assert call(*COMMANDS[command]) == 0
    edit("gradient")
    assert call(*COMMANDS[command]) == 0
    assert len(folders()) == 1


def stop_at_second(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str) -> None:
    act, calls = getattr(owner, name), []

    def stopping(*given: Any, **named: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return act(*given, **named)

    monkeypatch.setattr(owner, name, stopping)


PIECES = {
    "noise": (Run, "add"),
    "attack": (Run, "add"),
    "source": (Run, "add"),
    "heatmap": (heatmap, "predictions"),
    "recover": (recovery, "recover"),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_an_interrupted_run_is_not_continued_with_an_edited_model(
    command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = COMMANDS[command] + (("--batch-size", "12") if command == "heatmap" else ())
    with monkeypatch.context() as patch:
        stop_at_second(patch, *PIECES[command])
        assert call(*arguments) == 130
    (first,) = folders()
    edit("sign")
    assert call(*arguments) == 0
    assert call(*arguments, "--out", "new") == 0
    pd.testing.assert_frame_equal(results(Path("runs") / f"{first}-2"), results(Path("new")))
    write(MODEL)
    assert call(*arguments) == 0
    assert folders() == [first, f"{first}-2"]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_finished_run_without_answers_is_shown(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert call(*COMMANDS[command], "--out", "here") == 0
    record = Record.read(Path("here"))
    record.answers, record.flags = {}, {}
    record.write(Path("here"))
    measure = {"heatmap": (heatmap, "_measure"), "recover": (recovery, "craft")}
    owner, name = measure.get(command, (sweep, "run_cells"))
    monkeypatch.setattr(owner, name, None)  # measures nothing
    assert call(*COMMANDS[command], "--out", "here") == 0


def test_models_that_change_each_others_weights_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    shared = (
        "\nbackbone = Net()\n\n\nclass Wrapper(Other):\n    def __init__(self):\n        super().__init__()\n"
    )
    shared += "        self.inner = backbone\n\n\ndef full():\n    return Wrapper()\n\n\ndef pruned():\n"
    write(f"{MODEL}{shared}    backbone.weight.data[:5] = 0\n    return Wrapper()\n")
    command = [*COMMANDS["noise"]]
    command[2] = "a=mine:full,b=mine:pruned"
    assert call(*command) == 2
    assert "model 'a': its weights changed while another model was loaded" in capsys.readouterr().err
    command[2] = "a=mine:full,b=mine:full"
    assert call(*command) == 0
