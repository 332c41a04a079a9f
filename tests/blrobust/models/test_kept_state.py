"""Modules get back the state that their own passes change."""

import random
import subprocess
import sys
from collections import Counter, OrderedDict, deque
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support import odd_models
from support.plain_model import write_images
from torch import Tensor, nn

from blrobust.data import datasets
from blrobust.evaluation import doubts, probe
from blrobust.models import zoo
from blrobust.models.kept_state import kept_state
from blrobust.models.own_model import OwnModel


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("images") / "images.npz"
    write_images(path)
    return path


class Inner:
    """An object of the user's own, which counts, draws and holds a module in a list."""

    def __init__(self) -> None:
        self.count = 0
        self.source = np.random.default_rng(1)
        self.parts = [nn.Linear(2, 2)]


class Busy(nn.Module):
    """Changes everything that it has."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)
        self.norm = nn.BatchNorm1d(2)
        self.register_buffer("kept", torch.zeros(2), persistent=False)
        self.number, self.text, self.cache = 0, "a", {"key": [1, 2]}
        self.last: Tensor | None = None
        self.array, self.inner = np.zeros(3), Inner()
        self.queue, self.names = deque([1, 2], maxlen=2), {"a"}
        self.counts, self.order = Counter("aab"), OrderedDict(a=1, b=2)
        self.sources = (torch.Generator(), random.Random(1), np.random.RandomState(1))
        self.optimizer = torch.optim.SGD(self.layer.parameters(), lr=0.1, momentum=0.9)

    def forward(self, values: Tensor) -> Tensor:
        self.number += 1
        self.text += "b"
        self.cache["key"].append(3)
        self.cache["new"] = []
        self.last = values
        self.array += 1
        self.inner.count += 1
        self.inner.source.random()
        self.queue.append(3)
        self.names.add("b")
        self.counts["a"] += 1
        self.order.move_to_end("a")
        torch.rand(1, generator=self.sources[0])
        self.sources[1].random()
        self.sources[2].rand()
        self.kept = self.kept + 1
        self.fresh = 1
        with torch.no_grad():
            self.inner.parts[0].weight.zero_()
        with torch.enable_grad():
            self.optimizer.zero_grad()
            self.layer(values).sum().backward()
            self.optimizer.step()
        self.norm.train()(values)
        return values


def state(module: Busy) -> list[Any]:
    sources = [
        module.sources[0].get_state().tolist(),
        module.sources[1].getstate(),
        str(module.sources[2].get_state()),
        str(module.inner.source.bit_generator.state),
    ]
    tensors = [*module.state_dict().values(), module.kept, module.inner.parts[0].weight, module.array]
    plain = [module.number, module.text, dict(module.cache), list(module.cache["key"]), module.last]
    containers = [list(module.queue), set(module.names), dict(module.counts), list(module.order.items())]
    of_optimizer = len(module.optimizer.state)
    return [
        *sources, [t.tolist() for t in tensors], plain, containers, module.inner.count, of_optimizer,
        hasattr(module, "fresh"), module.norm.training,
    ]  # fmt: skip


def test_everything_that_a_pass_changes_comes_back() -> None:
    module = Busy().eval()
    cache, inner, weight = module.cache, module.inner, module.layer.weight
    before = state(module)
    with kept_state(module):
        module(torch.rand(4, 2))
        assert all(a != b for a, b in zip(state(module), before, strict=True))
    assert state(module) == before
    assert (module.cache is cache, module.inner is inner, module.layer.weight is weight) == (True,) * 3


class Builds(odd_models.Plain):
    """Builds a layer with random weights in its first pass."""

    def forward(self, pixels: Tensor) -> Tensor:
        if not hasattr(self, "late"):
            self.late = nn.Linear(10, 10)
        return super().forward(pixels)


def test_parts_that_a_pass_builds_stay() -> None:
    module = Builds()
    with kept_state(module):
        module(torch.rand(2, 3, 6, 6))
    assert isinstance(module.late, nn.Linear)


class Observes(odd_models.Plain):
    """Divides pixels by the largest value that it has seen, in a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("most", torch.zeros(()), persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        self.most.copy_(torch.maximum(self.most, pixels.detach().max()))
        return super().forward(pixels / self.most)


class ScalesByFirstBatch(odd_models.Plain):
    scale: Tensor | None = None

    def forward(self, pixels: Tensor) -> Tensor:
        if self.scale is None:
            self.scale = pixels.detach().std()
        return super().forward(pixels / self.scale)


class Counts(odd_models.Plain):
    every, calls = 7, 0

    def forward(self, pixels: Tensor) -> Tensor:
        self.calls += 1
        return super().forward(pixels) * (-1 if self.calls % self.every == 0 else 1)


class CountsRarely(Counts):
    every = 16


class Draws(odd_models.Plain):
    def __init__(self) -> None:
        super().__init__()
        self.source = np.random.default_rng(3)

    def forward(self, pixels: Tensor) -> Tensor:
        return super().forward(pixels) + self.source.normal(0, 0.1)


class RunningMean(odd_models.Plain):
    mean = torch.zeros(())

    def forward(self, pixels: Tensor) -> Tensor:
        logits = super().forward(pixels)
        self.mean = self.mean + 0.5 * (logits.detach().mean() - self.mean)
        return logits - self.mean


@pytest.mark.parametrize("kind", [Observes, ScalesByFirstBatch, Counts, CountsRarely, Draws, RunningMean])
def test_a_module_is_measured_as_it_was_made_and_flagged(kind: type[odd_models.Plain], images: Path) -> None:
    data, cpu = datasets.load(f"npz:{images}"), torch.device("cpu")
    model = zoo.load(f"m={__name__}:{kind.__name__}", dataset=data, device=cpu)
    answers = probe.probe([model], data, cpu, gradients=True)
    assert probe.find_flags([model], data, cpu, answers) == {"m": [doubts.RANDOM]}
    probe.check_under_attack([model], data, cpu, {"m": []})
    assert probe.probe([model], data, cpu, gradients=True) == answers
    pixels, fresh = data.pixels(slice(2, 9)), kind().eval()
    with torch.no_grad():
        assert all(torch.equal(model.module(pixels), fresh(pixels)) for _ in range(20))


def test_the_records_of_the_wrapper_stay(images: Path) -> None:
    data, cpu = datasets.load(f"npz:{images}"), torch.device("cpu")
    model = zoo.load(f"m={__name__}:Counts", dataset=data, device=cpu)
    probe.probe([model], data, cpu)
    assert isinstance(model.module, OwnModel)
    assert model.module.most == len(probe.inputs(data, cpu))
    assert model.module.module.calls == 0


def test_memory_that_is_mapped_for_reading_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "table"
    np.arange(4.0).tofile(path)
    code = f"""
import warnings
import numpy as np, torch
from torch import nn
from blrobust.models.kept_state import kept_state
warnings.simplefilter("ignore")
model = nn.Identity()
model.register_buffer("table", torch.from_numpy(np.memmap({str(path)!r}, mode="r")))
with kept_state(model):
    pass
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
