"""The package pyautoattack behind the table: what it needs, what it returns, what it leaves behind."""

import logging
import math
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from foolbox.criteria import Misclassification, TargetedMisclassification
from foolbox.models.pytorch import PyTorchModel
from torch import Tensor, nn

from blrobust.attacks.catalogue import selection
from blrobust.attacks.catalogue.table import ATTACKS
from blrobust.attacks.gradient.autoattack import MEMBERS, AutoAttack
from blrobust.attacks.guard import Guard
from blrobust.attacks.status import Status
from blrobust.cli import main
from blrobust.errors import UserError

KINDS = ("autoattack-linf", "autoattack-l2")
SHAPE = (3, 8, 8)
CLASSES = 5
DUAL = {"linf": 1, "l2": 2}
LEGACY = (-2.4290657, 2.7537313)


@pytest.fixture
def package() -> Any:
    return pytest.importorskip("pyautoattack")


class Linear(nn.Module):
    """Logits w (x - 1/2), for pixels x in [0, 1]; they come within ``bounds``."""

    def __init__(self, bounds: tuple[float, float] = (0.0, 1.0), classes: int = CLASSES) -> None:
        super().__init__()
        self.bounds = bounds
        self.w = torch.randn(classes, math.prod(SHAPE), generator=torch.Generator().manual_seed(3))
        self.eval()

    def forward(self, inputs: Tensor) -> Tensor:
        lower, upper = self.bounds
        pixels = (inputs - lower) / (upper - lower)
        return (pixels.flatten(1) - 0.5) @ self.w.T

    def distance(self, pixels: Tensor, labels: Tensor, norm: str) -> Tensor:
        """The least change of pixels that reaches another class: gap over dual norm, the nearest of all."""
        logits = self(pixels)
        gaps = logits.gather(1, labels[:, None]) - logits
        reach = gaps / (self.w[labels][:, None] - self.w).norm(p=DUAL[norm], dim=2)
        return reach.scatter(1, labels[:, None], torch.inf).amin(1)


def grey(count: int) -> Tensor:
    """Images so near to 1/2 that no least change meets the bounds."""
    return 0.5 + 0.02 * torch.randn(count, *SHAPE, generator=torch.Generator().manual_seed(5))


def target(model: nn.Module, bounds: tuple[float, float] = (0.0, 1.0)) -> PyTorchModel:
    return PyTorchModel(model.eval(), bounds=bounds, device=torch.device("cpu"))


def attack(**parameters: Any) -> AutoAttack:
    return AutoAttack(**{"steps": 20, "targets": 3, "queries": 20, **parameters})


def plain(value: object) -> bool:
    return isinstance(value, int | float | str)


def change(images: Tensor, found: Tensor, norm: str) -> Tensor:
    return (found - images).double().flatten(1).norm(p={"linf": math.inf, "l2": 2}[norm], dim=1)


# Without the package


@pytest.mark.parametrize("options", [(), ("--parameters",)])
def test_the_kinds_are_listed_without_the_package(
    options: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "pyautoattack", None)
    with pytest.raises(SystemExit) as exit_:
        main(["attacks", "autoattack*", *options])
    assert exit_.value.code == 0
    said = capsys.readouterr().out
    assert all(kind in said for kind in KINDS)


