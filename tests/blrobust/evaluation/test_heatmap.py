"""The Fourier heat map against numpy's transform and a model that sees a low-pass of its input alone."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from support import stand_in
from support.messages import error
from torch import Tensor, nn

from blrobust.analysis.heatmap import ring_bounds, rings
from blrobust.cli import main
from blrobust.errors import UserError
from blrobust.evaluation import heatmap, subjects
from blrobust.perturbations import random_numbers
from blrobust.runs.frequencies import axis_frequencies, canonical, distinct

SIDE = 8


class LowPassed(nn.Module):
    """A random linear classifier of the frequencies max(|k|, |l|) <= keep; numpy's FFT makes the filter."""

    def __init__(self, keep: int) -> None:
        super().__init__()
        frequency = np.abs(np.fft.fftfreq(SIDE, 1 / SIDE))
        mask = np.maximum(frequency[:, None], frequency[None, :]) <= keep
        units = np.eye(SIDE * SIDE).reshape(-1, SIDE, SIDE)
        passed = np.fft.ifft2(np.fft.fft2(units) * mask).real.reshape(SIDE**2, SIDE**2)
        self.filter = torch.from_numpy(passed).float()
        self.weight = torch.randn(3, 3 * SIDE**2, generator=torch.Generator().manual_seed(3))

    def forward(self, pixels: Tensor) -> Tensor:
        return (pixels.flatten(2) @ self.filter).flatten(1) @ self.weight.T


def images(n: int = 30) -> Any:
    """Mid-grey images, so that a small wave is never clipped; the labels are the model's own but for 3."""
    source = torch.Generator().manual_seed(1)
    pixels = torch.randint(100, 156, (n, 3, SIDE, SIDE), generator=source, dtype=torch.uint8)
    labels = LowPassed(2)(pixels / 255).argmax(1)
    labels[:3] = (labels[:3] + 1) % 3
    return dataclasses.replace(stand_in.dataset(n, channels=3), images=pixels, labels=labels)


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    asked: dict[str, Any] = {}

    def load(**given: Any) -> subjects.Subjects:
        asked.update(given)
        data = images() if given["limit"] is None else images().take(given["limit"])
        models = []
        for name in given["models"].split(","):
            model = stand_in.model(name, channels=3)
            model.module = LowPassed(int(name[-1]))
            models.append(model)
        return subjects.Subjects(models, data, torch.device("cpu"))

    monkeypatch.setattr(subjects, "load", load)
    monkeypatch.chdir(tmp_path)
    return asked


def call(*arguments: str) -> int:
    with pytest.raises(SystemExit) as exit_:
        main(["heatmap", *arguments])
    assert isinstance(exit_.value.code, int)
    return exit_.value.code


def test_a_basis_vector_has_norm_one_and_two_frequencies() -> None:
    for height, width in [(8, 8), (7, 6)]:
        size = min(height, width)
        frequencies = distinct(size, height=height, width=width)
        for (k, column), wave in zip(
            frequencies, heatmap.basis(frequencies, height=height, width=width), strict=True
        ):
            assert abs(float(wave.double().norm()) - 1) < 1e-6
            spectrum = np.abs(np.fft.fft2(wave.numpy().astype(np.float64)))
            expected = {(k, column), (-k % height, -column % width)}
            assert {tuple(map(int, f)) for f in np.argwhere(spectrum > 1e-5)} == expected


def test_pairs_share_a_vector_and_the_basis_is_complete() -> None:
    assert len(distinct(31, height=32, width=32)) == (31 * 31 - 1) // 2 + 1
    # (k, l) is its own partner where both are 0 or 16.
    assert len(distinct(32, height=32, width=32)) == (32 * 32 - 4) // 2 + 4
    assert list(axis_frequencies(31)) == list(range(-15, 16))
    assert list(axis_frequencies(32)) == list(range(-16, 16))
    assert canonical(-3, 5, height=32, width=32) == canonical(3, -5, height=32, width=32)


