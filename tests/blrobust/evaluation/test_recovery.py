"""Label recovery: channels against numpy's transform, counts against a loop, the command line."""

import math
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from support import stand_in
from support.messages import error
from torch import Tensor, nn

from blrobust.analysis.recovery import Recovered, count
from blrobust.attacks.catalogue.table import ATTACKS
from blrobust.attacks.guard import Guard
from blrobust.attacks.status import Status
from blrobust.cli import main
from blrobust.errors import UserError
from blrobust.evaluation import recovery, subjects
from blrobust.models.channels import Channel, ColourDepth, LowPass, colour_depths, low_passes
from blrobust.reports import recovery as report
from blrobust.runs.run import Run

SIDE = 8


class Linear(nn.Module):
    """Two classes told apart by one pattern; the checkerboard is the highest frequency there is."""

    def __init__(self, *, checkerboard: float) -> None:
        super().__init__()
        signs = (-1.0) ** np.add.outer(np.arange(SIDE), np.arange(SIDE))
        left = np.where(np.arange(SIDE) < SIDE // 2, 1.0, -1.0) * np.ones((SIDE, 1))
        self.checkerboard = checkerboard
        self.weight = torch.from_numpy(left + checkerboard * signs).float()

    def forward(self, pixels: Tensor) -> Tensor:
        score = ((pixels - 0.5) * self.weight).sum((1, 2, 3))
        return torch.stack([score, -score], dim=1)


def images(n: int = 12) -> Any:
    """Brighter on the left (0) or on the right (1), by a margin that a small attack can undo."""
    source = torch.Generator().manual_seed(2)
    labels = torch.arange(n) % 2
    side = torch.where(torch.arange(SIDE) < SIDE // 2, 1, -1)
    pixels = 128 + 3 * side * (1 - 2 * labels).view(-1, 1, 1, 1) * torch.ones(n, 3, SIDE, SIDE)
    pixels += torch.randint(-2, 3, pixels.shape, generator=source)
    data = stand_in.dataset(n, channels=3)
    return type(data)(
        name="tiny",
        split="test",
        images=pixels.to(torch.uint8),
        labels=labels,
        classes=("left", "right"),
        mean=data.mean,
        std=data.std,
    )


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    asked: dict[str, Any] = {}

    def load(**given: Any) -> subjects.Subjects:
        asked.update(given)
        models = []
        for name in given["models"]:
            model = stand_in.model(name, channels=3)
            model.module = Linear(checkerboard=4.0 if name == "fp32" else 0.0)
            models.append(model)
        return subjects.Subjects(models, images(), torch.device("cpu"))

    monkeypatch.setattr(subjects, "load", load)
    monkeypatch.chdir(tmp_path)
    return asked


def call(*arguments: str) -> int:
    with pytest.raises(SystemExit) as exit_:
        main(["recover", *arguments])
    assert isinstance(exit_.value.code, int)
    return exit_.value.code


FEW = ("--compressions", "0.5", "--bits", "4", "--networks", "smooth", "--kind", "pgd-linf")


# Channels


@pytest.mark.parametrize("compression", [0.0, 0.1, 0.25, 0.5, 0.75, 0.9])
@pytest.mark.parametrize(("height", "width"), [(32, 32), (8, 8), (9, 12)])
def test_the_low_pass_is_the_corner_of_numpys_spectrum(compression: float, height: int, width: int) -> None:
    x = torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(0))
    rows, columns = (int((n // 2 + 1) * np.sqrt(1 - compression)) for n in (height, width))
    spectrum = np.fft.fft2(x.numpy().astype(np.float64))
    down, across = (np.abs(np.fft.fftfreq(n, 1 / n)) for n in (height, width))
    spectrum[..., down >= max(1, rows), :] = 0
    spectrum[..., across >= max(1, columns)] = 0
    expected = np.fft.ifft2(spectrum).real
    np.testing.assert_allclose(LowPass(compression)(x), expected, atol=1e-5)


@pytest.mark.parametrize("bits", [1, 3, 8])
def test_colour_depth_rounds_to_the_nearest_level(bits: int) -> None:
    x = torch.rand(2, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    grid = np.linspace(0, 1, 2**bits)
    expected = grid[np.abs(x.numpy()[..., None] - grid).argmin(-1)]
    np.testing.assert_allclose(ColourDepth(bits)(x), expected, atol=1e-6)
    x.requires_grad_()
    ColourDepth(bits)(x).sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad, torch.ones_like(x))
    np.testing.assert_allclose(ColourDepth(bits)(x).detach(), expected, atol=1e-6)


def test_eight_bits_change_no_image_of_eight_bits() -> None:
    pixels = images().pixels(slice(None))
    assert torch.allclose(ColourDepth(8)(pixels), pixels, atol=1e-7)


def test_channels_that_cannot_be_are_refused() -> None:
    with pytest.raises(UserError, match="of compression 1; legal: from 0"):
        LowPass(1.0)
    with pytest.raises(UserError, match="0"):
        ColourDepth(0)


# Counts


def counts(
    channel: Channel,
    guard: Guard,
    pixels: Tensor,
    labels: Tensor,
    adversarial: Tensor,
    fooled: Tensor,
    *,
    level: float,
) -> Recovered:
    outcomes, *_ = recovery.recover(channel, guard, pixels, labels, adversarial, level=level, seed=0)
    return count(outcomes, labels=labels.numpy().astype(np.int16), fooled=fooled.numpy())


def test_a_low_pass_wins_back_what_a_checkerboard_took() -> None:
    data, network = images(), Linear(checkerboard=4.0)
    pixels, labels = data.pixels(slice(None)), data.labels
    guard = Guard("pgd-linf", ATTACKS["pgd-linf"], seed=0)
    crafted, fooled, *_ = recovery.craft(guard, network, pixels, labels, level=4 / 255)
    assert fooled.all()
    assert (network(crafted).argmax(1) != labels).all()
    assert (crafted - pixels).abs().max() <= 4 / 255 + 1e-6
    (channel,) = low_passes([0.5], network, height=SIDE, width=SIDE)
    found = counts(channel, guard, pixels, labels, crafted, fooled, level=4 / 255)
    passed = LowPass(0.5)(crafted)
    back = sum(int(network(passed[i : i + 1]).argmax() == labels[i]) for i in range(len(labels)))
    assert found.recovered == back > 0
    assert found.clean == int((network(LowPass(0.5)(pixels)).argmax(1) == labels).sum()) == len(labels)
    distance = np.linalg.norm((passed - pixels).numpy().reshape(len(labels), -1), axis=1)
    assert found.distortion == pytest.approx(distance.mean(), rel=1e-5)
    # An adversary who knows leaves nothing that the channel drops anyway, and does no worse.
    assert found.adaptive <= found.recovered


def test_only_fooled_images_count() -> None:
    data, network = images(), Linear(checkerboard=4.0)
    pixels, labels = data.pixels(slice(None)), data.labels
    guard = Guard("pgd-linf", ATTACKS["pgd-linf"], seed=0)
    none = torch.zeros(len(labels), dtype=torch.bool)
    (channel,) = colour_depths([8], network)
    found = counts(channel, guard, pixels, labels, pixels, none, level=4 / 255)
    assert found[:3] == (0, 0, 0)
    assert math.isnan(found.distortion)


def test_a_channel_that_does_nothing_wins_nothing_back() -> None:
    data, network = images(), Linear(checkerboard=4.0)
    pixels, labels = data.pixels(slice(None)), data.labels
    guard = Guard("deepfool-l2", ATTACKS["deepfool-l2"], seed=0)
    crafted, fooled, *_ = recovery.craft(guard, network, pixels, labels, level=float("inf"))
    channel = Channel("same", "network", nn.Identity(), network)
    found = counts(channel, guard, pixels, labels, crafted, fooled, level=float("inf"))
    assert fooled.all()
    assert found.recovered == found.adaptive == 0
    assert found.clean == len(labels)
    assert found.distortion == found.adaptive_l2
    # DeepFool on a linear model goes to the plane and a fiftieth beyond; channels share the weight.
    score = ((pixels - 0.5) * network.weight).sum((1, 2, 3)).abs()
    nearest = score / torch.linalg.vector_norm(network.weight.expand(3, SIDE, SIDE))
    assert found.distortion == pytest.approx(1.02 * nearest.mean().item(), rel=1e-2)


# The command


def test_a_run_writes_table_and_page(
    loaded: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(*FEW, "--strength", "0.015", "--out", "run") == 0
    assert loaded["models"] == ["fp32", "smooth"]
    shown = capsys.readouterr().out
    frame = pd.read_csv(tmp_path / "run" / "results.csv")
    assert frame.channel.tolist() == ["low-pass 0.5", "4 bits", "smooth"]
    assert frame.kind.tolist() == ["low-pass", "colour depth", "network"]
    assert (frame.strength == 0.015).all()
    assert (frame.n == 12).all()
    assert frame.recovered_share.tolist() == pytest.approx((frame.recovered / frame.fooled).tolist())
    share, n = frame.recovered_share, frame.fooled
    # Wilson's interval holds the p at which the share is 1.96 standard deviations away.
    for end in (frame.ci_low, frame.ci_high):
        deviations = 1.959964 * (end.clip(lower=0) * (1 - end) / n) ** 0.5
        assert (share - end).abs().tolist() == pytest.approx(deviations.tolist(), abs=1e-6)
    for text in ("low-pass 0.5", "4 bits", "smooth", "pgd-linf"):
        assert text in shown
        assert text in (tmp_path / "run" / "report.html").read_text("utf-8")
    page = (tmp_path / "run" / "report.html").read_text("utf-8")
    (fooled,) = set(frame.fooled)
    warning = (
        f"Too few images: with {fooled} fooled image{'' if fooled == 1 else 's'} the intervals are wide."
    )
    assert warning in shown
    assert warning in page
    assert "upper bound" not in page
    # The legend shows the markers of the figure; the networks' points have no line.
    legend = page[page.index('<ul class="legend">') : page.index("</ul>")]
    assert [entry.count("<path") for entry in legend.split("</li>")[:3]] == [2, 2, 1]


def test_a_stopped_run_goes_on(
    loaded: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert call(*FEW, "--out", "whole") == 0
    measure, passed = recovery.recover, []

    def stop(channel: Channel, *given: Any, **named: Any) -> Any:
        if len(passed) == 2:
            raise KeyboardInterrupt
        passed.append(channel.name)
        return measure(channel, *given, **named)

    monkeypatch.setattr(recovery, "recover", stop)
    capsys.readouterr()
    assert call(*FEW, "--out", "stopped") == 130
    message = "stopped: 2 of 3 pairs of attack and channel done; run the same command again to resume"
    assert capsys.readouterr().err.splitlines()[-1] == f"Interrupted. {message}"
    with Run.open(tmp_path / "stopped") as run:
        assert {subject for subject, *_ in run.done()} == {"fp32", "low-pass 0.5", "4 bits"}
    monkeypatch.setattr(recovery, "recover", measure)
    assert call(*FEW, "--out", "stopped") == 0
    same = [(tmp_path / name / "results.csv").read_bytes() for name in ("whole", "stopped")]
    assert same[0] == same[1]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--kind", "nonsense"], "nonsense"),
        (["--kind", "pgd-linf,pgd-linf"], "legal: each value once"),
        (["--compressions", "0.5,x"], "'x'"),
        (["--compressions", "1"], "compression 1"),
        (["--bits", "0"], "0"),
        (["--networks", "8 bits"], "'8 bits'"),
        (["--bits", "2.5"], "'2.5'"),
        (["--strength", "0"], "--strength"),
        (["--networks", "fft50,fp32"], "fp32"),
    ],
)
def test_what_is_illegal_is_one_line(
    loaded: dict[str, Any],
    arguments: list[str],
    told: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    assert call(*arguments) == 2
    assert told in error(capsys.readouterr().err)
    assert not list(tmp_path.iterdir())


# Attacks that raise an error


def fail_on_the_right(monkeypatch: pytest.MonkeyPatch, *, checkerboard: float) -> None:
    """Let PGD raise an error for images of class 1 on the networks with this weight of the checkerboard."""
    attack: Any = resolve_name(ATTACKS["pgd-linf"].attack)
    measure, run = Guard.measure, attack.run

    def failing(self: Any, model: Any, inputs: Tensor, criterion: Any, **keys: Any) -> Any:
        if (criterion.labels == 1).any():
            raise RuntimeError("the right side is too bright")
        return run(self, model, inputs, criterion, **keys)

    def measuring(self: Guard, model: nn.Module, *given: Any, **named: Any) -> Any:
        (network,) = (part for part in model.modules() if isinstance(part, Linear))
        with pytest.MonkeyPatch.context() as patch:
            if network.checkerboard == checkerboard:
                patch.setattr(attack, "run", failing)
            return measure(self, model, *given, **named)

    monkeypatch.setattr(Guard, "measure", measuring)


def flags_of(shown: str) -> list[str]:
    """The last column of the rows of the channels."""
    lines = (line for line in shown.splitlines() if line.startswith(("low-pass", "4 bits", "smooth")))
    return [line.split("  ")[-1].strip() for line in lines]


@pytest.mark.parametrize(
    ("checkerboard", "fooled", "rejected", "of_source", "flags"),
    [
        (0.0, 12, [0, 0, 6], 0, ["-", "-", "6 rejected"]),  # the network "smooth" alone
        (4.0, 6, [0, 0, 0], 6, ["source: 6 rejected"] * 3),  # the source; only its fooled images count
    ],
)
def test_images_whose_attack_raises_are_counted_and_flagged(
    checkerboard: float,
    fooled: int,
    rejected: list[int],
    of_source: int,
    flags: list[str],
    loaded: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    fail_on_the_right(monkeypatch, checkerboard=checkerboard)
    assert call(*FEW, "--strength", "0.016", "--out", "run") == 0
    assert flags_of(capsys.readouterr().out) == flags
    frame = pd.read_csv(tmp_path / "run" / "results.csv")
    assert frame.fooled.tolist() == [fooled] * 3
    assert frame.rejected.tolist() == rejected
    assert frame.source_rejected.tolist() == [of_source] * 3
    assert (frame.adaptive >= frame.rejected).all()  # as in `attack`, they count as robust
    right = images().labels.numpy() == 1
    with Run.open(tmp_path / "run") as run:
        for name in ("fp32", "low-pass 0.5", "4 bits", "smooth"):
            (level,) = run.levels("pgd-linf")
            outcome = run.outcome(name, "pgd-linf", level, 0)
            fails = right & ((name == "smooth") == (checkerboard == 0))
            assert ((outcome["reason"] == Status.RAISED) == fails).all(), name
    page = (tmp_path / "run" / "report.html").read_text("utf-8")
    for flag in {*flags} - {"-"}:
        assert f": {flag}" in page


def test_a_run_without_statuses_opens_without_a_number_of_rejected_images(
    loaded: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Earlier builds stored no `reason`; pairs that are measured after the resumption have it."""
    fail_on_the_right(monkeypatch, checkerboard=0.0)
    to_arrays, channels = recovery._to_arrays, []

    def earlier(tensors: dict[str, Tensor]) -> Any:
        if len(channels) == 2:
            raise KeyboardInterrupt
        channels.extend(["one"] * ("broken" in tensors))
        return {key: values for key, values in to_arrays(tensors).items() if key != "reason"}

    with monkeypatch.context() as patch:
        patch.setattr(recovery, "_to_arrays", earlier)
        assert call(*FEW, "--strength", "0.016", "--out", "run") == 130
    capsys.readouterr()
    assert call(*FEW, "--strength", "0.016", "--out", "run") == 0
    assert flags_of(capsys.readouterr().out) == ["-", "-", "6 rejected"]
    assert (tmp_path / "run" / "results.csv").read_text().splitlines()[1].endswith(",0,,")
    frame = pd.read_csv(tmp_path / "run" / "results.csv")
    assert frame.rejected.isna().tolist() == [True, True, False]
    assert frame.rejected[2] == 6
    assert frame.source_rejected.isna().all()


# The published points


def test_published_points_stand_where_the_settings_match() -> None:
    points = report.points("pgd-linf", "low-pass", dataset="cifar10")
    assert points.L2_distortion.iloc[0] == 0.41
    assert points.recovered_acc.max() == 88.9
    assert len(report.points("cw-l2", "colour depth", dataset="cifar10-sample")) == 12
    assert report.points("deepfool-l2", "low-pass", dataset="cifar10").empty
    assert report.points("pgd-linf", "network", dataset="cifar10").empty
    assert report.points("pgd-linf", "low-pass", dataset="svhn").empty
