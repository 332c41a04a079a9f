"""Answers that are no function of one image: runs repeat bit for bit, and tables and reports show flags."""

import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from blrobust.cli import main
from blrobust.evaluation import heatmap, recovery
from blrobust.runs.run import Run

MODELS = """
import random

import numpy as np
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, change):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(10, 3, generator=torch.Generator().manual_seed(0)))
        self.change = change

    def forward(self, pixels):
        return 30 * self.change(pixels).mean((2, 3)) @ self.weight.T


def plain():
    return Net(lambda x: x)


SOURCES = {
    "torch": lambda x: nn.functional.dropout2d(x, 0.5),
    "numpy": lambda x: x * torch.from_numpy(np.random.rand(len(x), 3, 1, 1)).float(),
    "python": lambda x: x * torch.tensor([[[[random.random()]] for _ in range(3)] for _ in x]),
}


def by_torch():
    return Net(SOURCES["torch"])


def by_numpy():
    return Net(SOURCES["numpy"])


def by_python():
    return Net(SOURCES["python"])


def by_all():
    return Net(lambda x: sum(change(x) for change in SOURCES.values()))


def batch():
    return Net(lambda x: nn.functional.batch_norm(x, None, None, training=True))


# Draws from a generator of its own, at every third call.
class Own(Net):
    def __init__(self):
        super().__init__(lambda x: x)
        self.source = np.random.default_rng(0)
        self.calls = 0

    def forward(self, pixels):
        self.calls += 1
        return super().forward(pixels) + (self.calls % 3 == 0) * float(self.source.random())


# Returns other answers after twenty calls.
class Tires(Net):
    def __init__(self):
        super().__init__(lambda x: x)
        self.calls = 0

    def forward(self, pixels):
        self.calls += 1
        return super().forward(pixels) * (1 if self.calls <= 20 else -1)


def without_gradients():
    return Net(lambda x: x.detach())


def nan():
    return Net(lambda x: torch.where((x < 0) | (x > 1), torch.nan, x))
"""
DATA = ("--dataset", "cifar10-sample", "--limit", "12", "--device", "cpu")


def commands(model: str) -> dict[str, tuple[str, ...]]:
    return {
        "noise": ("noise", "--models", model, "--sigma", "0,0.3,1", "--draws", "2", *DATA),
        "attack": (
            "attack",
            "--kind",
            "fgsm,apgd-targeted,pixel",
            "--models",
            model,
            "--set",
            "steps=3",
            *DATA,
        ),
        "transfer": (
            *("attack", "--kind", "pgd-linf,deepfool-l2", "--models", f"{model},p=mine:plain"),
            *("--source", model, "--set", "steps=3", *DATA),
        ),
        "heatmap": ("heatmap", model, "--size", "3", "--batch-size", "24", *DATA),
        "recover": (
            *("recover", "--source", model, "--networks", "p=mine:plain", "--kind", "fgsm,bim-linf"),
            *("--compressions", "0.5", "--bits", "4", *DATA),
        ),
    }


PIECES = {
    "noise": (Run, "add", 3),
    "attack": (Run, "add", 8),
    "transfer": (Run, "add", 9),
    "heatmap": (heatmap, "predictions", 2),
    "recover": (recovery, "recover", 2),
}


