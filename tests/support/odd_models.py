"""Odd modules that all return logits under a plain `model(x)`: what users' own models do.

`ODD` maps a name to its factory, which a model name imports as `support.odd_models:NAME`. Images are
3 x 6 x 6, of three classes.
"""

import random
import warnings
from collections import namedtuple
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from support.failing_models import BatchStatistics as BatchStatistics
from support.failing_models import Cancelled as Cancelled
from support.failing_models import Cancels as Cancels
from support.failing_models import CancelsBackward as CancelsBackward
from support.failing_models import CancelsLargeBackward as CancelsLargeBackward
from support.failing_models import Doubles as Doubles
from support.failing_models import EqualsAll as EqualsAll
from support.failing_models import Exits as Exits
from support.failing_models import ExitsGenerator as ExitsGenerator
from support.failing_models import Fails as Fails
from support.failing_models import FailsOnBlack as FailsOnBlack
from support.failing_models import FailsOnWhite as FailsOnWhite
from support.failing_models import Few as Few
from support.failing_models import Full as Full
from support.failing_models import HidesParameters as HidesParameters
from support.failing_models import HidesState as HidesState
from support.failing_models import Incomparable as Incomparable
from support.failing_models import Interrupts as Interrupts
from support.failing_models import NotInitialised as NotInitialised
from support.failing_models import OnlyOne as OnlyOne
from support.odd_precisions import Double as Double
from support.odd_precisions import FloatStaysDouble as FloatStaysDouble
from support.odd_precisions import HalfInside as HalfInside
from support.odd_precisions import HalfLogits as HalfLogits
from support.odd_precisions import MixedInside as MixedInside
from support.odd_precisions import RefusesFloat as RefusesFloat
from support.odd_precisions import half as half
from support.odd_precisions import int8 as int8
from support.plain_model import SHAPE as SHAPE
from support.plain_model import Plain as Plain
from support.stateful_models import Caches as Caches
from support.stateful_models import Remembers as Remembers

Output = namedtuple("Output", ["features", "scores"])


class InPlace(Plain):
    def forward(self, x: Tensor) -> Any:
        x.sub_(0.5)
        return self.linear(x.flatten(1))


class InPlaceByData(Plain):
    def forward(self, x: Tensor) -> Any:
        x.data.sub_(0.5)
        return self.linear(x.flatten(1))


class InPlaceOnMany(Plain):
    """Writes into its input through numpy, but only where it has more than two images."""

    def forward(self, x: Tensor) -> Any:
        if len(x) > 2:
            pixels = x.detach().numpy()
            np.minimum(pixels, 0.5, out=pixels)
        return super().forward(x)


