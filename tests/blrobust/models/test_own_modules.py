"""Modules of a user's own, loaded: their input, their card, and their checksum."""

import hashlib
import logging
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support import odd_models
from support.odd_models import ODD
from support.plain_model import write_images
from torch import nn

from blrobust.data import datasets
from blrobust.data.datasets import Dataset
from blrobust.evaluation import doubts, probe
from blrobust.models import zoo
from blrobust.models.fingerprint import fingerprint
from blrobust.models.global_settings import SETTINGS, unchanged_settings
from blrobust.models.model import Model
from blrobust.models.own_module import load_module
from blrobust.perturbations.base import predict
from blrobust.perturbations.seeding import states


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve images with the labels that the plain model predicts, but for two."""
    path = tmp_path_factory.mktemp("images") / "images.npz"
    write_images(path)
    return path


@pytest.mark.parametrize("name", ["InPlace", "InPlaceByData"])
def test_a_model_that_writes_into_its_input_writes_into_a_copy(name: str, images: Path) -> None:
    data = datasets.load(f"npz:{images}")
    model = zoo.load(f"m=support.odd_models:{name}", dataset=data, device=torch.device("cpu"))
    pixels = data.pixels(slice(0, 5))
    with torch.no_grad():
        logits = model.module(pixels)
    assert torch.equal(pixels, data.pixels(slice(0, 5)))
    assert torch.allclose(logits, odd_models.Plain()(pixels))


@pytest.mark.parametrize("gradients", [False, True])
def test_writes_that_the_first_two_images_do_not_show_spare_the_pixels(gradients: bool, images: Path) -> None:
    data = datasets.load(f"npz:{images}")
    model = zoo.load("m=support.odd_models:InPlaceOnMany", dataset=data, device=torch.device("cpu"))
    pixels = data.pixels(slice(0, 5)).requires_grad_(gradients)
    with torch.set_grad_enabled(gradients):
        logits = model.module(pixels)
    assert torch.equal(pixels, data.pixels(slice(0, 5)))
    assert torch.allclose(logits, odd_models.Plain()(pixels.detach().clamp(max=0.5)))


class Squeezes(odd_models.Plain):
    """Returns logits (classes,) for a single image."""

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return super().forward(pixels).squeeze()


class Reuses(odd_models.Plain):
    """Writes its logits into the same memory at each call."""

    buffer: torch.Tensor | None = None

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        logits = super().forward(pixels).detach()
        if self.buffer is None or len(self.buffer) != len(logits):
            self.buffer = torch.empty_like(logits)
        return self.buffer.copy_(logits)


class ChangesDevice(odd_models.Plain):
    """Leaves another default device."""

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        logits = super().forward(pixels)
        torch.set_default_device("meta")
        return logits


@pytest.mark.parametrize("name", ["Squeezes", "Reuses", "ChangesDevice"])
def test_logits_of_a_call_are_those_of_plain_code(name: str, images: Path) -> None:
    data = datasets.load(f"npz:{images}")
    model = zoo.load(f"m={__name__}:{name}", dataset=data, device=torch.device("cpu"))
    parts = [data.pixels(slice(at, at + 1)) for at in range(3)]
    with torch.no_grad():
        found = torch.cat([model.module(part) for part in parts])
    assert torch.get_default_device() == torch.device("cpu")
    assert torch.allclose(found, odd_models.Plain()(torch.cat(parts)))
    assert doubts.doubts(model.module, *_probed(model, data)) == []


def change_settings() -> None:
    torch.set_default_dtype(torch.float64)
    torch.set_default_device("meta")
    torch.set_grad_enabled(mode=False)
    torch.set_autocast_enabled("cpu", True)
    torch.use_deterministic_algorithms(mode=True)
    torch.set_float32_matmul_precision("medium")
    torch.set_num_threads(2)
    os.chdir("/")
    logging.root.setLevel(logging.DEBUG)


def settings() -> list[Any]:
    return [get() for get, _ in SETTINGS]


class ChangesAll(odd_models.Plain):
    """Leaves other global settings after each call."""

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        logits = super().forward(pixels)
        change_settings()
        return logits


def changes_all() -> torch.nn.Module:
    model = odd_models.Plain()
    change_settings()
    return model


@pytest.mark.parametrize("name", ["ChangesAll", "changes_all"])
def test_global_settings_that_a_model_changes_are_restored(name: str, images: Path) -> None:
    data = datasets.load(f"npz:{images}")
    with unchanged_settings():
        before = settings()
        model = zoo.load(f"m={__name__}:{name}", dataset=data, device=torch.device("cpu"))
        assert settings() == before
        with torch.no_grad():
            logits = model.module(data.pixels(slice(0, 5)))
        assert settings() == before
    assert torch.allclose(logits, odd_models.Plain()(data.pixels(slice(0, 5))))


class LargeOffset(odd_models.Plain):
    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return super().forward(pixels).double() + 1e10


class Huge(odd_models.Plain):
    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return super().forward(pixels).double() * 1e40


class Minute(odd_models.Plain):
    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return super().forward(pixels).double() * 1e-60


class Integers(odd_models.Plain):
    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return (super().forward(pixels) * 1000).round().long() + 2**40


@pytest.mark.parametrize("name", ["LargeOffset", "Huge", "Minute", "Integers"])
def test_the_class_is_that_of_the_logits_in_their_own_dtype(name: str, images: Path) -> None:
    data = datasets.load(f"npz:{images}")
    model = zoo.load(f"m={__name__}:{name}", dataset=data, device=torch.device("cpu"))
    pixels = data.pixels(slice(0, 12))
    assert torch.equal(predict(model.module, pixels), predict(odd_models.Plain(), pixels))


class DefaultDtype(odd_models.Plain):
    """Computes in torch's default dtype, which its factory sets to float64."""

    def __init__(self) -> None:
        super().__init__()
        torch.set_default_dtype(torch.float64)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        assert torch.zeros(()).dtype == torch.float64
        return super().forward(pixels)


