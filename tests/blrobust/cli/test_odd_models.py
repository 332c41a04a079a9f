"""Every command measures whatever returns logits under a plain `model(x)`, or fails in one line."""

import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from support import odd_models
from support.messages import error
from support.odd_models import ODD, WITHOUT_GRADIENTS
from support.plain_model import write_images

from blrobust.attacks.status import NO_GRADIENTS, Status
from blrobust.cli import main
from blrobust.runs.run import Run

COMMANDS = {
    "noise": "noise --sigma 0,0.5 --models MODELS",
    "decision": "attack --kind pixel --strength 0,9 --models MODELS",
    "score": "attack --kind square-linf --strength 0,0.1 --set queries=5 --models MODELS",
    "gradient": "attack --kind pgd-linf --strength 0,0.05 --set steps=2 --models MODELS",
    "heatmap": "heatmap MODELS --size 3",
    "recover": "recover --kind fgsm --source MODELS --networks x=support.odd_models:Plain "
    "--compressions 0.5 --bits 4",
}
# Of results.csv of a recovery.
COLUMNS = (
    *("attack", "strength", "source", "kind", "channel", "effective_compression", "n", "right", "fooled"),
    *("recovered", "clean", "adaptive", "recovered_share", "ci_low", "ci_high", "distortion", "adaptive_l2"),
    *("not_finite", "rejected", "source_rejected"),
)
NO_SOURCE = "source: no gradients, source: 10 rejected"  # all images that the source classifies correctly


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve images with the labels that the plain model predicts, but for two."""
    path = tmp_path_factory.mktemp("images") / "images.npz"
    write_images(path)
    return path


def run(
    command: str,
    names: Iterable[str],
    images: Path,
    folder: Path,
    patch: pytest.MonkeyPatch,
    *options: str,
    out: str = "run",
) -> int:
    patch.chdir(folder)
    models = ",".join(f"{name}=support.odd_models:{name}" for name in names)
    words = COMMANDS[command].replace("MODELS", models).split()
    with pytest.raises(SystemExit) as exit_:
        main([*words, "--dataset", f"npz:{images}", "--device", "cpu", "--out", out, *options])
    code: int = exit_.value.code
    return code


@pytest.mark.parametrize("command", sorted({*COMMANDS} - {"recover"}))
def test_every_command_measures_every_model(
    command: str,
    images: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert run(command, ODD, images, tmp_path, monkeypatch) == 0, capsys.readouterr().err
    is_attack = COMMANDS[command].startswith("attack")
    logged = [line for line in caplog.messages if "has no gradients" in line]
    assert len(logged) == (len(WITHOUT_GRADIENTS) if is_attack else 0)
    if command == "noise":
        with Run.open(tmp_path / "run") as stored:
            right = {name: int(stored.correct(name, "gaussian", 0).sum()) for name in ODD}
        # Others have other weights, and a few round to 16 or 8 bits.
        assert min(right[name] for name in {*ODD} - {"Parameterless", "lazy"}) >= 9, right
    if command == "gradient":
        with Run.open(tmp_path / "run") as stored:
            for name in ODD:
                reasons = stored.outcome(name, "pgd-linf", 0.05, 0)["reason"].tolist()
                lacks = name in WITHOUT_GRADIENTS
                assert (NO_GRADIENTS in stored.record.flags[name]) == lacks, name
                assert (Status.RAISED in reasons) == lacks, name
                assert lacks or Status.ADVERSARIAL in reasons, name


@pytest.mark.parametrize("name", ["InPlace", "Caches", "TakesGradients", "exported", "int8", "unused_meta"])
def test_labels_are_recovered_from_every_model(
    name: str,
    images: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert run("recover", [name], images, tmp_path, monkeypatch) == 0, capsys.readouterr().err
    logged = [line for line in caplog.messages if "has no gradients" in line]
    assert len(logged) == (name in WITHOUT_GRADIENTS)


@pytest.mark.parametrize(
    ("kind", "source", "network", "wanted"),
    [
        ("fgsm", "NoGrad", "Plain", [NO_SOURCE + ", no gradients"] * 2 + [NO_SOURCE]),
        ("fgsm", "Plain", "NoGrad", ["", "", "no gradients, FOOLED rejected"]),
        ("fgsm", "Plain", "Plain", ["", "", ""]),
        ("square-linf", "NoGrad", "NoGrad", ["", "", ""]),
    ],
)
def test_missing_gradients_are_flagged_where_labels_are_recovered(
    kind: str,
    source: str,
    network: str,
    wanted: list[str],
    images: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    words = f"recover --kind {kind} --source s=support.odd_models:{source} --compressions 0.5 --bits 4"
    others = f"--networks x=support.odd_models:{network} --dataset npz:{images} --device cpu --out run"
    with pytest.raises(SystemExit) as exit_:
        main([*words.split(), *others.split()])
    assert exit_.value.code == 0
    printed, page = capsys.readouterr().out, (tmp_path / "run" / "report.html").read_text("utf-8")
    rows = [
        re.split(r"\s{2,}", line.strip())  # a table in a pipe
        for line in printed.splitlines()
        if line.startswith(("low-pass 0.5", "4 bits", "x "))
    ]
    flags = [{"-": ""}.get(row[7], row[7]) if len(row) > 7 else "" for row in rows]
    frame = pd.read_csv(tmp_path / "run" / "results.csv")
    assert tuple(frame.columns) == COLUMNS
    # Both models have the same weights, so that the network is right on all fooled images.
    assert flags == [flag.replace("FOOLED", str(frame.fooled[0])) for flag in wanted], printed
    assert "no gradients" not in page or any(wanted)
    assert "nan" not in printed
    if source == "NoGrad" and kind == "fgsm":  # nothing was found, so that there is nothing to average
        assert frame.fooled.tolist() == [0, 0, 0]
        assert frame[["distortion", "adaptive_l2"]].isna().all(axis=None)
        assert all(row[1] == row[6] == "-" for row in rows)
        assert "source: no gradients" in page


def test_a_model_that_remembers_its_answers_is_attacked_behind_a_channel(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    found = {}
    for name in ("Plain", "Remembers"):
        words = f"recover --kind pgd-linf --strength 0.05 --source s=support.odd_models:{name}"
        others = f"--compressions 0.5 --bits 4 --networks x=support.odd_models:Plain --out {name}"
        with pytest.raises(SystemExit) as exit_:
            main([*words.split(), *others.split(), "--dataset", f"npz:{images}", "--device", "cpu"])
        assert exit_.value.code == 0
        found[name] = pd.read_csv(tmp_path / name / "results.csv")
        printed = capsys.readouterr().out
        rows = [row for row in printed.splitlines() if row.startswith(("low-pass 0.5", "4 bits", "x "))]
        of_rows = ["zero gradient" in row for row in rows]
        assert of_rows == [name == "Remembers"] * 3, printed
        assert ("source: zero gradient" in printed) == (name == "Remembers")
    columns = ["fooled", "recovered", "clean", "adaptive", "rejected", "source_rejected"]
    pd.testing.assert_frame_equal(found["Plain"][columns], found["Remembers"][columns])


@pytest.mark.parametrize("command", ["noise", "decision", "heatmap", "recover"])
@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("Fails", "RuntimeError: no more than two"),
        ("Exits", "SystemExit: no more than two"),
        ("Cancels", "Cancelled: "),
        ("Full", "choose a smaller batch size: no more than two"),
        ("Doubles", "returned logits of shape (12, 6) for 12 images; legal: (12, 3)"),
    ],
)
def test_an_error_of_the_model_is_one_line(
    command: str,
    name: str,
    told: str,
    images: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(command, [name], images, tmp_path, monkeypatch) == 2
    line = error(capsys.readouterr().err)
    assert f"model {name!r}" in line or (name == "Full" and command in ("heatmap", "recover"))
    assert told in line


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("EqualsAll", "TypeError: unhashable type"),
        ("HidesParameters", "RuntimeError: the parameters are secret"),
        ("NotInitialised", "AttributeError: "),
    ],
)
def test_a_module_that_cannot_be_loaded_is_one_line(
    name: str,
    told: str,
    images: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run("noise", [name], images, tmp_path, monkeypatch) == 2
    line = error(capsys.readouterr().err)
    assert f"model {name!r} fails on images (3, 6, 6): {told}" in line


def test_weights_that_cannot_be_read_are_named_with_the_error(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("noise", ["HidesState"], images, tmp_path, monkeypatch) == 2
    line = error(capsys.readouterr().err)
    assert line.endswith("cannot be read: RuntimeError: the state is secret")


@pytest.mark.parametrize("command", ["noise", "decision", "gradient"])
def test_a_model_that_refuses_other_inputs_than_the_images_is_measured(
    command: str, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["FailsOnBlack", "BatchStatistics", "Incomparable"]
    assert run(command, names, images, tmp_path, monkeypatch) == 0


def test_a_model_of_one_image_is_measured_in_batches_of_one(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("noise", ["OnlyOne"], images, tmp_path, monkeypatch) == 2
    hint = "ValueError: one image at a time; a batch size of 1 would give it no more than before"
    assert error(capsys.readouterr().err).endswith(f"model 'OnlyOne' failed on 2 images: {hint}")
    assert run("noise", ["OnlyOne"], images, tmp_path, monkeypatch, "--batch-size", "1") == 0


def test_two_factories_of_one_module_are_refused(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("noise", ["shared", "shared_again"], images, tmp_path, monkeypatch) == 2
    line = error(capsys.readouterr().err)
    assert "models 'shared' and 'shared_again': support.odd_models:shared and" in line
    assert line.endswith("returned the same module; legal: a module for each")


@pytest.mark.parametrize("name", ["CancelsBackward", "CancelsLargeBackward", "ExitsGenerator"])
def test_any_error_of_a_backward_pass_is_a_failure_of_the_attack(
    name: str, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("gradient", [name], images, tmp_path, monkeypatch) == 0
    with Run.open(tmp_path / "run") as stored:
        reasons = stored.outcome(name, "pgd-linf", 0.05, 0)["reason"].tolist()
    # Attacks that fail on many images run again on a few.
    assert (Status.RAISED in reasons) == (name != "CancelsLargeBackward")


@pytest.mark.parametrize("command", COMMANDS)
def test_a_model_gets_no_more_images_at_once_than_asked(
    command: str,
    images: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(command, ["Few"], images, tmp_path, monkeypatch) == 2
    hint = "more than five images; a batch size of 2 would give it no more than before"
    assert f"failed on 12 images: AssertionError: {hint}" in error(capsys.readouterr().err)
    tables = []
    for name, size in (("Few", "5"), ("Few", "4"), ("Plain", "auto")):
        monkeypatch.setattr(odd_models, "model", getattr(odd_models, name), raising=False)
        folder = f"{name}{size}"
        code = run(command, ["model"], images, tmp_path, monkeypatch, "--batch-size", size, out=folder)
        assert code == 0, capsys.readouterr().err
        assert "answers" not in capsys.readouterr().out
        (table,) = (tmp_path / folder).glob("*.csv")
        tables.append(pd.read_csv(table).drop(columns="seconds", errors="ignore"))
    for other in tables[1:]:
        pd.testing.assert_frame_equal(tables[0], other, rtol=1e-5)


def test_several_tensors_that_can_be_logits_are_refused(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("noise", ["ReturnsTwo"], images, tmp_path, monkeypatch) == 2
    line = error(capsys.readouterr().err)
    assert "model 'ReturnsTwo' returns dict of 2 matrices, none called 'logits', for two images" in line
    assert line.endswith("images.npz wants (2, 3)")


def test_an_interrupt_stays_one(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("noise", ["Interrupts"], images, tmp_path, monkeypatch) == 130


@pytest.mark.parametrize("kind", ["autoattack-linf", "autoattack-l2"])
def test_of_autoattack_square_runs_where_there_are_no_gradients(
    kind: str,
    images: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    pytest.importorskip("pyautoattack")
    strength = {"autoattack-linf": "0,0.1", "autoattack-l2": "0,1"}[kind]
    budget = f"attack --kind {kind} --strength {strength} --set queries=50,steps=2 --models MODELS"
    results = {}
    for name, members in (("whole", "apgd-ce+square"), ("square", "square"), ("none", "apgd-ce")):
        monkeypatch.setitem(COMMANDS, "attack", f"{budget} --set attacks={members}")
        assert run("attack", ["NoGrad", "Plain"], images, tmp_path, monkeypatch, out=name) == 0
        page = (tmp_path / name / "report.html").read_text("utf-8")
        for text in (capsys.readouterr().out, page):
            assert text.count("square only") == (name != "none")
        with Run.open(tmp_path / name) as stored:
            results[name] = stored.outcome("NoGrad", kind, stored.levels(kind)[1], 0)
    notes = [line for line in caplog.messages if line.startswith(kind)]
    assert notes == [f"{kind}: of its attacks only square runs on model 'NoGrad'"] * 2
    assert results["whole"]["success"].any()
    for key, values in results["whole"].items():
        assert np.array_equal(values, results["square"][key], equal_nan=True), key
    assert (results["none"]["reason"] == Status.RAISED).sum() == 10


@pytest.mark.parametrize("kind", ["gaussian", "hopskipjump", "boundary", "autoattack-linf"])
def test_a_model_that_seeds_generators_weakens_no_attack(
    kind: str, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    budget = {
        "hopskipjump": " --set steps=2",
        "boundary": " --set steps=50",
        "autoattack-linf": " --set attacks=square,queries=30",
    }
    words = f"attack --kind {kind} --strength 0,0.3 --models MODELS{budget.get(kind, '')}"
    if kind == "autoattack-linf":
        pytest.importorskip("pyautoattack")
    monkeypatch.setitem(COMMANDS, "attack", words)
    outcomes = []
    for name in ("Plain", "Seeds", "SeedsOnMany", "SeedsByClock"):
        monkeypatch.setattr(odd_models, "model", getattr(odd_models, name), raising=False)
        assert run("attack", ["model"], images, tmp_path, monkeypatch, out=name) == 0
        with Run.open(tmp_path / name) as stored:
            outcomes.append(stored.outcome("model", kind, stored.levels(kind)[-1], 0))
            assert stored.record.flags == {"model": []}
    for other in outcomes[1:]:
        for key, values in outcomes[0].items():
            assert np.array_equal(values, other[key], equal_nan=True), key
