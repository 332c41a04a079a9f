"""Predictions, probabilities and margins, beside numpy in float64."""

import numpy as np
import pytest
import torch
from torch import nn

from blrobust.errors import UserError
from blrobust.perturbations.base import predict
from blrobust.perturbations.classification import classify


def logits(rows: int, classes: int, scale: float) -> torch.Tensor:
    return scale * torch.randn(rows, classes, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("scale", [0.1, 3.0, 40.0])
def test_probabilities_and_margins_are_those_in_float64(scale: float) -> None:
    given = logits(500, 10, scale)
    labels = torch.arange(500) % 10
    found = classify(nn.Identity(), given, labels)
    exact, rows = given.double().numpy(), np.arange(500)
    shifted = np.exp(exact - exact.max(1, keepdims=True))
    softmax = shifted / shifted.sum(1, keepdims=True)
    others = exact.copy()
    others[rows, labels] = -np.inf
    prediction = exact.argmax(1)
    assert found["prediction"].tolist() == prediction.tolist()
    # Float16 has 11 bits, and steps of 2^-24 below 2^-14.
    for name, classes in (("probability_label", labels.numpy()), ("probability_prediction", prediction)):
        wanted = softmax[rows, classes]
        assert found[name].dtype == torch.float16
        assert np.all(np.abs(found[name].double().numpy() - wanted) <= wanted * 2.0**-11 + 2.0**-25 + 1e-7)
    margin = exact[rows, labels] - others.max(1)
    assert found["margin"].dtype == torch.float32
    np.testing.assert_allclose(found["margin"].numpy(), margin, rtol=1e-6, atol=1e-6 * scale)
    assert ((found["margin"] > 0).numpy() == (prediction == labels.numpy())).all()


def test_the_prediction_is_that_of_predict() -> None:
    given = logits(64, 5, 1.0)
    given[3, 2], given[5, 0], given[7, 4] = torch.nan, torch.inf, -torch.inf
    found = classify(nn.Identity(), given, torch.zeros(64, dtype=torch.int64))
    assert torch.equal(found["prediction"], predict(nn.Identity(), given))
    missing = found["prediction"] == -1
    assert missing.nonzero()[:, 0].tolist() == [3, 5, 7]
    for name in ("probability_label", "probability_prediction", "margin"):
        assert torch.equal(found[name].isnan(), missing), name


def test_logits_in_half_precision_give_float32_margins() -> None:
    given = torch.tensor([[60000.0, -60000.0]], dtype=torch.float16)
    found = classify(nn.Identity(), given, torch.tensor([0]))
    assert (found["margin"].item(), found["probability_label"].item()) == (120000.0, 1.0)


def test_a_model_without_logits_is_refused() -> None:
    with pytest.raises(UserError, match=r"returned logits of shape \(2, 3, 4\) for 2 images"):
        classify(nn.Identity(), torch.zeros(2, 3, 4), torch.zeros(2, dtype=torch.int64))