def test_a_model_is_called_with_the_default_dtype_that_its_factory_set(images: Path) -> None:
    data = datasets.load(f"npz:{images}")
    model = zoo.load(f"m={__name__}:DefaultDtype", dataset=data, device=torch.device("cpu"))
    assert torch.get_default_dtype() == torch.float32
    with torch.no_grad():
        assert model.module(data.pixels(slice(0, 5))).dtype == torch.float32


def _probed(model: Model, data: Dataset) -> tuple[torch.Tensor, probe.Answers]:
    pixels = probe.inputs(data, torch.device("cpu"))
    return pixels, probe._answers("m", model.module, pixels)


@pytest.mark.parametrize(
    ("name", "precision", "note"),
    [
        ("Plain", "fp32", ""),
        ("OddBuffers", "fp32", ", in "),  # its buffers have other dtypes
        ("Parameterless", "fp32", ""),
        ("unused_meta", "fp32", ""),
        ("half", "fp32", ", converted from float16"),
        ("HalfInside", "bf16", ", in bfloat16"),
        ("RefusesFloat", "bf16", ", in bfloat16"),
        ("FloatStaysDouble", "fp64", ", in float64"),
        ("MixedInside", "mixed", ", in bfloat16"),
        ("int8", "int8", ""),
    ],
)
def test_the_card_has_the_precision_of_the_module(name: str, precision: str, note: str, images: Path) -> None:
    data = datasets.load(f"npz:{images}")
    card = zoo.load(f"m=support.odd_models:{name}", dataset=data, device=torch.device("cpu")).card
    assert card.precision == precision
    assert (card.note or "").startswith(f"the user's own model{note}")
    assert note or card.note == "the user's own model"


def test_the_checksum_is_the_same_each_time(images: Path) -> None:
    data = datasets.load(f"npz:{images}")

    def digest(label: str) -> str:
        return zoo.load(f"m=support.odd_models:{label}", dataset=data, device=torch.device("cpu")).card.sha256

    digests = {name: digest(name) for name in ODD}
    assert digests == {name: digest(name) for name in digests}


