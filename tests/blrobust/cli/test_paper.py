import json
import re
from pathlib import Path

import pandas as pd
import pytest

from blrobust import deadline, reports
from blrobust.cli import main, paper_cifar10, paper_training
from blrobust.errors import FailedPartsError
from blrobust.evaluation.cell_measurement import CellMeasurement
from blrobust.experiments import cifar10, execution, speed
from blrobust.experiments.step import Step
from blrobust.runs.record import Record

SMALL = ("--dataset", "cifar10-sample", "--limit", "4")


@pytest.fixture(autouse=True)
def _own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BLROBUST_WEIGHTS", str(tmp_path / "weights"))


@pytest.fixture
def steps(monkeypatch):
    """Four small steps in place of those of the paper."""
    two = ("fp32", "fft85")
    found = [
        Step("gaussian", "noise", "Fig. 6", two, 4, 2, options={"noise": {"gaussian": [0, 1]}}),
        Step("mismatch", "mismatch", "Fig. 5", ("fp32@0", "fp32@85"), 3, 1, options=cifar10.CLEAN),
        Step("fgsm", "attacks", "attacks", two, 2, 4, options={"attacks": {"fgsm": [0, 0.1]}}),
        Step(
            *("recovery", "attacks", "section 6.2.12", two, 2, 20, "recover"),
            {"attacks": ["fgsm"], "compressions": [0.5], "bits": [4]},
        ),
    ]
    monkeypatch.setattr(cifar10, "measurements", lambda models, **_: list(found))
    monkeypatch.setattr(reports, "document", Pages(), raising=False)
    return found


class Pages:
    """Reports without figures, in place of the module `reports.document`."""

    def render(self, views, destination):
        destination.write_text(",".join(view.run.path.name for view in views))


def call(capsys, *arguments):
    with pytest.raises(SystemExit) as exit_:
        main(["paper", *arguments])
    out, err = capsys.readouterr()
    return exit_.value.code, out, err


def test_other_band_limits_than_in_the_training(capsys):
    given = ["mismatch", "fp32,fft50", "fft85", "--test-rates", "50", *SMALL, "--out", "here"]
    code, out, _ = call(capsys, *given)
    assert code == 0
    names = ["fp32@0", "fp32@50", "fft50@0", "fft50@50", "fft85@0", "fft85@50"]
    assert list(pd.read_csv("here/results.csv").model) == names
    assert [line.split()[0] for line in out.splitlines()[1:5]] == ["trained", "fp32", "fft50", "fft85"]
    assert [card.tested_at for card in Record.read(Path("here")).models] == [0, 50] * 3
    assert "Trained by tested" in Path("here/report.html").read_text("utf-8")
    code, out, err = call(capsys, *given)
    assert "(6 of 6 cells done before)" in err


def test_models_of_ones_own_at_other_band_limits(capsys):
    code, _, err = call(capsys, "mismatch", "a=missing.safetensors", "--test-rates", "50", *SMALL)
    assert (code, "there is no file" in err or "missing.safetensors" in err) == (2, True)
    code, _, err = call(capsys, "mismatch", "a=mine:net", *SMALL)
    assert (code, "@NN only after a file" in err) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("mismatch", "--models: got none"),
        ("mismatch fp32 --models fp32", "--models: got fp32 beside the argument"),
        ("mismatch fp32@50", "MODEL: got fp32@50"),
        ("mismatch fp32 --test-rates 0.5", "--test-rates: got 0.5; legal: whole numbers of per cent"),
        ("rates --rates 100", "--rates: got 100"),
        ("rates --rates 10 --arch resnet18", "no weights for fp32, fft10 (resnet18, cifar10)"),
        ("rates --arch resnet7", "resnet7"),
        ("cifar10 --budget 10", "got 10; legal: a time such as 90s, 10m or 1h, or none"),
        ("cifar10 --budget 0s", "got 0s"),
        ("cifar10 --arch resnet18", "--arch: got resnet18; no weights for fp32"),
        ("cifar10 --stage report --out nothing", "--out: got nothing, which has no results yet"),
        ("nothing", "no such command 'nothing'; blrobust paper --help lists the commands"),
        ("mismach", "did you mean mismatch?"),
    ],
)
def test_wrong_arguments_are_one_line(arguments, told, capsys):
    small = ["--dataset", "cifar10-sample", "--device", "cpu"] if " " in arguments else []
    code, out, err = call(capsys, *arguments.split(), *small)
    assert (code, out) == (2, "")
    assert told in err.splitlines()[-1]


