"""Losses (m,) of logits (m, classes), and the margins that they are made of."""

import torch
from torch import Tensor
from torch.nn.functional import softplus


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Return -log softmax(z)_y, computed as log(1 + exp(-log-odds)).

    The usual form through the softmax fails on a confident network. The loss rounds to 0, and so does the
    component softmax(z)_y - 1 of the gradient; without it the gradient has another direction.
    """
    return softplus(-log_odds(logits, labels))


def logits_ratio(logits: Tensor, labels: Tensor) -> Tensor:
    """Return DLR, -(z_y - max_{i != y} z_i) / (z_1st - z_3rd), invariant to shift and scale of the logits.

    Croce & Hein 2020, equation 6. Raises `ValueError` below three classes.
    """
    _check_classes(logits, 3, "the difference of logits ratio")
    first, _, third = logits.topk(3, dim=1).values.unbind(dim=1)
    return -margin(logits, labels) / _positive(first - third)


def targeted_logits_ratio(logits: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    """Return the targeted DLR, -(z_y - z_t) / (z_1st - (z_3rd + z_4th) / 2).

    Croce & Hein 2020, equation 7. Raises `ValueError` below four classes.
    """
    _check_classes(logits, 4, "the targeted difference of logits ratio")
    first, _, third, fourth = logits.topk(4, dim=1).values.unbind(dim=1)
    return (_of(logits, targets) - _of(logits, labels)) / _positive(first - (third + fourth) / 2)


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """Return z_y - max_{i != y} z_i: positive where the prediction is right."""
    return _of(logits, labels) - others(logits, labels).amax(dim=1)


def log_odds(logits: Tensor, labels: Tensor) -> Tensor:
    """Return ln(p_y / (1 - p_y)) of the softmax p, without cancellation.

    The log-odds order samples as p_y does, but still change where p_y has rounded to 1. So a confident
    network has no plateau.
    """
    return _of(logits, labels) - others(logits, labels).logsumexp(dim=1)


def others(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the logits with each sample's label at minus infinity."""
    return logits.scatter(1, labels[:, None], -torch.inf)


def likely_wrong(logits: Tensor, labels: Tensor, count: int) -> Tensor:
    """Return the `count` most likely wrong classes, or all if there are fewer, int64 (m, count)."""
    return others(logits, labels).topk(min(count, logits.shape[1] - 1), dim=1).indices


def _of(logits: Tensor, classes: Tensor) -> Tensor:
    return logits.gather(1, classes[:, None])[:, 0]


def _positive(difference: Tensor) -> Tensor:
    return difference.clamp(min=1e-12)


def _check_classes(logits: Tensor, least: int, name: str) -> None:
    if logits.shape[1] < least:
        raise ValueError(f"got a model of {logits.shape[1]} classes; legal for {name}: at least {least}")
