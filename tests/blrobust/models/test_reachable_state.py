"""State that the user's code keeps outside the attributes of its modules is restored, or flagged."""

import os
import sys
import warnings
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from queue import Queue
from threading import Thread
from types import ModuleType, SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import torch
from support import odd_models
from support.plain_model import write_images
from torch import Tensor, nn

import blrobust
from blrobust.data import datasets
from blrobust.evaluation import doubts, probe
from blrobust.models import zoo
from blrobust.models.belongings import belongings
from blrobust.models.user_objects import is_own, is_users
from blrobust.runs.record import Record

CPU = torch.device("cpu")


class Calibrated(odd_models.Plain):
    """Subtracts the mean of the first batch, which is kept in another place by each class."""

    def keep(self, mean: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, pixels: Tensor) -> Any:
        return super().forward(pixels - self.keep(pixels.detach().mean()) + 0.5)


class InClosure(Calibrated):
    def __init__(self) -> None:
        super().__init__()
        kept: Tensor | None = None

        def keep(mean: Tensor) -> Tensor:
            nonlocal kept
            kept = mean if kept is None else kept
            return kept

        self.keep = keep  # type: ignore[method-assign]


GLOBAL: Tensor | None = None
GLOBALS: dict[str, Tensor] = {}


class InGlobal(Calibrated):
    def keep(self, mean: Tensor) -> Tensor:
        global GLOBAL
        GLOBAL = mean if GLOBAL is None else GLOBAL
        return GLOBAL


class InNewGlobal(Calibrated):
    def keep(self, mean: Tensor) -> Tensor:
        global NEW
        if "NEW" not in globals():
            NEW = mean  # type: ignore[name-defined]
        kept: Tensor = NEW  # type: ignore[name-defined]
        return kept


class InGlobalDict(Calibrated):
    def keep(self, mean: Tensor) -> Tensor:
        return GLOBALS.setdefault("mean", mean)


class InClass(Calibrated):
    kept: Tensor | None = None

    def keep(self, mean: Tensor) -> Tensor:
        if InClass.kept is None:
            InClass.kept = mean
        return InClass.kept


class Registry:
    kept: list[Tensor] = []  # noqa: RUF012

    @classmethod
    def first(cls, mean: Tensor) -> Tensor:
        cls.kept.append(mean)
        return cls.kept[0]


class InAnotherClass(Calibrated):
    def keep(self, mean: Tensor) -> Tensor:
        return Registry.first(mean)


class InDefault(Calibrated):
    def keep(self, mean: Tensor, kept: list[Tensor] = []) -> Tensor:  # noqa: B006
        kept.append(mean)
        return kept[0]


def first(mean: Tensor) -> Tensor:
    if not hasattr(first, "kept"):
        first.kept = mean  # type: ignore[attr-defined]
    kept: Tensor = first.kept  # type: ignore[attr-defined]
    return kept


class InFunction(Calibrated):
    def keep(self, mean: Tensor) -> Tensor:
        return first(mean)


@cache
def box() -> list[Tensor]:
    return []


class InCache(Calibrated):
    def keep(self, mean: Tensor) -> Tensor:
        box().append(mean)
        return box()[0]


class Slots:
    __slots__ = ("kept",)


class InSlots(Calibrated):
    def __init__(self) -> None:
        super().__init__()
        self.slots = Slots()

    def keep(self, mean: Tensor) -> Tensor:
        if not hasattr(self.slots, "kept"):
            self.slots.kept = mean
        kept: Tensor = self.slots.kept
        return kept


class InNamespace(Calibrated):
    def __init__(self) -> None:
        super().__init__()
        self.space = SimpleNamespace(kept=None)

    def keep(self, mean: Tensor) -> Tensor:
        self.space.kept = mean if self.space.kept is None else self.space.kept
        kept: Tensor = self.space.kept
        return kept


class Cache(dict[str, Tensor]):
    pass


class InMapping(Calibrated):
    def __init__(self) -> None:
        super().__init__()
        self.cache = Cache()

    def keep(self, mean: Tensor) -> Tensor:
        return self.cache.setdefault("mean", mean)


class InPartial(Calibrated):
    def __init__(self) -> None:
        super().__init__()
        self.keep = partial(lambda kept, mean: kept.setdefault(0, mean), {})  # type: ignore[method-assign]


