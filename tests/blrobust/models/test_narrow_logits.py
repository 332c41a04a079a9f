"""Logits of wide types, converted to float32."""

import math

import pytest
import torch
from torch import Tensor

from blrobust.models.narrow_logits import narrowed

ROWS = torch.linspace(-2, 3, 40, dtype=torch.float64).view(8, 5)[:, torch.tensor([3, 0, 4, 1, 2])]


@pytest.mark.parametrize(
    "logits",
    [
        ROWS + 1e10,
        ROWS * 1e-60,
        ROWS * 1e40,
        (ROWS * 1000).long() + 2**60,
        1e-9 * ROWS.softmax(1) + 0.2,  # within [0, 1]
        torch.tensor([[0, torch.iinfo(torch.int64).min, torch.iinfo(torch.int64).max]]),
        torch.tensor([[7, 200, 3]], dtype=torch.uint8),
        torch.tensor([[False, True, False]]),
    ],
    ids=range(8),
)
def test_the_class_and_the_finiteness_are_those_of_the_own_dtype(logits: Tensor) -> None:
    found = narrowed(logits)
    assert found.dtype == torch.float32
    assert found.isfinite().all()
    whole = logits if logits.is_floating_point() else logits.long()
    assert torch.equal(found.argmax(1), whole.argmax(1))
    assert ((found == found.amax(1, keepdim=True)).sum(1) == 1).all()


def test_differences_are_those_of_the_own_dtype() -> None:
    found = narrowed(ROWS + 2.0**30)
    assert torch.allclose(found.diff(dim=1), ROWS.diff(dim=1).float(), atol=1e-6)
    assert torch.equal(narrowed((ROWS * 8).long() + 2**50).diff(dim=1), (ROWS * 8).long().diff(dim=1).float())


def test_a_tie_stays_a_tie() -> None:
    assert torch.equal(narrowed(torch.full((2, 3), 5.0, dtype=torch.float64)), torch.zeros(2, 3))


def test_logits_that_are_not_finite_stay_so() -> None:
    rows = [[math.nan, 1.0, 2.0], [math.inf, 1.0, 2.0], [-math.inf, 1.0, 2.0]]
    found = narrowed(torch.tensor(rows, dtype=torch.float64))
    assert not found.isfinite().all(1).any()
    assert found[2].tolist() == [-math.inf, -1.0, 0.0]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_narrow_logits_and_probabilities_keep_their_values(dtype: torch.dtype) -> None:
    assert torch.equal(narrowed(ROWS.to(dtype)), ROWS.to(dtype).float())
    probabilities = ROWS.softmax(1)
    assert torch.equal(narrowed(probabilities), probabilities.float())


def test_gradients_are_those_of_the_logits() -> None:
    logits = (ROWS + 1e10).requires_grad_()
    weights = torch.arange(40.0).view(8, 5)
    (gradient,) = torch.autograd.grad((narrowed(logits) * weights).sum(), logits)
    assert torch.equal(gradient, weights.double())