class OddBuffers(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("whole", torch.ones(3, dtype=torch.int8))
        self.register_buffer("mask", torch.tensor([True, False]))
        self.register_buffer("phase", torch.ones(2, dtype=torch.complex64).conj())
        self.register_buffer("brain", torch.ones((), dtype=torch.bfloat16))
        self.register_buffer("eight", torch.ones(4).to(torch.float8_e4m3fn))
        self.register_buffer("view", self.linear.weight.detach()[:, ::2])
        self.register_buffer("sparse", torch.eye(3).to_sparse())
        self.register_buffer("hidden", torch.ones(2), persistent=False)


class Parameterless(nn.Module):
    def forward(self, x: Tensor) -> Any:
        return 20 * x.mean((2, 3))


class Subclass(Tensor):
    pass


class ReturnsSubclass(Plain):
    def forward(self, x: Tensor) -> Any:
        return super().forward(x).as_subclass(Subclass)


class ReturnsTuple(Plain):
    def forward(self, x: Tensor) -> Any:
        return Output(x, super().forward(x))


class ReturnsDict(Plain):
    def forward(self, x: Tensor) -> Any:
        return {"features": x, "logits": super().forward(x)}


class ReturnsTwo(Plain):
    """Returns two tensors that can be logits, and names neither."""

    def forward(self, x: Tensor) -> Any:
        logits = super().forward(x)
        return {"main": logits, "auxiliary": -logits}


class ReturnsObject(Plain):
    def forward(self, x: Tensor) -> Any:
        return SimpleNamespace(loss=None, logits=super().forward(x))


class RefusesEval(Plain):
    def train(self, mode: bool = True) -> Any:
        raise NotImplementedError("no modes")


class ReturnsNothingFromEval(Plain):
    def eval(self) -> Any:
        super().eval()


class TakesGradients(Plain):
    """Needs gradient mode, as a plain call has."""

    def forward(self, x: Tensor) -> Any:
        inputs = x.detach().clone().requires_grad_()
        torch.autograd.grad(self.linear(inputs.flatten(1)).sum(), inputs)
        return super().forward(x)


class TakesParameterGradients(Plain):
    def forward(self, x: Tensor) -> Any:
        with torch.enable_grad():
            torch.autograd.grad(super().forward(x.detach()).sum(), self.linear.weight)
        return super().forward(x)


class NoGrad(Plain):
    def forward(self, x: Tensor) -> Any:
        with torch.no_grad():
            return super().forward(x)


class InferenceMode(Plain):
    def forward(self, x: Tensor) -> Any:
        with torch.inference_mode():
            return super().forward(x)


class ThroughNumpy(Plain):
    def forward(self, x: Tensor) -> Any:
        return super().forward(torch.from_numpy(x.numpy().copy()))


class FailsBackward(Plain):
    def forward(self, x: Tensor) -> Any:
        logits = super().forward(x)
        if logits.requires_grad:
            logits.register_hook(fail)
        return logits


def fail(gradient: Tensor) -> Tensor:
    raise SystemExit("no backward pass here")


class Transposed(Plain):
    def forward(self, x: Tensor) -> Any:
        return super().forward(x).t().contiguous().t()


class SparseLogits(Plain):
    def forward(self, x: Tensor) -> Any:
        return super().forward(x).to_sparse()


class RefusesRepr(Plain):
    def __repr__(self) -> str:
        raise RuntimeError("no words")


class Seeds(Plain):
    """Makes fixed weights by seeding the generators of all at every call."""

    def forward(self, x: Tensor) -> Any:
        torch.manual_seed(0)
        np.random.seed(0)  # noqa: NPY002
        random.seed(0)
        return super().forward(x)


class SeedsOnMany(Plain):
    """Seeds torch's generator where it has more than two images."""

    def forward(self, x: Tensor) -> Any:
        if len(x) > 2:
            torch.manual_seed(0)
        return super().forward(x)


class SeedsByClock(Plain):
    def forward(self, x: Tensor) -> Any:
        torch.seed()
        return super().forward(x)


class ChangesDefaults(Plain):
    def forward(self, x: Tensor) -> Any:
        logits = super().forward(x)
        torch.set_grad_enabled(mode=False)
        torch.set_default_dtype(torch.float64)
        return logits


class FailsLargeBackward(Plain):
    def forward(self, x: Tensor) -> Any:
        logits = super().forward(x)
        if logits.requires_grad and len(x) > 2:
            logits.register_hook(fail)
        return logits


class Prints(Plain):
    def forward(self, x: Tensor) -> Any:
        print("a pass")
        return super().forward(x)


class Defaults(Plain):
    def forward(self, x: Tensor, temperature: float = 1.0, *, layers: Any = None) -> Any:
        return super().forward(x) / temperature


SHARED = Plain()


def shared() -> nn.Module:
    return SHARED


def shared_again() -> nn.Module:
    return SHARED


def hooked() -> nn.Module:
    model = Plain()
    model.register_forward_hook(lambda module, inputs, output: (output,))
    model.linear.register_forward_pre_hook(lambda module, inputs: (inputs[0] * 1.0,))
    return model


def scripted() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.script(nn.Sequential(nn.Flatten(), Plain().linear))


def exported() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        batch = {"x": {0: torch.export.Dim("batch")}}
        return torch.export.export(Plain().eval(), (torch.rand(4, *SHAPE),), dynamic_shapes=batch).module()


def lazy() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(3))


def unused_meta() -> nn.Module:
    """A part that is never used has no memory: a model over two devices."""
    model = Plain()
    model.teacher = nn.Linear(2, 2, device="meta")
    return model


ODD: dict[str, Callable[[], nn.Module]] = {
    factory.__name__: factory
    for factory in (
        Plain, InPlace, InPlaceByData, Caches, OddBuffers, Parameterless, ReturnsSubclass, ReturnsTuple,
        ReturnsDict, ReturnsObject, HalfInside, RefusesFloat, RefusesEval, ReturnsNothingFromEval,
        TakesGradients, TakesParameterGradients, NoGrad, InferenceMode, ThroughNumpy, FailsBackward,
        Transposed, Double, HalfLogits, Prints, Defaults, hooked, scripted, exported, int8, lazy, half,
        unused_meta, FloatStaysDouble, MixedInside, SparseLogits, RefusesRepr, Seeds, ChangesDefaults,
        FailsLargeBackward,
    )
}  # fmt: skip
# Those whose logits have no gradients with respect to the image. A dynamic int8 layer has no backward pass.
WITHOUT_GRADIENTS = ("NoGrad", "InferenceMode", "ThroughNumpy", "FailsBackward", "int8")


def two_classes() -> nn.Module:
    return nn.Sequential(Plain(), nn.Linear(3, 2).requires_grad_(False))
