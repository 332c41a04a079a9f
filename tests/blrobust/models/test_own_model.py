"""Logits in the output of a user's own module."""

import signal
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from blrobust import signals
from blrobust.models.output_logits import NoLogitsError, find_logits
from blrobust.models.own_model import OwnModel

LOGITS = torch.arange(12.0).view(4, 3)
FEATURES, OTHER, IMAGE = torch.zeros(4, 7), torch.zeros(4, 5), torch.zeros(4, 3, 2, 2)


@pytest.mark.parametrize(
    "output",
    [
        LOGITS,
        (FEATURES, LOGITS),
        [IMAGE, FEATURES, None, LOGITS, OTHER],
        {"features": FEATURES, "scores": LOGITS},
        {"scores": LOGITS, "image": IMAGE, "loss": torch.zeros(())},
        {"scores": LOGITS + 1, "logits": LOGITS},
        SimpleNamespace(scores=LOGITS + 1, logits=LOGITS),
    ],
    ids=range(7),
)
def test_logits_are_the_tensor_with_a_column_per_class(output: Any) -> None:
    assert find_logits(output, 4, 3) is LOGITS


def test_of_two_tensors_that_fit_a_tuple_has_the_first() -> None:
    assert find_logits((LOGITS, LOGITS + 1), 4, 3) is LOGITS


@pytest.mark.parametrize("output", [(IMAGE, FEATURES), {"features": FEATURES}, [FEATURES, OTHER]])
def test_without_so_many_classes_the_first_matrix_can_be_named(output: Any) -> None:
    assert find_logits(output, 4, 3) is FEATURES


@pytest.mark.parametrize(
    "output",
    [
        None,
        "logits",
        (),
        (IMAGE,),
        {},
        {"logits": None, "image": IMAGE},
        {"main": LOGITS, "auxiliary": LOGITS},
        {"features": FEATURES, "other": OTHER},
        SimpleNamespace(scores=LOGITS),
    ],
    ids=range(9),
)
def test_an_output_without_logits_is_refused_by_its_type(output: Any) -> None:
    with pytest.raises(NoLogitsError, match=f"^returned {type(output).__name__}.* without logits"):
        find_logits(output, 4, 3)


class Deaf(nn.Module):
    """Catches everything that is raised in it, as a bare `except` does."""

    def forward(self, x: Tensor) -> Tensor:
        with suppress(BaseException):
            signals._interrupt(signal.SIGINT, None)
        return x.flatten(1)[:, :3]


def test_an_interrupt_that_the_module_catches_is_raised_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signals, "_install", lambda handler: None)
    with signals.interruptible(), pytest.raises(KeyboardInterrupt):
        OwnModel(Deaf(), "x", 3)(torch.zeros(2, 3, 4, 4))
    with signals.interruptible():
        signals.check()
