"""Model wrapper that takes inputs in another space than pixels and counts forward and backward passes."""

import logging
import warnings
from dataclasses import dataclass
from itertools import count
from weakref import WeakKeyDictionary, WeakSet

import torch
from torch import Tensor, nn

from blrobust.attacks.building_blocks.gradient_scaling import power_of_two
from blrobust.errors import describe
from blrobust.models.own_model import OwnModel, own_state_kept
from blrobust.models.own_precision import precision_of
from blrobust.perturbations.base import is_out_of_memory
from blrobust.perturbations.input_space import PIXELS, Space
from blrobust.perturbations.seeding import unchanged

logger = logging.getLogger(__name__)

_GRADIENTS: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()
_LOGGED: WeakSet[nn.Module] = WeakSet()
_CALLS = count()
NOISE_SHARE = 0.1


@dataclass
class PassCounter:
    """The number of images in the forward passes of all `CountingModel`s that share this counter."""

    forwards: int = 0


class CountingModel(nn.Module):
    """A model that takes inputs in `space` and counts the samples in its forward and backward passes.

    The wrapped `model` takes float32 pixels and may compute in another precision. `space` converts inputs to
    pixels. The logits are converted to float32, because half-precision tensors silently turn into NaN inside
    Foolbox.

    On a confident network, the gradient of the loss with respect to the logits is 1e-9 or less, which 16-bit
    numbers round to 0. Attacks would get no gradient, and the network would look robust. So a backward pass
    multiplies this gradient by a power of two for each sample, which brings it to about 1, and divides the
    gradient of the inputs by the same factor.
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
        """Return logits, float32 (m, classes), of inputs (m, C, H, W) in `space`."""
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
    """Hooks of a backward pass: `enter` scales the logits' gradient, `leave` unscales that of the inputs."""

    def __init__(self, counted: CountingModel) -> None:
        self._counted = counted
        self._factor = torch.ones(())

    def enter(self, gradient: Tensor) -> Tensor:
        self._counted.backwards += len(gradient)
        self._factor = power_of_two(gradient)  # (m, 1)
        return gradient * self._factor

    def leave(self, gradient: Tensor | None) -> Tensor | None:
        if gradient is None:  # some layers have no backward pass, which torch does not report
            return None
        return gradient / self._factor.view(-1, *[1] * (gradient.ndim - 1))


def gives_gradients(model: nn.Module, pixels: Tensor) -> bool:
    """Return whether the logits of a model have gradients with respect to pixels (m, C, H, W).

    There are no gradients if the model detaches the logits from its input, or if the model fails when the
    input requires gradients. Gradients that are zero count as gradients. Each model is checked once, by a
    pass of two images with noise, because a model that stores its logits may have stored those of the images
    without gradients. Then the state of a user's module is restored. For a model without gradients a warning
    is logged.
    """
    if model not in _GRADIENTS:
        problem = _gradient_problem(model, _unseen(pixels[:2]))
        _GRADIENTS[model] = problem is None
        # The user's own module, if `model` wraps one.
        own = next((part for part in model.modules() if isinstance(part, OwnModel)), model)
        if problem is not None and own not in _LOGGED:
            _LOGGED.add(own)
            logger.warning(
                "model %s has no gradients (%s): attacks of the families noise, decision and score work; "
                "those of the family gradient count its images as robust",
                repr(own.label) if isinstance(own, OwnModel) else type(own).__name__,
                problem,
            )
    return _GRADIENTS[model]


def _unseen(pixels: Tensor) -> Tensor:
    """Return pixels (m, C, H, W) with noise that differs at each call; those in [0, 1] stay in it."""
    source = torch.Generator().manual_seed(next(_CALLS))
    noise = torch.rand(pixels.shape, generator=source).to(pixels)
    return pixels.lerp(noise, NOISE_SHARE)


def _gradient_problem(model: nn.Module, pixels: Tensor) -> str | None:
    """Return the reason why the model has no gradients, or None if it has gradients."""
    # Generators are restored: a model with random parts draws the same numbers without this pass.
    try:
        with (
            own_state_kept(model),
            unchanged(pixels.device),
            torch.enable_grad(),
            warnings.catch_warnings(action="ignore"),  # torch's about a missing backward pass
        ):
            inputs = pixels.clone().requires_grad_()
            logits = CountingModel(model, PIXELS)(inputs)
            if not logits.requires_grad:
                return "its logits do not depend on the input in a differentiable way"
            (gradient,) = torch.autograd.grad(logits.sum(), inputs, allow_unused=True)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # whatever the user's code raises
        if is_out_of_memory(error):
            raise
        if any(isinstance(m, OwnModel) and precision_of(m.module) == "int8" for m in model.modules()):
            return "its int8 layers have no backward pass"
        return describe(error.__cause__ or error)
    return "its backward pass gives no gradient for the input" if gradient is None else None