def test_signs_belong_to_the_sample_and_the_frequency() -> None:
    few, many = (distinct(size, height=8, width=8) for size in (3, 8))
    shape = (3, 8, 8)
    whole = heatmap.signs(many, shape=shape, seed=4, samples=range(40))
    part = heatmap.signs(few, shape=shape, seed=4, samples=range(7, 9))
    for place, frequency in enumerate(few):
        assert torch.equal(part[:, place], whole[7:9, many.index(frequency)])
    assert set(whole.unique().tolist()) == {-1, 1}
    assert abs(whole.float().mean()) < 0.05
    assert not torch.equal(heatmap.signs(many, shape=shape, seed=5, samples=range(40)), whole)
    numbers = random_numbers.generator(stream=random_numbers.BASIS, seed=4, draw=0, sample=7).random(
        192, dtype=np.float32
    )
    k, column = many[5]
    expected = np.where(numbers.reshape(8, 8, 3)[k, column] < 0.5, 1, -1)
    assert whole[7, 5].tolist() == expected.tolist()


def test_a_low_pass_model_is_clean_outside_its_band(loaded: dict[str, Any], tmp_path: Path) -> None:
    assert call("low2", "--size", "8", "--norm", "2", "--out", "run") == 0
    frame = pd.read_csv(tmp_path / "run" / "results.csv")
    assert len(frame) == 64
    assert (frame.clean_error == 0.1).all()
    inside = frame[["row", "column"]].abs().max(axis=1) <= 2
    assert (frame.error[~inside] == 0.1).all()
    assert (frame.error[inside] > 0.1).mean() > 0.9
    means = rings(frame)
    assert means.loc["low2", "high"] == pytest.approx(0.1)


def test_errors_are_those_of_one_image_at_a_time(loaded: dict[str, Any], tmp_path: Path) -> None:
    assert call("low1,low4", "--norm", "6", "--limit", "7", "--batch-size", "20", "--out", "run") == 0
    frame = pd.read_csv(tmp_path / "run" / "results.csv")
    assert len(frame) == 2 * 49
    data = images().take(7)
    frequencies = distinct(7, height=8, width=8)
    coins = heatmap.signs(frequencies, shape=(3, 8, 8), seed=0, samples=range(7))
    y, x = np.mgrid[:8, :8]
    for row in frame.sample(20, random_state=0).to_dict("records"):
        wave = np.cos(2 * np.pi * (row["row"] * y + row["column"] * x) / 8)
        wave /= np.linalg.norm(wave)
        place = frequencies.index(canonical(row["row"], row["column"], height=8, width=8))
        wrong = 0
        for i in range(7):
            moved = data.pixels([i])[0].numpy() + 6 * coins[i, place].numpy()[:, None, None] * wave
            pixels = torch.from_numpy(np.clip(moved, 0, 1)).float()[None]
            answer = LowPassed(int(row["model"][-1]))(pixels).argmax()
            wrong += int(answer != data.labels[i])
        assert row["errors"] == wrong
        assert row["error"] == pytest.approx(wrong / 7)


