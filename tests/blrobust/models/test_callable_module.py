"""Functions and other callables are measured like the modules that they use."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from support.failing_models import EqualsAll
from support.plain_model import Plain, write_images
from torch import Tensor, nn

import blrobust
from blrobust.cli import main
from blrobust.data import datasets
from blrobust.errors import UserError
from blrobust.models import zoo
from blrobust.models.callable_module import CallableModule, as_module

CPU = torch.device("cpu")


class Normed(Plain):
    """Is right in evaluation mode only."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3, affine=False, eps=0)

    def forward(self, x: Tensor) -> Any:
        return super().forward(self.norm(x))


class Object:
    """A callable that holds its network in a list."""

    def __init__(self) -> None:
        self.nets = [Normed()]

    def __call__(self, x: Tensor) -> Any:
        return self.predict(x)

    def predict(self, x: Tensor) -> Any:
        return self.nets[0](x)


class Proxy:
    def __init__(self, net: nn.Module) -> None:
        self._net = net

    def __getattr__(self, name: str) -> Any:
        return getattr(self._net, name)

    def __call__(self, x: Tensor) -> Any:
        return self._net(x)


def function() -> Callable[[Tensor], Any]:
    net = Normed()
    return lambda x: net(x)


def weights() -> Callable[[Tensor], Any]:
    linear = Plain().linear
    weight, bias = linear.weight, linear.bias.detach()
    return lambda x: (x - 0.5).flatten(1) @ weight.T + bias


def of_partial() -> Callable[[Tensor], Any]:
    return partial(lambda net, x: net(x), Normed())


def method() -> Callable[[Tensor], Any]:
    return Object().predict


def proxy() -> Callable[[Tensor], Any]:
    return Proxy(Normed())


MAKERS = [function, weights, of_partial, method, proxy, Object]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("images") / "images.npz"
    write_images(path)
    return path


@pytest.mark.parametrize("make", [function, of_partial, method, proxy, Object])
def test_the_modules_of_a_callable_are_its_parts(make: Callable[[], Any]) -> None:
    module = as_module(make())
    assert module is not None
    assert [type(part) for part in module.get_submodule("parts")] == [Normed]
    assert sum(p.numel() for p in module.parameters()) == 3 * 108 + 3


def test_the_tensors_of_a_callable_are_its_parameters_and_buffers() -> None:
    module = CallableModule(weights())
    assert [p.shape for p in module.parameters()] == [(3, 108)]
    assert [b.shape for b in module.buffers()] == [(3,)]


@pytest.mark.parametrize("command", ["noise --sigma 0,0.5", "attack --kind pgd-linf --strength 0,0.05"])
def test_every_callable_gives_the_results_of_its_module(
    command: str, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for make in (Plain, *MAKERS):
        words = [*command.split(), "--models", f"x={__name__}:{make.__name__}", "--out", make.__name__]
        with pytest.raises(SystemExit) as exit_:
            main([*words, "--dataset", f"npz:{images}", "--device", "cpu"])
        assert exit_.value.code == 0
    tables = [pd.read_csv(tmp_path / make.__name__ / "results.csv") for make in (Plain, *MAKERS)]
    for table in tables[1:]:
        pd.testing.assert_frame_equal(tables[0].drop(columns="seconds"), table.drop(columns="seconds"))


def test_weights_of_a_callable_are_part_of_its_checksum(
    images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = datasets.load(f"npz:{images}")

    def digests() -> list[str]:
        names = [f"m={__name__}:{make.__name__}" for make in MAKERS]
        return [zoo.load(name, dataset=data, device=CPU).card.sha256 for name in names]

    first = digests()
    assert digests() == first
    monkeypatch.setattr(Plain, "__init__", scaled(Plain.__init__))
    assert not {*digests()} & {*first}


def scaled(init: Callable[[Any], None]) -> Callable[[Any], None]:
    def made(self: Any) -> None:
        init(self)
        with torch.no_grad():
            self.linear.weight *= 1.1

    return made


def test_callables_are_measured_from_python_and_get_their_modes_back(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    net = Normed()
    results = blrobust.evaluate(
        {"plain": Plain(), "function": lambda x: net(x)},
        data=f"npz:{images}",
        noise={"gaussian": [0, 0.5]},
        source=lambda x: net(x),
        attacks={"fgsm": [0, 0.05]},
        device="cpu",
    )
    assert net.training
    assert net.linear.weight.requires_grad
    first, second = (part.drop(columns=["model", "seconds"]) for _, part in results.table.groupby("model"))
    pd.testing.assert_frame_equal(first.reset_index(drop=True), second.reset_index(drop=True))
    assert "<function>" in (results.folders[0] / "run.json").read_text()
    model = blrobust.load_model(lambda x: net(x), data=f"npz:{images}", device="cpu")
    assert model(torch.rand(2, 3, 6, 6)).shape == (2, 3)
    heat = blrobust.heatmap(lambda x: net(x), data=f"npz:{images}", size=1, device="cpu")
    assert set(heat.table.model) == {"model"}


@pytest.mark.parametrize("model", [Plain, 3, None, object()], ids=["class", "number", "none", "object"])
def test_what_cannot_be_called_with_pixels_is_refused(model: Any, images: Path) -> None:
    with pytest.raises(UserError, match=r"^models: got a .*; legal: names, an nn.Module or another callable"):
        blrobust.evaluate({"a": model}, data=f"npz:{images}", noise="gaussian", device="cpu")


def test_a_callable_whose_parts_cannot_be_listed_is_refused() -> None:
    net = EqualsAll()
    with pytest.raises(UserError, match=r"^models: the parts of a function fail: TypeError: unhashable type"):
        blrobust.evaluate(lambda x: net(x), data="cifar10-sample", noise="gaussian")
