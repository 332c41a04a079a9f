"""``blrobust attack`` from the command line, on stand-in models."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import stand_in
import torch

from blrobust.attacks.guard import Reason
from blrobust.cli import main, options
from blrobust.store import Run


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """Replace models and images by two small networks and 250 images of 6 x 6; see what was asked."""
    asked: dict[str, Any] = {}

    def load(**options_given: Any) -> options.Subjects:
        asked.update(options_given)
        images = stand_in.dataset(250, channels=3)
        if options_given["limit"] is not None:
            images = images.take(options_given["limit"])
        models = [stand_in.model("a", seed=1, channels=3), stand_in.model("b", seed=2, channels=3)]
        return options.Subjects(models, images, torch.device("cpu"))

    monkeypatch.setattr(options, "load", load)
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
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    return lines[0]


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
        expected = {Reason.NOT_ATTACKED} if level == 0 else {Reason.ADVERSARIAL, Reason.NOT_ADVERSARIAL}
        assert set(outcome["reason"].tolist()) <= expected


def test_rows_do_not_depend_on_the_batch_size(loaded: dict[str, Any], tmp_path: Path) -> None:
    for size in ("1", "1000"):
        attack("--strength", "5,20", "--draws", "2", "--batch-size", size, "--out", size)
    small, large = rows(tmp_path / "1"), rows(tmp_path / "1000")
    assert small.keys() == large.keys()
    for key, outcome in small.items():
        for name, values in outcome.items():
            np.testing.assert_array_equal(values, large[key][name])


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
    assert run.config["space"] == "legacy"
    assert run.config["command"] == "attack"
    run.close()


def test_the_published_space_is_cifar10s(
    loaded: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    load = options.load

    def other(**options_given: Any) -> options.Subjects:
        subjects = load(**options_given)
        images = dataclasses.replace(subjects.dataset, name="svhn", mean=(0.4, 0.4, 0.4))
        return dataclasses.replace(subjects, dataset=images)

    monkeypatch.setattr(options, "load", other)
    assert "svhn" in failure(capsys, "--kind", "pixel", "--strength", "1", "--legacy")


def test_an_unknown_kind_names_the_legal_ones(capsys: pytest.CaptureFixture[str]) -> None:
    message = failure(capsys, "--kind", "nonsense")
    assert "'nonsense'" in message
    assert " pixel," in message
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
