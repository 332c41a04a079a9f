"""Models with and without gradients are told apart, and the reason is one line."""

import logging
import warnings
from typing import Any

import pytest
import torch
from support.odd_models import Remembers
from support.plain_model import Plain
from torch import Tensor, nn

from blrobust.attacks.counting_model import gives_gradients

NONE = "its backward pass gives no gradient for the input"


class GivesNone(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, values: Tensor) -> Tensor:
        return values.clone()

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> None:  # type: ignore[override]
        return None


class WithoutBackward(Plain):
    def forward(self, x: Tensor) -> Any:
        return super().forward(GivesNone.apply(x))


def int8_head() -> nn.Module:
    """Float layers in front of an int8 one, through which torch's backward pass gives no gradient."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quantize = torch.ao.quantization.quantize_dynamic
        head: nn.Module = quantize(nn.Sequential(nn.Linear(3, 3)), {nn.Linear}, dtype=torch.qint8)  # type: ignore[no-untyped-call]
    return nn.Sequential(Plain(), head).eval()


@pytest.mark.parametrize("make", [WithoutBackward, int8_head])
def test_a_backward_pass_without_a_gradient_is_named(make: Any, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert not gives_gradients(make(), torch.rand(2, 3, 6, 6))
    (line,) = caplog.messages
    assert f"has no gradients ({NONE})" in line


def test_gradients_are_found_on_images_that_the_model_does_not_remember() -> None:
    model, pixels = Remembers().eval(), torch.rand(4, 3, 6, 6)
    model(pixels)
    # Behind each channel of a recovery, the same network is another model.
    assert all(gives_gradients(nn.Sequential(nn.Identity(), model).eval(), pixels) for _ in range(3))
