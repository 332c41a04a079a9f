"""Averaged logits of a model that draws random numbers, for attacks with the parameter `eot` above 1."""

from torch import Tensor, nn


class MeanLogits(nn.Module):
    """A model whose logits are the mean of the logits of `draws` forward passes.

    Expectation over transformation: Athalye et al. 2018, "Synthesizing robust adversarial examples".
    """

    def __init__(self, model: nn.Module, draws: int) -> None:
        super().__init__()
        self.model = model
        self.draws = draws
        self.training = False

    def forward(self, inputs: Tensor) -> Tensor:
        """Return logits (m, classes) of inputs (m, C, H, W)."""
        total: Tensor = self.model(inputs)
        for _ in range(self.draws - 1):
            total = total + self.model(inputs)
        return total / self.draws
