"""The checksum of code changes with code and attributes, and not with comments, docstrings or processes."""

import logging
import os
import subprocess
import sys
from enum import Enum
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from blrobust.models.code_digest import code_digest

MODEL = '''
from types import SimpleNamespace

import torch
from torch import nn

LIMIT = 8

def clipped(x):
    return x.clamp(max=LIMIT)

class Half(nn.Linear):
    """A layer."""
    words = {"a", "b", "c", "d"}

    def forward(self, x, factor=0.5):
        def scaled(y):
            return factor * y
        return scaled(super().forward(x))

class Slots:
    __slots__ = ("factor",)

    def __init__(self):
        self.factor = 0.25

    def scaled(self, x):
        return x * self.factor

class Settings:
    def __init__(self):
        self.limit = 3
        self.space = SimpleNamespace(share=0.75)
        self.scaled = Slots().scaled

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.settings, self.steps = Half(2, 2), Settings(), [1, 2.0, None]
        self.later = lambda x: x + 1
        self.place = object()

    def forward(self, x):
        return clipped(self.later(self.layer(x)))
'''
EDITS = [
    ("factor=0.5", "factor=0.25"),
    ("factor * y", "factor + y"),
    ("x + 1", "x + 2"),
    ("limit = 3", "limit = 4"),
    ("2.0, None", "2.5, None"),
    ('"c", "d"', '"c", "e"'),
    ("self.later(self.layer(x))", "self.layer(self.later(x))"),
    ("LIMIT = 8", "LIMIT = 9"),
    ("share=0.75", "share=0.5"),
    ("factor = 0.25", "factor = 0.5"),
    ("x.clamp(max", "x.clamp(min"),
]
SAME = [
    ('"""A layer."""', '"""Another text."""'),
    ("return clipped(self.later", "# a comment\n        return clipped(self.later"),
]


def digest(text: str) -> str:
    names: dict[str, type[nn.Module]] = {"__name__": "mine"}  # type: ignore[dict-item]
    exec(text, names)
    return code_digest(names["Net"]())


@pytest.mark.parametrize("edit", EDITS, ids=str)
def test_an_edit_changes_it(edit: tuple[str, str]) -> None:
    assert edit[0] in MODEL
    assert digest(MODEL.replace(*edit)) != digest(MODEL)


@pytest.mark.parametrize("edit", SAME, ids=["docstring", "comment"])
def test_what_is_not_code_does_not_count(edit: tuple[str, str]) -> None:
    assert edit[0] in MODEL
    assert digest(MODEL.replace(*edit)) == digest(MODEL)


def test_it_is_the_same_in_each_process(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(MODEL)
    text = "import mine; from blrobust.models.code_digest import code_digest; print(code_digest(mine.Net()))"
    found = {
        subprocess.run(
            [sys.executable, "-c", text], cwd=tmp_path, check=True, capture_output=True,
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)},
        ).stdout
        for seed in "12"
    }  # fmt: skip
    assert len(found) == 1


def test_weights_do_not_count_and_arrays_do() -> None:
    model = nn.Sequential(nn.Linear(2, 2))
    first = code_digest(model)
    with torch.no_grad():
        model[0].weight += 1
    assert code_digest(model) == first
    model.table = np.arange(3)  # type: ignore[assignment]
    second = code_digest(model)
    model.table = np.arange(1, 4)  # type: ignore[assignment]
    assert len({first, second, code_digest(model)}) == 3


class Kind(Enum):
    ONE = 1
    TWO = 2


class Odd(nn.Module):
    """Attributes that refer to themselves or that raise errors."""

    kind = Kind.ONE

    def __init__(self, factor: int = 1) -> None:
        super().__init__()
        self.logger = logging.getLogger("odd")
        self.me = [self]
        self.scale = partial(max, factor)
        self.loop: list[object] = []
        self.loop.append(self.loop)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


Odd.singleton = Odd()  # type: ignore[attr-defined]


def test_objects_that_refer_to_themselves() -> None:
    first = code_digest(Odd())
    logging.getLogger("another")
    assert code_digest(Odd()) == first
    assert code_digest(Odd(2)) != first


def test_an_empty_cell_is_left_out() -> None:
    def outer() -> nn.Module:
        model = nn.Identity()
        model.later = lambda: unset
        if model is None:
            unset = 1
        return model

    assert code_digest(outer()) == code_digest(outer())
