"""Errors of the user's code and of other libraries in one short line."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from blrobust.errors import describe, reason, shorten
from blrobust.perturbations.base import predict

PLACE = f"{Path(__file__).name}:"


class Asserts(nn.Module):
    def forward(self, pixels: Tensor) -> Tensor:
        if len(pixels):
            raise AssertionError
        return pixels


class Views(nn.Module):
    def forward(self, pixels: Tensor) -> Tensor:
        return pixels.view(2, 108)


class WithoutTextError(RuntimeError):
    def __str__(self) -> str:
        raise SystemExit("no text")


class HasNoText(nn.Module):
    def forward(self, pixels: Tensor) -> Tensor:
        raise WithoutTextError


def test_an_error_whose_text_fails_is_named_once_with_its_place() -> None:
    with pytest.raises(ValueError, match=rf"^the network failed: WithoutTextError at {PLACE}\d+$"):
        predict(HasNoText(), torch.zeros(2, 3, 4, 4))
    assert describe(WithoutTextError()) == reason(WithoutTextError()) == "WithoutTextError"


def test_an_error_without_a_text_is_named_once_with_its_place() -> None:
    with pytest.raises(ValueError, match=rf"^the network failed: AssertionError at {PLACE}\d+$"):
        predict(Asserts(), torch.zeros(2, 3, 4, 4))


def test_an_error_without_text_and_place_is_its_name() -> None:
    assert describe(KeyError()) == "KeyError"


@pytest.mark.filterwarnings("ignore:`torch.jit")
def test_of_an_error_of_torchscript_its_last_line_is_shown() -> None:
    model = torch.jit.script(Views())
    with pytest.raises(RuntimeError) as raised:
        model(torch.zeros(1, 3, 6, 6))
    assert len(str(raised.value)) > 300
    text = describe(raised.value)
    assert text.startswith("RuntimeError: shape '[2, 108]' is invalid")
    assert len(text) < 100


def test_a_long_text_is_cut() -> None:
    text = describe(RuntimeError("many\nwords " * 100))
    assert text.startswith("RuntimeError: many words")
    assert text.endswith("... (1,099 characters)")
    assert len(text) < 250
    assert shorten("short") == "short"
