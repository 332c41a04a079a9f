"""The classification of a block (batch) of inputs, as runs store it: classes, probabilities, margins."""

import math

import torch
from torch import Tensor, nn

from blrobust.perturbations.base import checked_logits, classes_of


def classify(model: nn.Module, pixels: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Return the classification of pixels (b, C, H, W) with labels int64 (b,): tensors (b,) by name.

    - `prediction`, int16: the predicted class, or -1 for logits that are not all finite, as in
      `base.predict`.
    - `probability_label` and `probability_prediction`, float16: the softmax probabilities of the label and of
      the prediction.
    - `margin`, float32: the logit of the label minus the largest other logit, which is positive for a correct
      prediction. A probability near 1 is rounded to 1; a margin has no such limit. The margin is float32,
      because float16 ends at 65,504 and would round different margins to the same value.

    Probabilities and margin are NaN where the prediction is -1. Raises the errors of `base.predict`.
    """
    logits = checked_logits(model, pixels)
    prediction = classes_of(logits)
    missing = prediction < 0
    logits = logits.float()
    label = labels[:, None]
    probabilities = logits.softmax(1)
    margin = logits.gather(1, label) - logits.scatter(1, label, -math.inf).amax(1, keepdim=True)
    predicted = prediction.long().clamp(min=0)[:, None]
    return {
        "prediction": prediction,
        "probability_label": _column(probabilities.gather(1, label), missing).to(torch.float16),
        "probability_prediction": _column(probabilities.gather(1, predicted), missing).to(torch.float16),
        "margin": _column(margin, missing),
    }


def _column(values: Tensor, missing: Tensor) -> Tensor:
    """Return the only column of `values` (b, 1), with NaN where `missing`, bool (b,), is true."""
    return values[:, 0].masked_fill(missing, math.nan)