def test_what_is_missing_and_how_to_get_it_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "pyautoattack", None)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as exit_:
        main(["attack", "--kind", "autoattack-l2", "--dataset", "cifar10-sample", "--models", "fp32"])
    assert exit_.value.code == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]  # after a word on the data set
    assert "attack 'autoattack-l2': the package pyautoattack is not installed" in line
    assert "pip install 'blrobust[autoattack]'" in line


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        (
            {"attacks": "apgd-ce,square"},
            "joined by '\\+' among apgd-ce, apgd-dlr, apgd-t, fab, fab-t, square",
        ),
        ({"attacks": ""}, "attacks=''"),
        ({"attacks": "apgd-ce+"}, "legal"),
        ({"norm": "l1"}, "linf, l2"),
        ({"steps": 0}, "steps"),
        ({"targets": 0}, "targets"),
        ({"queries": 0}, "queries"),
    ],
)
def test_a_wrong_parameter_names_itself_and_what_is_legal(parameters: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        attack(**parameters)


def test_its_attacks_can_be_set() -> None:
    change = "autoattack-linf.attacks=apgd-ce+square,queries=7"
    found = selection.parameters(["autoattack-linf"], [change], "default")["autoattack-linf"]
    assert (found["attacks"], found["queries"]) == ("apgd-ce+square", 7)


# With it


@pytest.mark.parametrize(("kind", "norm"), [("autoattack-linf", "Linf"), ("autoattack-l2", "L2")])
def test_the_preset_of_the_literature_is_the_packages_standard_version(
    kind: str, norm: str, package: Any
) -> None:
    attack: Any = ATTACKS[kind].build(seed=0, parameters=ATTACKS[kind].budget("paper"))
    ours = attack._adversary(Linear(), 0.1, device="cpu", wrong_classes=9, seed=0)
    theirs = package.AutoAttack(Linear(), eps=0.1, norm=norm, seed=0, version="standard")
    assert ours.attacks_to_run == theirs.attacks_to_run
    for member in ("apgd", "apgd_targeted", "fab", "square"):
        settings, expected = (
            {name: value for name, value in vars(getattr(each, member)).items() if plain(value)}
            for each in (ours, theirs)
        )
        assert settings == expected


@pytest.mark.parametrize("bounds", [(0.0, 1.0), LEGACY])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_linear_model_is_fooled_above_the_known_distance_and_not_below(
    norm: str, bounds: tuple[float, float], package: Any
) -> None:
    lower, upper = torch.tensor(bounds).tolist()
    width = upper - lower
    pixels = grey(3)
    images = lower + width * pixels
    model = Linear((lower, upper))
    labels = model(images).argmax(1)
    for image, label, distance in zip(images, labels, Linear().distance(pixels, labels, norm), strict=True):
        for factor, fools in ((1.05, True), (0.95, False)):
            epsilon = factor * float(distance) * width
            found = attack(norm=norm).run(
                target(model, (lower, upper)), image[None], Misclassification(label[None]), epsilon=epsilon
            )
            assert (model(found).argmax(1) != label).tolist() == [fools]
            assert (change(image[None], found, norm) <= epsilon * (1 + 1e-6) + 2**-24 * width).all()


# The way to [0, 1] and back rounds the last bounds up.
@pytest.mark.parametrize("bounds", [(0.0, 1.0), LEGACY, (-2.1179, 2.64)])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_what_is_found_is_within_epsilon_and_the_bounds(
    norm: str, bounds: tuple[float, float], package: Any
) -> None:
    lower, upper = torch.tensor(bounds).tolist()
    source = torch.Generator().manual_seed(6)
    images = lower + (upper - lower) * torch.rand(20, *SHAPE, generator=source).round(decimals=1)
    model = Linear((lower, upper))
    images = images.clamp(lower, upper)
    labels = model(images).argmax(1)
    fooled = torch.zeros_like(labels, dtype=torch.bool)
    for epsilon in (0.003, 0.03, 0.3):
        found = attack(norm=norm).run(
            target(model, (lower, upper)), images, Misclassification(labels), epsilon=epsilon
        )
        assert lower <= float(found.min())
        assert float(found.max()) <= upper
        assert (change(images, found, norm) <= epsilon * (1 + 1e-6) + 2**-24 * max(1, upper)).all()
        fooled |= model(found).argmax(1) != labels
    assert fooled.any()


@pytest.mark.parametrize("member", MEMBERS)
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_each_member_fools_a_linear_model_by_itself(norm: str, member: str, package: Any) -> None:
    model, images = Linear(), grey(3)
    labels = model(images).argmax(1)
    found = attack(norm=norm, attacks=member).run(
        target(model), images, Misclassification(labels), epsilon=0.1 if norm == "linf" else 1.0
    )
    assert (model(found).argmax(1) != labels).all()


@pytest.mark.parametrize("members", ["apgd-ce", "apgd-t", "square", "apgd-ce+apgd-t+fab-t+square"])
@pytest.mark.parametrize(("kind", "level"), [("autoattack-linf", 0.1), ("autoattack-l2", 1.0)])
def test_the_same_seed_gives_the_same_bits_and_another_one_others(
    kind: str, level: float, members: str, package: Any
) -> None:
    model, images = Linear(), grey(3)
    labels = model(images).argmax(1)
    settings = {**ATTACKS[kind].budget(), "attacks": members, "steps": 5}

    def found(seed: int) -> Tensor:
        guard = Guard(kind, ATTACKS[kind], seed=seed, parameters=settings)
        (outcome,) = guard.measure(model, images, labels, levels=[level], draw=0, samples=range(3), keep=True)
        assert outcome["success"].any()
        return outcome["pixels"]

    first = found(0)
    time.sleep(0.01)  # left to itself, the package seeds with the time
    assert torch.equal(found(0), first)
    assert not torch.equal(found(1), first)


def test_the_generators_and_the_trace_are_left_as_they_were(package: Any) -> None:
    def trace(frame: Any, event: str, arg: Any) -> None:
        return None

    model, images = Linear(), grey(2)
    states, before = [], sys.gettrace()
    for steps in (1, 5):
        torch.manual_seed(1)
        try:
            sys.settrace(trace)
            attack(steps=steps).run(
                target(model), images, Misclassification(model(images).argmax(1)), epsilon=0.01
            )
            assert sys.gettrace() is trace
        finally:
            sys.settrace(before)
        states.append(torch.get_rng_state())
    assert torch.equal(*states)
    torch.manual_seed(1)
    assert not torch.equal(torch.get_rng_state(), states[0])  # so that the next run draws other numbers


def test_nothing_is_printed_or_logged(
    package: Any, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    class Flat(nn.Module):  # probabilities with no gradient: each of the package's warnings
        def forward(self, pixels: Tensor) -> Tensor:
            return torch.tensor([0.6, 0.1, 0.1, 0.1, 0.1]) + 0 * pixels.flatten(1).sum(1)[:, None]

    caplog.set_level(logging.DEBUG)
    attack().run(target(Flat()), grey(2), torch.zeros(2, dtype=torch.int64), epsilon=0.01)
    assert capfd.readouterr() == ("", "")
    assert not caplog.records


def test_samples_that_are_wrong_already_stay_as_they_are(package: Any) -> None:
    model, images = Linear(), grey(4)
    labels = (model(images).argmax(1) + 1) % CLASSES
    found = attack().run(target(model), images, Misclassification(labels), epsilon=0.1)
    assert torch.equal(found, images)


def test_only_misclassification_is_pursued(package: Any) -> None:
    criterion = TargetedMisclassification(torch.tensor([1]))
    with pytest.raises(ValueError, match="TargetedMisclassification; legal: Misclassification"):
        attack().run(target(Linear()), grey(1), criterion, epsilon=0.1)


@pytest.mark.parametrize(("member", "least"), [("apgd-t", 4), ("apgd-dlr", 3), ("apgd-ce", 2), ("fab-t", 2)])
def test_too_few_classes_are_said_and_enough_are_taken(member: str, least: int, package: Any) -> None:
    images = grey(2)
    for classes in (least - 1, least):
        model = Linear(classes=classes)
        labels = model(images).argmax(1)
        chosen = attack(attacks=member, targets=9)
        if classes < least:
            with pytest.raises(
                UserError, match=f"got a model of {classes} classes; legal for {member}: at least {least}"
            ):
                chosen.run(target(model), images, Misclassification(labels), epsilon=0.1)
        else:
            found = chosen.run(target(model), images, Misclassification(labels), epsilon=0.1)
            assert (model(found).argmax(1) != labels).all()


def test_square_that_cannot_tile_the_images_costs_only_what_is_left_for_it(package: Any) -> None:
    # The package raises an error for squares of 12 pixels in l2.
    class Half(nn.Module):
        def forward(self, pixels: Tensor) -> Tensor:
            firm = 10 * (pixels[:, 0, 0, 0] > 0.5)
            light = pixels.flatten(1).mean(1) - 0.5
            return torch.stack([firm + 0 * light, light, light - 1, light - 2], 1)

    images = torch.full((2, 3, 12, 12), 0.49)
    images[1, 0, 0, 0] = 1.0
    guard = Guard("autoattack-l2", ATTACKS["autoattack-l2"], seed=0)
    outcome = guard(
        Half().eval(), images, torch.zeros(2, dtype=torch.int64), level=0.5, draw=0, samples=range(2)
    )
    assert outcome["reason"].tolist() == [Status.ADVERSARIAL, Status.RAISED]
