"""An attack that does not fit is refused before anything runs; one that fails costs no other."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from support import odd_models
from support.messages import error

from blrobust.cli import main
from blrobust.evaluation import sweep
from blrobust.runs.run import Run

WHITE = "odd=support.odd_models:FailsOnWhite"
TWO = "two=support.odd_models:two_classes"


@pytest.fixture(autouse=True)
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two sets of twelve images, of three classes and of two, in the working directory."""
    monkeypatch.chdir(tmp_path)
    pixels = np.random.default_rng(0).uniform(0.2, 0.8, (12, 3, 6, 6)).astype(np.float32)
    with torch.no_grad():
        labels = odd_models.Plain()(torch.from_numpy(pixels)).argmax(1).numpy()
    np.savez("three.npz", x=pixels, y=labels, classes=np.array(["a", "b", "c"]))
    np.savez("two.npz", x=pixels, y=labels.clip(max=1), classes=np.array(["a", "b"]))


def attack(words: str, *, code: int = 2) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["attack", *words.split(), "--device", "cpu", "--out", "run"])
    assert exit_.value.code == code


@pytest.mark.parametrize(
    ("kinds", "told"),
    [
        (
            "apgd-targeted,fgsm",
            "'apgd-targeted': got 2 classes; legal: at least 4; legal for these",
        ),
        ("apgd-dlr", "'apgd-dlr': got 2 classes; legal: at least 3"),
        ("suite:standard", "at least 4; legal for these images: apgd-ce,fmn-linf,square-linf"),
    ],
)
def test_too_few_classes_are_refused_before_the_start(
    kinds: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    attack(f"--kind {kinds} --models {TWO} --dataset npz:two.npz --strength 0,0.1")
    assert told in error(capsys.readouterr().err)
    assert not Path("run").exists()


def test_recover_refuses_too_few_classes(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(f"recover --kind apgd-dlr --source {TWO} --networks x={TWO[4:]} --dataset npz:two.npz".split())
    assert exit_.value.code == 2
    assert "'apgd-dlr': got 2 classes; legal: at least 3" in error(capsys.readouterr().err)


def test_autoattack_names_the_members_that_fit(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("pyautoattack")
    command = f"--kind autoattack-linf --models {TWO} --dataset npz:two.npz --strength 0,0.1"
    attack(command)
    line = error(capsys.readouterr().err)
    change = "autoattack-linf.attacks=apgd-ce+fab-t+square"
    assert f"give the parameter {change}" in line
    attack(f"{command} --set {change} --set steps=2,queries=3", code=0)


def test_a_kind_that_fails_costs_no_other(capsys: pytest.CaptureFixture[str]) -> None:
    attack(f"--kind fgsm,gaussian,mifgsm --models {WHITE} --dataset npz:three.npz")
    printed = capsys.readouterr()
    line = printed.err.strip().splitlines()[-1]
    assert line.startswith("Error: gaussian failed: model 'odd'")
    assert "model 'odd' at gaussian 0.08: failed on 12 images: ValueError: a white pixel" in line
    assert "report: run/report.html" in printed.out
    assert "fgsm" in Path("run/report.html").read_text()
    assert "mifgsm" in Path("run/results.csv").read_text()
    with Run.open(Path("run")) as stored:
        done = {kind for _, kind, _, _ in stored.done()}
        levels = {kind: len([cell for cell in stored.done() if cell[1] == kind]) for kind in done}
        assert not stored.finished
    assert levels["fgsm"] > 1
    assert levels["mifgsm"] > 1


PLAIN = "plain=support.odd_models:Plain"
OTHER = "other=support.odd_models:NoGrad"


def errors(stderr: str) -> list[str]:
    return [line for line in stderr.splitlines() if line.startswith("Error: ")]


@pytest.mark.parametrize("order", [(WHITE, PLAIN, OTHER), (PLAIN, WHITE, OTHER), (PLAIN, OTHER, WHITE)])
def test_a_model_that_fails_costs_no_other(
    order: tuple[str, ...], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    command = f"--kind mifgsm,fgsm,pgd-linf --models {','.join(order)} --dataset npz:three.npz"
    command += " --strength 0,0.9"
    attack(command)
    printed = capsys.readouterr()
    lines = errors(printed.err)
    assert [line.rpartition(":")[0].partition(" failed on")[0].rpartition(" ")[0] for line in lines] == [
        f"Error: {kind} failed: model 'odd' at {kind}" for kind in ("mifgsm", "fgsm", "pgd-linf")
    ]
    assert all("failed on 12 images: ValueError: a white pixel" in line for line in lines)
    assert lines[-1].endswith("; the other results are in run")
    assert "report: run/report.html" in printed.out
    with Run.open(Path("run")) as stored:
        assert not stored.finished
        for model in ("plain", "other"):
            assert {k for m, k, at, _ in stored.done() if m == model and at == 0.9} == {*stored.kinds}
        # A report of what works shows the doubts too.
        assert stored.record.flags["other"] == ["no gradients"]
    assert "no gradients" in Path("run/report.html").read_text("utf-8")
    rows = pd.read_csv("run/results.csv")
    assert set(rows[rows.model != "odd"].level) == {0, 0.9}
    monkeypatch.setattr(odd_models.FailsOnWhite, "forward", odd_models.Plain.forward)
    attack(command, code=0)
    whole = pd.read_csv("run/results.csv")
    kept = pd.merge(rows[rows.model != "odd"], whole, how="left", indicator=True)  # not measured again
    assert len(kept) == 2 * 3 * 2
    assert (kept._merge == "both").all()


def test_under_noise_too_a_model_that_fails_costs_no_other(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(f"noise --models {WHITE},{PLAIN} --dataset npz:three.npz --sigma 0,1 --out run".split())
    assert exit_.value.code == 2
    printed = capsys.readouterr()
    (line,) = errors(printed.err)
    assert line.startswith("Error: gaussian failed: model 'odd' at gaussian 1: failed on 12 images")
    assert "plain" in printed.out
    assert "report: run/report.html" in printed.out


def test_where_all_fails_there_is_a_line_each_and_no_report(capsys: pytest.CaptureFixture[str]) -> None:
    fails = "a=support.odd_models:Fails,b=support.odd_models:Fails"
    attack(f"--kind fgsm,gaussian --models {fails} --dataset npz:three.npz")
    printed = capsys.readouterr()
    assert [line.partition(" failed")[0] for line in errors(printed.err)] == [
        f"Error: models 'a', 'b' at {kind} 0:" for kind in ("fgsm", "gaussian")
    ]
    assert "report" not in printed.out


def recover(words: str, *, code: int) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["recover", *words.split(), *["--dataset", "npz:three.npz", "--device", "cpu", "--out", "run"]])
    assert exit_.value.code == code


@pytest.mark.parametrize("kinds", ["fgsm,deepfool-l2", "deepfool-l2,fgsm"])
def test_recover_goes_on_after_a_kind_that_fails(
    kinds: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    command = f"--source {WHITE} --networks x={PLAIN[6:]} --kind {kinds} --compressions 0.5 --bits 4"
    command += " --strength 0.9"
    recover(command, code=2)
    printed = capsys.readouterr()
    (line,) = errors(printed.err)
    assert line.startswith("Error: fgsm failed: model 'odd' failed on 12 images: ValueError: a white pixel")
    assert line.endswith("; the other results are in run")
    assert "report: run/report.html" in printed.out
    assert "Unfinished:" in Path("run/report.html").read_text("utf-8")
    before = pd.read_csv("run/results.csv")
    assert before.attack.tolist() == ["deepfool-l2"] * 3
    monkeypatch.setattr(odd_models.FailsOnWhite, "forward", odd_models.Plain.forward)
    recover(command, code=0)
    after = pd.read_csv("run/results.csv")
    assert after.attack.tolist() == [kind for kind in kinds.split(",") for _ in range(3)]
    again = after[after.attack == "deepfool-l2"].reset_index(drop=True)
    pd.testing.assert_frame_equal(again, before)
    assert "Unfinished:" not in Path("run/report.html").read_text("utf-8")


def test_recover_goes_on_after_a_channel_that_fails(capsys: pytest.CaptureFixture[str]) -> None:
    networks = f"--networks {WHITE},y={PLAIN[6:]} --compressions 0.5 --bits 4"
    recover(f"--source {PLAIN} {networks} --kind fgsm,deepfool-l2 --strength 0.9", code=2)
    (line,) = errors(capsys.readouterr().err)
    assert line.startswith("Error: fgsm with odd failed: model 'odd' failed on 12 images: ValueError")
    frame = pd.read_csv("run/results.csv")
    channels = ["low-pass 0.5", "4 bits"]
    assert frame.channel.tolist() == [*channels, "y", *channels, "odd", "y"]


def test_recover_ends_where_all_fails(capsys: pytest.CaptureFixture[str]) -> None:
    command = "--source a=support.odd_models:Fails --networks x=support.odd_models:Fails"
    recover(f"{command} --kind fgsm,mifgsm", code=2)
    lines = errors(capsys.readouterr().err)
    assert [line.partition(" failed:")[0] for line in lines] == ["Error: fgsm", "Error: mifgsm"]


def test_a_report_of_some_kinds_is_replaced_by_that_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    command = f"--kind fgsm,gaussian --models {WHITE} --dataset npz:three.npz"
    attack(command)
    before = Path("run/report.html").read_text()
    monkeypatch.setattr(odd_models.FailsOnWhite, "forward", odd_models.Plain.forward)
    attack(command, code=0)
    with Run.open(Path("run")) as stored:
        assert stored.finished
    assert Path("run/report.html").read_text() != before


def test_a_kind_without_any_result_is_left_out_of_the_report(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    measure = sweep.run_cells

    def run_cells(run: Run, perturbation: Any, *arguments: Any, **options: Any) -> dict[str, str]:
        if perturbation.kind == "gaussian":
            return {"odd": "0.08: planted"}
        return measure(run, perturbation, *arguments, **options)

    monkeypatch.setattr(sweep, "run_cells", run_cells)
    attack(f"--kind gaussian,fgsm --models {WHITE} --dataset npz:three.npz")
    printed = capsys.readouterr()
    line = "Error: gaussian failed: model 'odd' at gaussian 0.08: planted; the other results are in run"
    assert line in printed.err
    assert "report: run/report.html" in printed.out


@pytest.mark.parametrize("model", ["fp32", WHITE, "named"])
def test_labels_from_1_are_pointed_out(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    with np.load("three.npz") as archive:
        names = {"classes": archive["classes"]} if model == "named" else {}
        np.savez("one.npz", x=archive["x"], y=archive["y"] + 1, **names)
    attack(f"--kind fgsm --models {'fp32' if model == 'named' else model} --dataset npz:one.npz")
    assert "classes count from 0" in error(capsys.readouterr().err)


def test_a_model_that_fails_costs_no_other_heat_map(capsys: pytest.CaptureFixture[str]) -> None:
    words = f"heatmap {WHITE},x=support.odd_models:Plain --size 3 --dataset npz:three.npz --device cpu"
    for _ in range(2):
        with pytest.raises(SystemExit) as exit_:
            main([*words.split(), "--out", "run"])
        assert exit_.value.code == 2
        printed = capsys.readouterr()
        (line,) = errors(printed.err)
        assert line.startswith("Error: model 'odd': failed on ")
        assert "ValueError: a white pixel" in line
        assert line.endswith("; the other results are in run")
        assert "report: run/report.html" in printed.out
        frame = pd.read_csv("run/results.csv")
        assert set(frame.model) == {"x"}
        assert "Heat map of the errors of x" in Path("run/report.html").read_text("utf-8")
        assert json.loads(Path("run/run.json").read_text())["finished"] is None


def test_no_heat_map_of_models_that_all_fail(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(f"heatmap {WHITE} --size 3 --dataset npz:three.npz --device cpu --out run".split())
    assert exit_.value.code == 2
    (line,) = errors(capsys.readouterr().err)
    assert line.startswith("Error: model 'odd': failed on ")
    assert not Path("run/results.csv").exists()


@pytest.mark.parametrize("order", [("d", "plain"), ("plain", "d")])
def test_a_model_that_fails_at_every_level_has_no_curve(
    order: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    names = {"d": "d=support.odd_models:Doubles", "plain": PLAIN}
    models = ",".join(names[name] for name in order)
    attack(f"--kind fgsm --models {models} --dataset npz:three.npz --strength 0,0.1")
    (line,) = errors(capsys.readouterr().err)
    assert "model 'd' at fgsm 0: returned logits of shape (12, 6) for 12 images; legal: (12, 3)" in line
    page = Path("run/report.html").read_text("utf-8")
    assert re.search(r"<title>plain, [^<]*: \d", page)
    assert not re.search(r"<title>d, ", page)