def test_clean_accuracy_by_band_limit(capsys):
    code, out, err = call(capsys, "rates", "--rates", "10,50", *SMALL, "--out", "here")
    assert code == 0
    assert list(pd.read_csv("here/results.csv").model) == ["fp32", "fft50"]
    assert err.splitlines()[0] == (
        "no weights for fft10 (resnet20, cifar10); train them with: blrobust train fft10"
    )
    assert "Not measured in this run" not in out
    assert "<h1>Clean accuracy by band limit</h1>" in Path("here/report.html").read_text("utf-8")


def test_compact_transforms(capsys):
    code, out, _ = call(
        capsys, "rates", "--rates", "85", "--fft-size", "compact", *SMALL, "--dry-run", "--json"
    )
    assert (code, json.loads(out)["measurement"]) == (0, "fp32, fft85-compact x 4 images")


def test_models_without_weights_are_trained_first(capsys, monkeypatch):
    trained = []
    monkeypatch.setattr(paper_training, "train", lambda names, **_: trained.extend(names))
    code, _, err = call(capsys, "rates", "--rates", "10", "--train", *SMALL)
    assert trained == ["fft10"]
    assert (code, "model 'fft10' has no weights" in err) == (2, True)  # nothing was really trained


def test_trainings_with_the_same_steps_run_together(monkeypatch):
    calls = []
    monkeypatch.setattr(paper_training.command, "main", lambda given, *, standalone_mode: calls.append(given))
    from blrobust.data import datasets

    sample = datasets.load("cifar10-sample")
    names = ["fp32", "fp32-early", "fft10-seed1", *(f"fft{rate}" for rate in range(10, 60, 10))]
    paper_training.train(names, arch="resnet20", dataset=sample, data_dir=Path("x"), device="cpu")
    assert [given[0] for given in calls] == [
        *("fp32,fft10-seed1,fft10,fft20,fft30,fft40", "fft50", "fp32-early"),
    ]
    assert calls[0][1:] == [
        *("--arch", "resnet20", "--dataset", "cifar10", "--device", "cpu", "--resume", "--data-dir", "x"),
    ]


def test_all_experiments(steps, capsys):
    given = ["cifar10", *SMALL, "--out", "here", "--budget", "1h"]
    code, out, err = call(capsys, *given)
    assert code == 0
    assert out.splitlines() == ["report: here/recovery/report.html", "report: here/report.html"]
    assert Path("here/report.html").read_text() == "gaussian,mismatch,fgsm"
    assert Path("here/recovery/report.html").read_text() == "recovery"
    plan = err.splitlines()
    assert plan[0].startswith("plan: 60 min 0 s for everything, ")
    assert re.fullmatch(r"  gaussian \(Fig\. 6\): fp32, fft85, 4 images: \d+ s", plan[1])
    assert plan[5] == (
        "no weights for fft10, fft20, fft30, fft40 (resnet20, cifar10); "
        "train them with: blrobust train fft10,fft20,fft30,fft40"
    )
    assert {path.name for path in Path("here").iterdir()} == {
        *("gaussian", "mismatch", "fgsm", "recovery", "report.html"),
    }
    code, out, err = call(capsys, *given, "--json")
    assert json.loads(out) == {
        "folder": "here",
        "reports": ["here/recovery/report.html", "here/report.html"],
        "runs": ["here/gaussian", "here/mismatch", "here/fgsm", "here/recovery"],
    }
    assert "(4 of 4 cells done before)" in err