def test_an_interrupted_map_goes_on_where_it_stopped(
    loaded: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = ("low2,low4", "--batch-size", "60", "--norm", "3")
    assert call(*arguments, "--out", "whole") == 0
    measure, passes = heatmap.predictions, []

    def stop(*given: Any, **named: Any) -> Any:
        if len(passes) == 17:
            raise KeyboardInterrupt
        passes.append(given[2])
        return measure(*given, **named)

    monkeypatch.setattr(heatmap, "predictions", stop)
    capsys.readouterr()
    assert call(*arguments, "--out", "stopped") == 130
    interrupted = capsys.readouterr().err.splitlines()[-1]
    assert interrupted.startswith("Interrupted. stopped: ")
    assert interrupted.endswith(" of 50 frequencies done; run the same command again to resume")
    assert not (tmp_path / "stopped" / "results.csv").exists()
    monkeypatch.setattr(heatmap, "predictions", lambda *a, **k: passes.append(a[2]) or measure(*a, **k))
    assert call(*arguments, "--out", "stopped") == 0
    assert len(passes) == 2 * 13  # 25 frequencies, two at a time; none twice
    same = [(tmp_path / name / "results.csv").read_bytes() for name in ("whole", "stopped")]
    assert same[0] == same[1]
    passes.clear()
    assert call(*arguments, "--out", "stopped") == 0
    assert not passes


@pytest.mark.parametrize(("before", "after"), [("60", "210"), ("210", "60"), ("60", "7")])
def test_another_batch_size_goes_on_with_the_same_map(
    loaded: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: str, after: str
) -> None:
    arguments = ("low2,low4", "--norm", "3")
    assert call(*arguments, "--out", "whole") == 0
    measure, places = heatmap.predictions, []

    def stop(*given: Any, **named: Any) -> Any:
        if len(places) >= 5:
            raise KeyboardInterrupt
        places.extend(given[2])
        return measure(*given, **named)

    monkeypatch.setattr(heatmap, "predictions", stop)
    assert call(*arguments, "--batch-size", before) == 130
    monkeypatch.setattr(heatmap, "predictions", lambda *a, **k: places.extend(a[2]) or measure(*a, **k))
    assert call(*arguments, "--batch-size", after) == 0
    assert places == [*range(25)] * 2  # every frequency of both models, once
    (folder,) = (tmp_path / "runs").iterdir()
    assert (folder / "results.csv").read_bytes() == (tmp_path / "whole" / "results.csv").read_bytes()


def test_the_page_is_complete_and_escapes_names(
    loaded: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("<b>$x_2,low4", "--size", "3", "--limit", "5") == 0
    told = capsys.readouterr().out
    assert "<b>$x_2" in told
    (folder,) = (tmp_path / "runs").iterdir()
    page = (folder / "report.html").read_text("utf-8")
    assert "&lt;b&gt;$x_2" in page
    assert "<b>$x_2" not in page
    assert page.count('role="img"') == 3
    for text in (told, page):
        assert "Too few images: with 5 images the intervals are wide. Use 100 or more." in text
    assert "high, 1" in page
    assert "high 1" in told
    assert "-1 down, 1 across: " in page
    assert 'src="http' not in page
    assert 'href="http' not in page
    record = json.loads((folder / "run.json").read_text("utf-8"))
    assert record["config"]["size"] == 3
    assert record["finished"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["low2", "--size", "9"], "--size: got 9; legal: 1 to 8"),
        (["low2", "--size", "0"], "--size"),
        (["low2", "--norm", "nan"], "nan"),
        (["low2", "--norm", "-1"], "--norm"),
        ([], "--models: got none"),
        (["low2", "--out", "full"], "full"),
    ],
)
def test_what_is_illegal_is_one_line(
    loaded: dict[str, Any], arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("full").mkdir()
    Path("full", "file").touch()
    assert call(*arguments) == 2
    assert told in error(capsys.readouterr().err)


def test_a_folder_belongs_to_one_measurement(
    loaded: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("low2", "--size", "3", "--out", "run") == 0
    assert call("low2", "--size", "5", "--out", "run") == 2
    assert "different: size" in capsys.readouterr().err
    file = Path("run/run.json")
    file.write_text(file.read_text().replace('"size": 3', '"size": 5'))
    assert call("low2", "--size", "5", "--out", "run") == 2
    assert "corrupt" in capsys.readouterr().err


def test_the_default_size_is_the_largest_odd_one() -> None:
    assert heatmap.check_size(None, height=32, width=32) == 31
    assert heatmap.check_size(None, height=27, width=30) == 27
    with pytest.raises(UserError, match=r"^size: got 33"):
        heatmap.check_size(33, height=32, width=32)


@pytest.mark.parametrize(
    ("highest", "bounds"),
    [
        (15, {"low": "1 to 5", "middle": "6 to 10", "high": "11 to 15"}),
        (16, {"low": "1 to 5", "middle": "6 to 10", "high": "11 to 16"}),
        (3, {"low": "1", "middle": "2", "high": "3"}),
        (1, {"high": "1"}),
        (0, {}),
    ],
)
def test_the_bounds_of_the_rings_are_those_of_the_map(highest: int, bounds: dict[str, str]) -> None:
    axis = range(-highest, highest + 1)
    frame = pd.DataFrame({"row": r, "column": c} for r in axis for c in axis)
    frame = frame.assign(model="a", error=frame.abs().max(axis=1) / 100, clean_error=0.0)
    assert ring_bounds(frame) == bounds
    if highest:
        found = rings(frame).loc["a"]
        for name, text in bounds.items():
            first, _, last = text.partition(" to ")
            inside = [x for x in frame.error if int(first) <= round(100 * x) <= int(last or first)]
            assert found[name] == pytest.approx(sum(inside) / len(inside))