@pytest.mark.parametrize("buffer", ["whole", "mask", "phase", "brain", "eight", "view", "hidden"])
def test_a_changed_buffer_changes_the_checksum(
    buffer: str, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = datasets.load(f"npz:{images}")
    digests = []
    for change in (False, True):

        def make(*, change: bool = change) -> torch.nn.Module:
            model = odd_models.OddBuffers()
            if change:
                model.get_buffer(buffer).zero_()
            return model

        monkeypatch.setattr(odd_models, "changed", make, raising=False)
        model = zoo.load("m=support.odd_models:changed", dataset=data, device=torch.device("cpu"))
        digests.append(model.card.sha256)
    assert digests[0] != digests[1]


class NamesAnAddress(odd_models.Plain):
    def __init__(self) -> None:
        super().__init__()
        self.activation = lambda values: values

    def extra_repr(self) -> str:
        return f"activation={self.activation}"


class NamesItsTags(odd_models.Plain):
    """Has texts in its `repr` that differ between processes."""

    def extra_repr(self) -> str:
        return f"tags={set('abcdefgh')}, made {time.perf_counter_ns()}, hash {hash('a')}"


class NamesItself(odd_models.Plain):
    def __repr__(self) -> str:
        return f"made {time.perf_counter_ns()}"


class Scratch(odd_models.Plain):
    """Writes into memory that is not initialised and not part of its state."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("scratch", torch.rand(100, 3), persistent=False)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        logits = super().forward(pixels)
        self.scratch[: len(pixels)] = logits.detach()
        return logits


@pytest.mark.parametrize("kind", [NamesAnAddress, NamesItsTags, NamesItself, Scratch])
def test_texts_of_the_user_and_scratch_memory_do_not_change_the_checksum(
    kind: type[torch.nn.Module], images: Path
) -> None:
    data, modules = datasets.load(f"npz:{images}"), [kind(), kind()]
    loaded = [
        load_module("m", module, target="m", dataset=data, device=torch.device("cpu")) for module in modules
    ]
    assert loaded[0].card.sha256 == loaded[1].card.sha256


def test_settings_of_layers_change_the_checksum_beside_texts_of_the_user() -> None:
    digests = {
        fingerprint(nn.Sequential(layer, NamesItsTags()), exact=True)
        for layer in (nn.Conv2d(3, 3, 3), nn.Conv2d(3, 3, 3, stride=2))
        if layer.load_state_dict({"weight": torch.ones(3, 3, 3, 3), "bias": torch.ones(3)})
    }
    assert len(digests) == 2


def test_the_checksum_of_a_model_without_texts_of_the_user_has_its_repr() -> None:
    """Runs of early builds have this checksum."""
    model = nn.Sequential(odd_models.Parameterless(), nn.ReLU())
    assert fingerprint(model, exact=True) == hashlib.sha256(repr(model).encode()).hexdigest()


def test_sets_do_not_change_the_checksum_in_another_process() -> None:
    code = """
from torch import nn
from blrobust.models.fingerprint import fingerprint
class Tagged(nn.Module):
    def get_extra_state(self):
        return {"tags": set("abcdefgh"), "frozen": frozenset("abcdefgh")}
print(fingerprint(Tagged(), exact=True))
"""
    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in "12"
    }
    assert len(found) == 1


class DrawsFromAll(odd_models.Plain):
    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        noise = torch.rand(()) + np.random.rand() + random.random()  # noqa: NPY002
        return super().forward(pixels) * float(noise)


def test_loading_leaves_the_random_generators_alone(images: Path) -> None:
    data, cpu = datasets.load(f"npz:{images}"), torch.device("cpu")
    module = DrawsFromAll()
    before = states(cpu)
    load_module("m", module, target="m", dataset=data, device=cpu)
    assert states(cpu) == before