@pytest.fixture(autouse=True)
def _own_models(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    Path("mine.py").write_text(MODELS)


def call(*arguments: str) -> int:
    sys.modules.pop("mine", None)
    with pytest.raises(SystemExit) as exit_:
        main([*arguments])
    return int(exit_.value.code or 0)


def results(folder: str) -> pd.DataFrame:
    (file,) = Path(folder).glob("*.csv")
    return pd.read_csv(file).drop(columns="seconds", errors="ignore")


@pytest.mark.parametrize(
    ("command", "source"),
    [("noise", "by_torch"), ("noise", "by_numpy"), ("noise", "by_python"), *((c, "by_all") for c in PIECES)],
)
def test_a_random_model_repeats_bit_for_bit_also_when_resumed(
    command: str, source: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = commands(f"r=mine:{source}")[command]
    assert call(*arguments, "--out", "whole") == 0
    owner, name, last = PIECES[command]
    act, calls = getattr(owner, name), []

    def stopping(*given: Any, **named: Any) -> Any:
        calls.append(1)
        if len(calls) == last:
            raise KeyboardInterrupt
        return act(*given, **named)

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, stopping)
        assert call(*arguments, "--out", "resumed") == 130
    capsys.readouterr()
    assert call(*arguments, "--out", "resumed") == 0
    assert "answers are random" in capsys.readouterr().out
    assert "answers are random" in next(Path("resumed").glob("*.html")).read_text("utf-8")
    pd.testing.assert_frame_equal(results("whole"), results("resumed"))
    with Run.open(Path("whole")) as whole, Run.open(Path("resumed")) as resumed:
        for cell in whole.done():
            for key, values in whole.outcome(*cell).items():
                assert values.tobytes() == resumed.outcome(*cell)[key].tobytes(), (cell, key)


@pytest.mark.parametrize("model", ["Own", "Tires"])
@pytest.mark.parametrize("command", PIECES)
def test_a_model_that_keeps_something_between_calls_is_flagged(
    command: str, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):  # measured, and shown again
        assert call(*commands(f"b=mine:{model}")[command], "--out", "run") == 0
        assert "answers are random" in capsys.readouterr().out
        assert "answers are random" in next(Path("run").glob("*.html")).read_text("utf-8")


@pytest.mark.parametrize("command", PIECES)
def test_a_model_that_depends_on_the_batch_is_flagged(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(*commands("b=mine:batch")[command], "--out", "run") == 0
    assert "answers depend on the batch" in capsys.readouterr().out
    assert "answers depend on the batch" in next(Path("run").glob("*.html")).read_text("utf-8")


def test_doubts_about_a_source_are_flagged(capsys: pytest.CaptureFixture[str]) -> None:
    models = ("--models", "p=mine:plain,q=mine:plain", "--source", "b=mine:batch", "--kind", "fgsm")
    assert call("attack", *models, *DATA, "--out", "run") == 0
    page = (Path("run") / "report.html").read_text("utf-8")
    for text in (capsys.readouterr().out, page):
        assert text.count("source: answers depend on the batch") == 2


@pytest.mark.parametrize(("model", "folders"), [("plain", 1), ("batch", 2)])
def test_a_batch_size_makes_another_run_where_answers_depend_on_the_batch(model: str, folders: int) -> None:
    arguments = commands(f"m=mine:{model}")["noise"]
    for options in ((), ("--batch-size", "5"), ("--batch-size", "1000")):
        assert call(*arguments, *options) == 0
    assert len(list(Path("runs").iterdir())) == folders


@pytest.mark.parametrize("command", PIECES)
def test_a_plain_model_has_no_flags(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(*commands("q=mine:plain")[command], "--out", "run") == 0
    assert "answers" not in capsys.readouterr().out
    assert (results("run").not_finite == 0).all()


def test_answers_that_are_not_finite_under_noise_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(*commands("n=mine:nan")["noise"], "--out", "run") == 0
    frame = results("run")
    assert frame.columns[-1] == "not_finite"
    assert frame.not_finite.tolist() == [0, 23, 24]  # 12 images, 2 draws; one stays within [0, 1]
    assert frame.accuracy.tolist()[1:] == [0, 0]
    assert "47 answers not finite" in capsys.readouterr().out
    assert "47 answers not finite" in (Path("run") / "report.html").read_text("utf-8")


def test_an_ensemble_of_which_square_alone_runs_is_flagged_in_a_recovery(
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("pyautoattack")
    networks = ("--source", "p=mine:plain", "--networks", "w=mine:without_gradients,q=mine:by_torch")
    channels = ("--compressions", "0.5", "--bits", "4", "--kind", "autoattack-linf")
    assert call("recover", *networks, *channels, *DATA, "--out", "run") == 0
    page = (Path("run") / "report.html").read_text("utf-8")
    for text in (capsys.readouterr().out, page):
        assert text.count("no gradients, square only") == text.count("square only") == 1
    source = ("--source", "w=mine:without_gradients", "--networks", "p=mine:plain")
    assert call("recover", *source, *channels, *DATA, "--out", "source") == 0
    page = (Path("source") / "report.html").read_text("utf-8")
    for text in (capsys.readouterr().out, page):
        assert text.count("source: no gradients, source: square only") == 3
        assert text.count("square only") == 5  # and of the two channels in front of the source


def test_another_seed_draws_other_numbers_inside_the_model() -> None:
    arguments = commands("r=mine:by_numpy")["noise"]
    outcomes = []
    for seed in ("0", "1"):
        assert call(*arguments, "--seed", seed, "--out", seed) == 0
        with Run.open(Path(seed)) as run:
            outcomes.append(run.outcome("r", "gaussian", 0.0, 0)["prediction"].tolist())
    assert outcomes[0] != outcomes[1]