def test_a_stage_and_the_report_alone(steps, capsys):
    assert call(capsys, "cifar10", *SMALL, "--out", "here", "--stage", "mismatch", "-q")[:2] == (0, "here\n")
    assert [path.name for path in Path("here").iterdir() if path.is_dir()] == ["mismatch"]
    Path("here/report.html").unlink()
    code, out, err = call(capsys, "cifar10", *SMALL, "--out", "here", "--stage", "report")
    assert (code, out, err) == (0, "report: here/report.html\n", "")


def test_a_dry_run_writes_nothing(steps, capsys):
    code, out, err = call(capsys, "cifar10", *SMALL, "--dry-run")
    assert (code, err) == (0, "")
    assert "-> runs/paper-cifar10-resnet20-4" in out.splitlines()[0]
    assert not Path("runs").exists()
    code, out, _ = call(capsys, "cifar10", *SMALL, "--dry-run", "--json")
    found = json.loads(out)
    assert [step["name"] for step in found["steps"]] == [step.name for step in steps]
    assert found["left_out"] == []


def test_what_does_not_fit_is_named(steps, capsys, monkeypatch):
    monkeypatch.setattr(speed.Speed, "seconds", lambda self, step: 40.0 if step.name == "fgsm" else 1.0)
    _, out, _ = call(capsys, "cifar10", *SMALL, "--dry-run", "--budget", "50s")
    assert out.splitlines()[-3:-1] == ["left out for the time:", "  all of fgsm, at least 40 s"]


def test_at_the_deadline_the_report_is_written_and_the_next_call_continues(steps, capsys, monkeypatch):
    measure = CellMeasurement.__call__

    def late(self, model, *, levels, draw, meter):
        if self._perturbation.kind == "fgsm":
            raise deadline.DeadlineError
        return measure(self, model, levels=levels, draw=draw, meter=meter)

    monkeypatch.setattr(CellMeasurement, "__call__", late)
    given = ["cifar10", *SMALL, "--out", "here"]
    code, out, err = call(capsys, *given)
    assert (code, out) == (0, "report: here/report.html\n")
    assert "the time is up during fgsm; the same command continues there" in err
    assert Path("here/report.html").read_text() == "gaussian,mismatch"
    monkeypatch.setattr(CellMeasurement, "__call__", measure)
    code, out, err = call(capsys, *given)
    assert code == 0
    assert Path("here/report.html").read_text() == "gaussian,mismatch,fgsm"


def test_what_was_begun_keeps_its_images_and_models(steps, capsys, monkeypatch):
    assert call(capsys, "cifar10", *SMALL, "--out", "here", "--stage", "noise")[0] == 0
    steps[0] = Step("gaussian", "noise", "Fig. 6", ("fp32", "fft50"), 2, 2, options=steps[0].options)
    code, _, err = call(capsys, "cifar10", *SMALL, "--out", "here", "--stage", "noise")
    assert code == 0
    assert "  gaussian (Fig. 6): fp32, fft85, 4 images: 0 s" in err.splitlines()


def test_a_failed_part_does_not_stop_the_others(steps, capsys, monkeypatch):
    measure = execution.measure

    def fails(step, *given):
        if step.name == "gaussian":
            raise FailedPartsError(["model 'fft85' at sigma 1 failed"])
        return measure(step, *given)

    monkeypatch.setattr(execution, "measure", fails)
    code, out, err = call(capsys, "cifar10", *SMALL, "--out", "here", "--stage", "mismatch")
    assert code == 0
    code, out, err = call(capsys, "cifar10", *SMALL, "--out", "here")
    assert (code, out) == (2, "")
    assert err.splitlines()[-1] == "Error: model 'fft85' at sigma 1 failed; the other results are in here"
    assert Path("here/report.html").read_text() == "mismatch,fgsm"


def test_the_report_has_its_share_of_the_time():
    assert paper_cifar10.REPORT_SHARE * 60 < paper_cifar10.REPORT < paper_cifar10.ON_A_CPU