class InHook(odd_models.Plain):
    def __init__(self) -> None:
        super().__init__()
        kept: list[Tensor] = []

        def hook(module: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
            kept.append(inputs[0].detach().mean())
            return (inputs[0] - kept[0] + 0.5,)

        self.register_forward_pre_hook(hook)


class Scripted(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = odd_models.Plain().linear
        self.calls = 0
        self.kept = 0.0

    def forward(self, pixels: Tensor) -> Tensor:
        if self.calls == 0:
            self.kept = float(pixels.mean())
        self.calls += 1
        logits: Tensor = self.linear((pixels - self.kept).flatten(1))
        return logits


def in_script() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made: nn.Module = torch.jit.script(Scripted())
        return made


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("images") / "images.npz"
    write_images(path)
    return path


@pytest.mark.parametrize(
    "make",
    [
        InClosure, InGlobal, InNewGlobal, InGlobalDict, InClass, InAnotherClass, InDefault, InFunction,
        InCache, InSlots, InNamespace, InMapping, InPartial, InHook, in_script,
    ],
)  # fmt: skip
def test_a_model_is_measured_without_the_state_of_earlier_calls_and_flagged(
    make: Callable[[], nn.Module], images: Path
) -> None:
    data = datasets.load(f"npz:{images}")
    model = zoo.load(f"m={__name__}:{make.__name__}", dataset=data, device=CPU)
    answers = probe.probe([model], data, CPU, gradients=True)
    assert probe.find_flags([model], data, CPU, answers) == {"m": [doubts.RANDOM]}
    probe.check_under_attack([model], data, CPU, {"m": []})
    pixels = data.pixels(slice(2, 9))
    with torch.no_grad():
        found = model.module(pixels)
        assert torch.allclose(found, odd_models.Plain()(pixels - pixels.mean() + 0.5), atol=1e-5)


def test_each_run_of_a_call_from_python_begins_with_the_state_of_the_module(
    images: Path, tmp_path: Path
) -> None:
    noise, attacks = {"gaussian": [0, 0.5]}, {"fgsm": [0, 0.05]}
    given = {"data": f"npz:{images}", "device": "cpu"}
    both = blrobust.evaluate(InClosure(), noise=noise, attacks=attacks, out=tmp_path / "both", **given)
    alone = blrobust.evaluate(InClosure(), attacks=attacks, out=tmp_path / "alone", **given)
    assert [record.flags for record in map(Record.read, both.folders)] == [{"model": [doubts.RANDOM]}] * 2
    tables = [pd.read_csv(folder / "results.csv") for folder in (both.folders[1], *alone.folders)]
    pd.testing.assert_frame_equal(*(table.drop(columns="seconds") for table in tables))


class Prepares(odd_models.Plain):
    """Is set up in its first call, which is marked out of reach."""

    def __init__(self) -> None:
        super().__init__()
        self.factor: float | None = None

    def forward(self, pixels: Tensor) -> Any:
        if "BLROBUST_TEST_MARK" not in os.environ:
            os.environ["BLROBUST_TEST_MARK"] = "1"
            self.factor = 2.0
        return super().forward(pixels) * self.factor


class PreparesSilently(Prepares):
    def __init__(self) -> None:
        super().__init__()
        self.factor = 1.0


class BuildsByImages(odd_models.Plain):
    """Builds a scale from its first images, as layers with an initialisation by data do."""

    def forward(self, pixels: Tensor) -> Any:
        if not hasattr(self, "scale"):
            self.scale = nn.Parameter(1 / pixels.detach().std())
        return super().forward(pixels) * self.scale


class Builds(BuildsByImages):
    def forward(self, pixels: Tensor) -> Any:
        if not hasattr(self, "scale"):
            self.scale = nn.Parameter(torch.tensor(2.0))
        return super().forward(pixels)


class Starts(odd_models.Plain):
    """Starts a thread at its first call, which computes the logits from then on."""

    started = 0

    def __init__(self) -> None:
        super().__init__()
        self.inputs: Queue[Tensor] = Queue()
        self.outputs: Queue[Tensor] = Queue()
        self.thread: Thread | None = None

    def work(self) -> None:
        while True:
            self.outputs.put(2 * self.linear((self.inputs.get() - 0.5).flatten(1)).detach())

    def forward(self, pixels: Tensor) -> Any:
        if self.thread is None:
            os.environ["BLROBUST_TEST_MARK"] = os.environ.get("BLROBUST_TEST_MARK", "") + "1"
            self.thread = Thread(target=self.work, daemon=True)
            self.thread.start()
        self.inputs.put(pixels)
        return self.outputs.get()


class PreparesInClass(odd_models.Plain):
    """Is set up once, which is marked in the class."""

    done: set[int] = set()  # noqa: RUF012

    def __init__(self) -> None:
        super().__init__()
        self.factor: float | None = None

    def forward(self, pixels: Tensor) -> Any:
        if id(self) not in PreparesInClass.done:
            PreparesInClass.done.add(id(self))
            self.factor = 2.0
        return super().forward(pixels) * self.factor


@pytest.fixture
def unmarked(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("BLROBUST_TEST_MARK", raising=False)
    yield
    os.environ.pop("BLROBUST_TEST_MARK", None)


@pytest.mark.usefixtures("unmarked")
@pytest.mark.parametrize(
    ("kind", "flags"),
    [
        (Prepares, [doubts.STATE]),
        (PreparesSilently, [doubts.STATE]),
        (Starts, [doubts.STATE]),
        (PreparesInClass, []),
    ],
)
def test_a_model_never_fails_without_the_state_of_its_first_call(
    kind: type[nn.Module], flags: list[str], images: Path
) -> None:
    data = datasets.load(f"npz:{images}")
    model = zoo.load(f"m={__name__}:{kind.__name__}", dataset=data, device=CPU)
    answers = probe.probe([model], data, CPU, gradients=True)
    assert probe.find_flags([model], data, CPU, answers) == {"m": flags}
    pixels = data.pixels(slice(2, 9))
    with torch.no_grad():
        assert torch.allclose(model.module(pixels), 2 * odd_models.Plain()(pixels))
    assert os.environ.get("BLROBUST_TEST_MARK", "1") == "1"  # it was set up once


@pytest.mark.parametrize(("name", "flags"), [("Builds", []), ("BuildsByImages", [doubts.STATE])])
def test_a_model_that_builds_parts_from_its_first_images_is_flagged(
    name: str, flags: list[str], images: Path
) -> None:
    data = datasets.load(f"npz:{images}")
    model = zoo.load(f"m={__name__}:{name}", dataset=data, device=CPU)
    answers = probe.probe([model], data, CPU)
    assert probe.find_flags([model], data, CPU, answers) == {"m": flags}
    scale = 2.0 if name == "Builds" else float(1 / data.pixels(slice(0, 2)).std())
    pixels = data.pixels(slice(2, 9))
    with torch.no_grad():
        assert torch.allclose(model.module(pixels), scale * odd_models.Plain()(pixels))


TRAINING = torch.rand(100)


class Trains(odd_models.Plain):
    """Has a method that uses data which a forward pass does not."""

    scale = torch.ones(())

    def __init__(self) -> None:
        super().__init__()
        self.mean = TRAINING.mean()

    def fit(self) -> None:
        self.mean = TRAINING.mean()

    def scaled(self, pixels: Tensor) -> Tensor:
        return pixels * getattr(self, "scale")  # noqa: B009

    def forward(self, pixels: Tensor) -> Any:
        return super().forward(self.scaled(pixels))


def test_training_data_do_not_belong_to_a_model() -> None:
    found = {id(value) for value in belongings(Trains())}
    assert id(Trains.scale) in found
    assert id(Trains.scaled) in found
    assert not {id(TRAINING), id(Trains.fit)} & found


def test_a_module_named_like_one_of_python_is_the_users(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (is_users(SimpleNamespace), is_own(SimpleNamespace)) == (False, False)
    assert (is_users(pytest.MonkeyPatch), is_own(pytest.MonkeyPatch)) == (True, False)
    assert (is_users(Slots), is_own(Slots)) == (True, True)
    module = ModuleType("code")
    module.__file__ = str(tmp_path / "code.py")
    monkeypatch.setitem(sys.modules, "code", module)
    net = type("Net", (), {"__module__": "code"})
    assert (is_users(net), is_own(net)) == (True, True)
