"""Model wrapper that converts the input space and counts forward and backward passes."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from blrobust.attacks.building_blocks.gradient_scaling import power_of_two
from blrobust.perturbations.input_space import Space


@dataclass
class PassCounter:
    """Forward passes of all models that share the counter; it also grows while an attack runs."""

    forwards: int = 0


class CountingModel(nn.Module):
    """A model that takes inputs of `space` and counts the samples passed through it, both ways.

    Its logits are float32: half tensors inside Foolbox turn into NaN silently. `model` takes float32
    pixels, whatever it computes in. Each sample's gradient passes through the model scaled by a power
    of two that brings the logits' gradient to about 1: that of a confident network is 1e-9 and less,
    which 16 bits round to 0, and the network would look robust because attacks get no gradient.
    """

    def __init__(self, model: nn.Module, space: Space, counter: PassCounter | None = None) -> None:
        super().__init__()
        self.model = model
        self.space = space
        self.forwards = 0
        self.backwards = 0
        self._counter = PassCounter() if counter is None else counter
        if any(module.training for module in model.modules()):
            model.eval()
        self.training = False

    def forward(self, inputs: Tensor) -> Tensor:
        """Return logits float32 (m, classes) of inputs (m, C, H, W)."""
        self.forwards += len(inputs)
        self._counter.forwards += len(inputs)
        scaling = _Scaling(self)
        if inputs.requires_grad:
            inputs = inputs.view_as(inputs)  # a tensor whose gradient belongs to this pass alone
            inputs.register_hook(scaling.leave)  # type: ignore[no-untyped-call]
        logits: Tensor = self.model(self.space.leave(inputs)).float()
        if logits.requires_grad:
            logits.register_hook(scaling.enter)  # type: ignore[no-untyped-call]
        return logits


class _Scaling:
    """Scales the gradients of one pass where they enter the model, and back where they leave it."""

    def __init__(self, counted: CountingModel) -> None:
        self._counted = counted
        self._factor = torch.ones(())

    def enter(self, gradient: Tensor) -> Tensor:
        self._counted.backwards += len(gradient)
        self._factor = power_of_two(gradient)  # (m, 1)
        return gradient * self._factor

    def leave(self, gradient: Tensor) -> Tensor:
        return gradient / self._factor.view(-1, *[1] * (gradient.ndim - 1))
