"""Losses (m,) of logits (m, classes), and the margins from which they are computed."""

import torch
from torch import Tensor
from torch.nn.functional import softplus


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the cross-entropy -log softmax(z)_y of logits z and labels y, as log(1 + exp(-log-odds)).

    The usual computation through the softmax fails on a confident network. The loss rounds to 0, and so does
    softmax(z)_y - 1, the component of the gradient for the label's logit. Without this component the gradient
    with respect to the image has another direction.
    """
    return softplus(-log_odds(logits, labels))


def logits_ratio(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the difference of logits ratio (DLR), -(z_y - max_{i != y} z_i) / (z_1st - z_3rd).

    z are the logits of a sample and y is its label; z_1st and z_3rd are the largest and third largest logit.
    The ratio does not change if all logits are shifted or scaled. Croce & Hein 2020, equation 6. Raises
    `ValueError` for fewer than three classes.
    """
    _check_classes(logits, 3, "the difference of logits ratio")
    first, _, third = logits.topk(3, dim=1).values.unbind(dim=1)
    return -margin(logits, labels) / _positive(first - third)


def targeted_logits_ratio(logits: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    """Return the targeted DLR, -(z_y - z_t) / (z_1st - (z_3rd + z_4th) / 2).

    z are the logits of a sample, y is its label and t its target class; z_1st, z_3rd and z_4th are the
    largest, third and fourth largest logit. Croce & Hein 2020, equation 7. Raises `ValueError` for fewer than
    four classes.
    """
    _check_classes(logits, 4, "the targeted difference of logits ratio")
    first, _, third, fourth = logits.topk(4, dim=1).values.unbind(dim=1)
    return (_of(logits, targets) - _of(logits, labels)) / _positive(first - (third + fourth) / 2)


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the margins z_y - max_{i != y} z_i of logits z: positive if the prediction is the label y."""
    return _of(logits, labels) - others(logits, labels).amax(dim=1)


def log_odds(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the log-odds ln(p_y / (1 - p_y)) of the label y, p = softmax(logits), without cancellation.

    The log-odds order samples as p_y does. They still change where p_y has rounded to 1, so their gradient
    does not vanish on a confident network.
    """
    return _of(logits, labels) - others(logits, labels).logsumexp(dim=1)


def others(logits: Tensor, labels: Tensor) -> Tensor:
    """Return `logits` (m, classes) with the logit of each sample's label replaced by minus infinity."""
    return logits.scatter(1, labels[:, None], -torch.inf)


def likely_wrong(logits: Tensor, labels: Tensor, count: int) -> Tensor:
    """Return the `count` wrong classes with the largest logits, most likely first, int64 (m, count).

    If there are fewer than `count` wrong classes, all of them are returned.
    """
    return others(logits, labels).topk(min(count, logits.shape[1] - 1), dim=1).indices


def _of(logits: Tensor, classes: Tensor) -> Tensor:
    return logits.gather(1, classes[:, None])[:, 0]


def _positive(difference: Tensor) -> Tensor:
    return difference.clamp(min=1e-12)


def _check_classes(logits: Tensor, least: int, name: str) -> None:
    if logits.shape[1] < least:
        raise ValueError(f"got a model of {logits.shape[1]} classes; legal for {name}: at least {least}")
