"""The model as an attack sees it: from its space, and what it was asked."""

import torch
from torch import Tensor, nn

from blrobust.attacks.building_blocks.gradient_scaling import power_of_two
from blrobust.space import Space


class Counted(nn.Module):
    """A model seen from ``space`` that counts the samples passed through it, both ways.

    Its answers are float32: half tensors inside Foolbox turn into NaN silently. ``model`` takes
    float32 pixels, whatever it computes in. Gradients pass through it scaled, sample by sample, by
    a power of two that brings the logits' to about 1: those of a sure network are 1e-9 and less,
    which 16 bits round to 0, and the network would look robust because no attack could see it.
    """

    passed = 0  # samples through all of them together, to be looked at while an attack runs

    def __init__(self, model: nn.Module, space: Space) -> None:
        super().__init__()
        self.model = model
        self.space = space
        self.forwards = 0
        self.backwards = 0
        if any(module.training for module in model.modules()):
            model.eval()
        self.training = False

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits float32 (m, classes) of inputs (m, C, H, W)."""
        self.forwards += len(inputs)
        Counted.passed += len(inputs)
        scaling = _Scaling(self)
        if inputs.requires_grad:
            inputs = inputs.view_as(inputs)  # whose gradient is this pass's alone
            inputs.register_hook(scaling.leave)  # type: ignore[no-untyped-call]
        logits: Tensor = self.model(self.space.leave(inputs)).float()
        if logits.requires_grad:
            logits.register_hook(scaling.enter)  # type: ignore[no-untyped-call]
        return logits


class _Scaling:
    """The gradients of one pass: scaled where they enter the model, and back where they leave it."""

    def __init__(self, counted: Counted) -> None:
        self._counted = counted
        self._factor = torch.ones(())

    def enter(self, gradient: Tensor) -> Tensor:
        self._counted.backwards += len(gradient)
        self._factor = power_of_two(gradient)  # (m, 1)
        return gradient * self._factor

    def leave(self, gradient: Tensor) -> Tensor:
        return gradient / self._factor.view(-1, *[1] * (gradient.ndim - 1))
