"""``blrobust attack`` from the command line, on stand-in models."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from support import stand_in
from support.messages import error

from blrobust.analysis import attack_results
from blrobust.analysis.run_analysis import RunAnalysis
from blrobust.attacks.status import Status
from blrobust.cli import main
from blrobust.evaluation import subjects
from blrobust.models import zoo
from blrobust.runs.run import Run


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """Replace models and images by two small networks and 250 images of 6 x 6; see what was asked."""
    asked: dict[str, Any] = {}

    def load(**options_given: Any) -> subjects.Subjects:
        asked.update(options_given)
        images = stand_in.dataset(250, channels=3)
        if options_given["limit"] is not None:
            images = images.take(options_given["limit"])
        models = [stand_in.model("a", seed=1, channels=3), stand_in.model("b", seed=2, channels=3)]
        return subjects.Subjects(models, images, torch.device("cpu"))

    monkeypatch.setattr(subjects, "load", load)
    monkeypatch.chdir(tmp_path)
    return asked


def attack(*arguments: str) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["attack", "--kind", "pixel", *arguments])
    assert exit_.value.code == 0


def failure(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as exit_:
        main(["attack", *arguments])
    assert exit_.value.code == 2
    return error(capsys.readouterr().err)


def rows(path: Path) -> dict[tuple[str, float, int], dict[str, np.ndarray]]:
    run = Run.open(path)
    outcomes = {
        (model, level, draw): run.outcome(model, "pixel", level, draw)
        for model in run.models
        for level in run.levels("pixel")
        for draw in range(run.draws)
    }
    run.close()
    return outcomes


def test_a_run_holds_every_outcome(loaded: dict[str, Any], tmp_path: Path) -> None:
    attack("--strength", "0:36:9", "--out", "run")
    assert loaded["models"] == "fp32,fp16,fft50,fft85"
    assert (tmp_path / "run" / "report.html").is_file()
    outcomes = rows(tmp_path / "run")
    assert {level for _, level, _ in outcomes} == {0, 9, 18, 27, 36}
    labels = stand_in.dataset(250, channels=3).labels.numpy()
    for (_, level, _), outcome in outcomes.items():
        assert (outcome["forwards"] == 1).all()
        assert (outcome["distance"] <= level).all()
        wrong = outcome["prediction"] != labels
        assert (outcome["success"] == (wrong & (level > 0))).all()
        expected = {Status.NOT_ATTACKED} if level == 0 else {Status.ADVERSARIAL, Status.NOT_ADVERSARIAL}
        assert set(outcome["reason"].tolist()) <= expected


def test_rows_do_not_depend_on_the_batch_size(loaded: dict[str, Any], tmp_path: Path) -> None:
    for size in ("1", "1000", "auto"):
        attack("--strength", "5,20", "--draws", "2", "--batch-size", size, "--out", size)
    small = rows(tmp_path / "1")
    for other in (rows(tmp_path / "1000"), rows(tmp_path / "auto")):
        assert small.keys() == other.keys()
        for key, outcome in small.items():
            for name, values in outcome.items():
                if name in ("margin", "probability_label", "probability_prediction"):  # last bits may differ
                    np.testing.assert_allclose(values, other[key][name], rtol=2e-3, atol=1e-5)
                else:
                    np.testing.assert_array_equal(values, other[key][name])


def test_draws_and_seeds_differ(loaded: dict[str, Any], tmp_path: Path) -> None:
    attack("--strength", "18", "--draws", "2", "--out", "zero")
    attack("--strength", "18", "--seed", "1", "--out", "one")
    zero, one = rows(tmp_path / "zero"), rows(tmp_path / "one")
    first = zero["a", 18.0, 0]["distance"], zero["a", 18.0, 0]["prediction"]
    for other in (zero["a", 18.0, 1], one["a", 18.0, 0]):
        assert (first[1] != other["prediction"]).any()


def test_a_limit_runs_only_so_many_images(loaded: dict[str, Any], tmp_path: Path) -> None:
    attack("--strength", "0:36:18", "--limit", "4", "--out", "few")
    assert {len(outcome["prediction"]) for outcome in rows(tmp_path / "few").values()} == {4}


def test_legacy_rows_say_so(loaded: dict[str, Any], tmp_path: Path) -> None:
    attack("--strength", "9", "--legacy", "--limit", "20", "--out", "published")
    run = Run.open(tmp_path / "published")
    assert run.config.space == "legacy"
    assert run.config.command == "attack"
    run.close()


def test_the_published_space_is_cifar10s(
    loaded: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    load = subjects.load

    def other(**options_given: Any) -> subjects.Subjects:
        found = load(**options_given)
        images = dataclasses.replace(found.dataset, name="svhn", mean=(0.4, 0.4, 0.4))
        return dataclasses.replace(found, dataset=images)

    monkeypatch.setattr(subjects, "load", other)
    assert "svhn" in failure(capsys, "--kind", "pixel", "--strength", "1", "--legacy")


def test_an_unknown_kind_names_the_legal_ones(capsys: pytest.CaptureFixture[str]) -> None:
    message = failure(capsys, "--kind", "nonsense")
    assert "'nonsense'" in message
    assert "'blrobust attacks' lists them" in message
    assert "--kind" in failure(capsys)


@pytest.mark.parametrize(
    ("strength", "named"),
    [("0.5", "0.5"), ("0:1", "0.05"), ("37", "37"), ("2:0", "2:0"), ("-1", "-1"), ("nan", "nan"), ("x", "x")],
)
def test_illegal_strengths_are_one_line(
    loaded: dict[str, Any], strength: str, named: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert named in failure(capsys, "--kind", "pixel", "--strength", strength)
    assert not list(tmp_path.iterdir())


def test_too_many_pixels_name_those_there_are(
    loaded: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    message = failure(capsys, "--kind", "pixel")  # the default grid is for larger images
    assert "strength 50" in message
    assert "36" in message


# Several attacks in one run


def several(*arguments: str) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["attack", *arguments])
    assert exit_.value.code == 0


def test_several_attacks_share_a_run_and_a_worst_case(
    loaded: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kinds = "fgsm,pgd-linf,deepfool-linf"
    several("--kind", kinds, "--limit", "12", "--set", "steps=3", "--out", "run")
    told = capsys.readouterr().out
    assert all(f"{kind}, pixel space" in told for kind in kinds.split(","))
    assert "worst case of the 3 attacks" in told
    with Run.open(tmp_path / "run") as run:
        assert run.kinds == kinds.split(",")
        assert run.config.kinds["pgd-linf"].parameters["steps"] == 3
        frame = RunAnalysis(run).worst_case
        for model in run.models:
            right = [run.correct(model, kind, run.levels(kind)[-1])[0] for kind in run.kinds]
            everything = frame[(frame.norm == "any") & (frame.model == model)].accuracy.item()
            assert everything == np.logical_and.reduce(right).mean()
            level = run.levels("fgsm")[-1]  # 8/255
            at = [  # what breaks within less counts too
                run.correct(model, kind, lower)[0]
                for kind in run.kinds
                for lower in run.levels(kind)
                if 0 < lower <= level
            ]
            shared = frame[(frame.norm == "Linf") & (frame.model == model) & (frame.level == level)]
            assert shared.accuracy.item() == np.logical_and.reduce(at).mean()
            assert shared.attacks.item() == 3
            of_norm = frame[(frame.norm == "Linf") & (frame.model == model)]
            assert of_norm.level.is_monotonic_increasing
            assert of_norm.accuracy.is_monotonic_decreasing
    page = (tmp_path / "run" / "report.html").read_text()
    assert "Accuracy under 3 attacks" in page
    assert "Worst case" in page
    assert page.count(">The attack</h3>") == 3


def test_the_terminal_compares_with_the_baseline(
    loaded: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    several("--kind", "fgsm,pgd-linf", "--limit", "12", "--out", "run")
    told = capsys.readouterr().out
    assert told.count("against a") == 2
    assert told.count("Too few images: with 12 images and ") == 2
    with Run.open(tmp_path / "run") as run:
        row = RunAnalysis(run).kinds["fgsm"].summary.set_index("model").loc["b"]
    assert f"better at {round(row.better * 5)} of 5 levels," in told
    message = failure(capsys, "--kind", "fgsm", "--limit", "12", "--out", "run", "--baseline", "c")
    assert "--baseline: got 'c'; legal: fp32, fp16, fft50, fft85" in message


def test_one_search_is_the_same_at_any_grid(loaded: dict[str, Any], tmp_path: Path) -> None:
    found = {}
    for grid in ("0,0.01,1", "1"):
        several("--kind", "deepfool-l2", "--strength", grid, "--limit", "8", "--out", grid)
        with Run.open(tmp_path / grid) as run:
            found[grid] = {model: run.outcome(model, "deepfool-l2", 1.0, 0) for model in run.models}
    for model, outcome in found["1"].items():
        np.testing.assert_array_equal(outcome["minimal"], found["0,0.01,1"][model]["minimal"])


def test_adversarials_are_kept_with_their_places(loaded: dict[str, Any], tmp_path: Path) -> None:
    several("--kind", "pixel", "--strength", "18", "--limit", "20", "--save-adversarials", "--out", "run")
    data = stand_in.dataset(250, channels=3).take(20)
    clean = data.pixels(slice(0, 20), torch.device("cpu"))
    with Run.open(tmp_path / "run") as run:
        for model in run.models:
            kept = load_file(tmp_path / "run" / "adversarials" / "pixel" / model / "18-0.safetensors")
            success = run.outcome(model, "pixel", 18, 0)["success"]
            assert kept["indices"].tolist() == np.flatnonzero(success).tolist()
            changed = (kept["pixels"] != clean[kept["indices"]]).any(1).flatten(1).sum(1)
            assert (changed > 0).all()
            assert (changed <= 18).all()


def test_every_label_keeps_its_adversarials(
    loaded: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = ["a/b", "a_b", "A_B", "l" * 300]

    def load(**given: Any) -> subjects.Subjects:
        models = [stand_in.model(label, seed=seed, channels=3) for seed, label in enumerate(labels)]
        return subjects.Subjects(models, stand_in.dataset(60, channels=3), torch.device("cpu"))

    monkeypatch.setattr(subjects, "load", load)
    several("--kind", "fgsm", "--strength", "0.3", "--save-adversarials", "--out", "run")
    several("--kind", "fgsm", "--strength", "0.3", "--save-adversarials", "--out", "run")
    assert [path.name for path in (tmp_path / "run" / "adversarials").iterdir()] == ["fgsm"]
    folders = {}
    for folder in (tmp_path / "run" / "adversarials" / "fgsm").iterdir():
        with safe_open(folder / "0.3-0.safetensors", "numpy") as file:
            folders[file.metadata()["model"]] = folder.name, file.get_tensor("indices")
    assert [folders[label][0] for label in labels[:3]] == ["a%2Fb", "a_b", "%41_%42"]
    with Run.open(tmp_path / "run") as run:
        for label in labels:
            success = run.outcome(label, "fgsm", 0.3, 0)["success"]
            assert success.any()
            np.testing.assert_array_equal(folders[label][1], np.flatnonzero(success))


def test_adversarials_that_cannot_be_kept_any_more_are_one_line(
    loaded: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--kind", "pixel", "--strength", "0,18", "--limit", "4", "--out"]
    several(*arguments, "without")
    capsys.readouterr()
    assert "--save-adversarials" in failure(capsys, *arguments, "without", "--save-adversarials")
    several(*arguments, "with", "--save-adversarials")
    several(*arguments, "with", "--save-adversarials")  # a finished run that has them is printed


def test_a_folder_named_with_capitals_is_found(
    loaded: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def load(**given: Any) -> subjects.Subjects:
        model = stand_in.model("Net", seed=1, channels=3)
        return subjects.Subjects([model], stand_in.dataset(4, channels=3), torch.device("cpu"))

    monkeypatch.setattr(subjects, "load", load)
    arguments = ["--kind", "fgsm", "--strength", "0.3", "--save-adversarials", "--out", "run"]
    several(*arguments)
    folder = tmp_path / "run" / "adversarials" / "fgsm" / "%4Eet"
    folder = folder.rename(folder.with_name("Net"))
    several(*arguments)
    folder.rename(folder.with_name("other"))
    capsys.readouterr()
    assert "has no inputs of 'Net'" in failure(capsys, *arguments)


def test_levels_that_print_alike_keep_a_file_each(loaded: dict[str, Any], tmp_path: Path) -> None:
    grid = "0.1234567,0.12345678"
    several("--kind", "fgsm", "--strength", grid, "--limit", "4", "--save-adversarials", "--out", "run")
    names = {path.name for path in (tmp_path / "run" / "adversarials" / "fgsm" / "a").iterdir()}
    assert names == {"0-0.safetensors", "0.1234567-0.safetensors", "0.12345678-0.safetensors"}


def test_passes_of_one_search_add_up(loaded: dict[str, Any], tmp_path: Path) -> None:
    several("--kind", "deepfool-l2", "--strength", "0.01,0.1,1", "--limit", "8", "--out", "run")
    with Run.open(tmp_path / "run") as run:
        for model in run.models:
            first, *levels = run.levels("deepfool-l2")
            assert run.forwards(model, "deepfool-l2", first) == 8, "clean images, once each"
            spent = run.outcome(model, "deepfool-l2", 1.0, 0)["forwards"].sum()
            assert sum(run.forwards(model, "deepfool-l2", level) for level in levels) == spent


def test_a_worst_case_needs_all_attacks_at_its_level(loaded: dict[str, Any], tmp_path: Path) -> None:
    """An attack of the suite runs at fewer strengths: where it did not run, the others would look worst."""
    several("--kind", "fgsm,pgd-linf", "--strength", "0,1/255,4/255", "--limit", "12", "--out", "run")
    with Run.open(tmp_path / "run") as run:
        kinds = RunAnalysis(run).kinds
        strengths = kinds["fgsm"].levels
        kinds["pgd-linf"].levels = [strengths[0], strengths[2]]
        frame = attack_results.worst_case(kinds)
    assert set(frame[frame.norm == "Linf"].level) == {strengths[2]}


def test_strengths_that_count_different_things_share_no_worst_case(
    loaded: dict[str, Any], tmp_path: Path
) -> None:
    several("--kind", "rotation,translation,spatial,spatial-random", "--limit", "4", "--out", "run")
    with Run.open(tmp_path / "run") as run:
        frame = RunAnalysis(run).worst_case
    spatial = frame[frame.norm != "any"]
    assert set(spatial.norm) == {"share of 30 degrees and 3 pixels"}
    assert set(spatial.attacks) == {2}


def test_what_a_source_gives_away_is_tried_on_all(
    loaded: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, other = (stand_in.model(name, seed=seed, channels=3) for name, seed in (("a", 1), ("b", 2)))
    monkeypatch.setattr(zoo, "load", lambda name, **_: source)
    several("--kind", "fgsm", "--strength", "0.02", "--limit", "40", "--source", "fp32", "--out", "run")
    data = stand_in.dataset(250, channels=3).take(40)
    pixels = data.pixels(slice(0, 40), torch.device("cpu")).requires_grad_()
    logits = source.module(pixels)
    torch.nn.functional.cross_entropy(logits, data.labels, reduction="sum").backward()
    moved = (pixels + 0.02 * pixels.grad.sign()).clamp(0, 1).detach()
    attacked = logits.argmax(1) == data.labels
    moved = torch.where(attacked.view(-1, 1, 1, 1), moved, pixels.detach())
    with Run.open(tmp_path / "run") as run:
        assert run.config.source.label == "a"
        for model in (source, other):
            wanted = model.module(moved).argmax(1).numpy()
            np.testing.assert_array_equal(run.outcome(model.label, "fgsm", 0.02, 0)["prediction"], wanted)


def test_a_sample_that_does_not_fit_into_memory_ends_the_run(
    loaded: dict[str, Any], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("foolbox.attacks.LinfPGD.run", lambda *_, **__: torch.empty(1 << 46))
    arguments = "--kind pgd-linf --strength 1 --limit 20 --out run"
    with pytest.raises(SystemExit) as exit_:
        main(["attack", *arguments.split()])
    assert exit_.value.code == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("Error")]
    assert len(errors) == 1
    assert "cpu has too little free memory" in errors[0]


class Linear(torch.nn.Module):
    """Three classes of about as many images each."""

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        weight = torch.randn(3 * 6 * 6, 3, generator=torch.Generator().manual_seed(0))
        return (pixels - 0.5).flatten(1) @ weight


def test_images_of_the_target_are_no_failures_of_the_attack(
    loaded: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their label is the class to aim at; they stay in the accuracy and leave the share of successes."""
    images = stand_in.dataset(40, channels=3)
    labels = Linear()(images.pixels(slice(None))).argmax(1)
    labels[:6] = (labels[:6] + 1) % 3  # wrong without an attack
    images = dataclasses.replace(images, labels=labels)
    model = stand_in.model("a", channels=3)
    model.module = Linear().eval()
    found = subjects.Subjects([model], images, torch.device("cpu"))
    monkeypatch.setattr(subjects, "load", lambda **_: found)
    several("--kind", "gen", "--target", "1", "--strength", "0.1,0.3", "--out", "run")
    with Run.open(tmp_path / "run") as run:
        (found,) = RunAnalysis(run).attacks.to_dict("records")
        first, last = (run.outcome("a", "gen", level, 0) for level in (0.1, 0.3))
    right = np.arange(40) >= 6
    own = labels.numpy() == 1
    assert ((last["reason"] == Status.IS_TARGET) == own).all()
    assert found["accuracy"][0.3] == np.mean(right & ~last["success"])
    sought = right & ~own
    assert 0 < last["success"][sought].mean() == found["success"]
    broken = np.sort(np.where(first["success"], 0.1, np.where(last["success"], 0.3, np.inf))[sought])
    assert found["median"] == broken[(len(broken) - 1) // 2]
    assert found["success"] > last["success"][right].mean()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ("--kind fgsm,pgd-l2 --strength 0:1", "'0:1'"),
        ("--kind fgsm --target 1", "targeted"),
        ("--kind uniform --legacy", "blrobust noise --kind uniform --legacy"),
        ("--kind suite:nothing", "suite:quick"),
        ("--kind fgsm --set speed=3", "speed"),
        ("--kind square-linf --set share=2", "got share=2.0; legal"),
        ("--kind hopskipjump --set stepsize_search=foo", "geometric_progression, grid_search"),
        ("--kind deepfool-l2 --set loss=nonsense", "logits, crossentropy"),
        ("--kind fourier --set row=40 --strength 0.1", "row"),
        ("--kind simba-dct --set frequencies=40 --strength 1 --limit 20", "frequencies=40'; legal"),
    ],
)
def test_what_does_not_go_together_is_one_line(
    arguments: str, named: str, loaded: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert named in failure(capsys, *arguments.split())


def test_the_table_of_attacks(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["attacks", "pgd*"])
    assert exit_.value.code == 0
    told = capsys.readouterr().out
    assert "pgd-linf" in told
    assert "Madry et al. 2018" in told
    assert "pixel " not in told
    with pytest.raises(SystemExit) as exit_:
        main(["attacks", "none*"])
    assert exit_.value.code == 2


def test_an_attack_that_fails_on_every_image_is_not_robustness(
    loaded: dict[str, Any],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("blrobust.attacks.gradient.deepfool.L2DeepFool.run", lambda *_: [][0])
    several("--kind", "deepfool-l2", "--limit", "8", "--out", "run")
    told = capsys.readouterr().out
    with Run.open(tmp_path / "run") as run:
        right = {model: int(run.correct(model, "deepfool-l2", 0)[0].sum()) for model in run.models}
    assert all(f"{count} rejected" in told for count in right.values())


def test_a_transfer_says_so_and_nothing_of_the_published_sign(
    loaded: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("blrobust.models.zoo.load", lambda *_, **__: stand_in.model("a", seed=1, channels=3))
    several("--kind", "fgsm", "--strength", "0.1", "--limit", "8", "--source", "fp32", "--out", "run")
    assert "n = 8, one draw, found on a" in capsys.readouterr().out
    page = (tmp_path / "run" / "report.html").read_text()
    assert "the inputs were found on a and tested on every model (transfer)" in page
    assert "published result" not in page


@pytest.mark.parametrize(("columns", "strengths"), [("60", 2), ("80", 3), ("200", 6)])
def test_a_narrow_terminal_has_fewer_strengths_and_no_cut_numbers(
    columns: str,
    strengths: int,
    loaded: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    several("--kind", "pgd-linf", "--strength", "0,1/255,2/255,3/255,4/255,8/255,16/255", "--limit", "4")
    capsys.readouterr()
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("NO_COLOR", "1")
    several("--kind", "pgd-linf", "--strength", "0,1/255,2/255,3/255,4/255,8/255,16/255", "--limit", "4")
    header = next(line for line in capsys.readouterr().out.splitlines() if "clean" in line)
    assert header.count("/255") == strengths - 1
    if columns != "60":
        assert "…" not in header
