"""Odd modules that all return logits under a plain `model(x)`: what users' own models do.

`ODD` maps a name to its factory, which a model name imports as `support.odd_models:NAME`. Images are
3 x 6 x 6, of three classes.
"""

import warnings
from collections import namedtuple
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

SHAPE = (3, 6, 6)
Output = namedtuple("Output", ["features", "scores"])


class Plain(nn.Module):
    """Fixed weights, so that every variant classifies alike."""

    def __init__(self) -> None:
        super().__init__()
        source = torch.Generator().manual_seed(0)
        self.linear = nn.Linear(108, 3)
        with torch.no_grad():
            self.linear.weight.copy_(torch.randn(3, 108, generator=source) / 3)
            self.linear.bias.zero_()

    def forward(self, x: Tensor) -> Any:
        return self.linear((x - 0.5).flatten(1))


class InPlace(Plain):
    def forward(self, x: Tensor) -> Any:
        x.sub_(0.5)
        return self.linear(x.flatten(1))


class InPlaceByData(Plain):
    def forward(self, x: Tensor) -> Any:
        x.data.sub_(0.5)
        return self.linear(x.flatten(1))


class Caches(Plain):
    """Keeps a tensor made from its first input."""

    def __init__(self) -> None:
        super().__init__()
        self.scale: Tensor | None = None

    def forward(self, x: Tensor) -> Any:
        if self.scale is None:
            self.scale = torch.ones_like(x[:1])
        return super().forward(x * self.scale)


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


class HalfInside(Plain):
    """Computes in bfloat16, whatever `float()` would make of it."""

    def __init__(self) -> None:
        super().__init__()
        self.linear.bfloat16()

    def forward(self, x: Tensor) -> Any:
        return self.linear((x - 0.5).flatten(1).bfloat16())


class RefusesFloat(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.linear.bfloat16()

    def float(self) -> Any:
        raise RuntimeError("quantised models cannot change their precision")


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


class Double(Plain):
    def forward(self, x: Tensor) -> Any:
        return super().forward(x).double()


class HalfLogits(Plain):
    def forward(self, x: Tensor) -> Any:
        return super().forward(x).half()


class Prints(Plain):
    def forward(self, x: Tensor) -> Any:
        print("a pass")
        return super().forward(x)


class Defaults(Plain):
    def forward(self, x: Tensor, temperature: float = 1.0, *, layers: Any = None) -> Any:
        return super().forward(x) / temperature


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


def int8() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quantize = torch.ao.quantization.quantize_dynamic
        made: nn.Module = quantize(Plain().eval(), {nn.Linear}, dtype=torch.qint8)  # type: ignore[no-untyped-call]
        return made


def lazy() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(3))


def half() -> nn.Module:
    return Plain().half()


class FloatStaysDouble(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.linear.double()

    def float(self) -> Any:
        return self


class MixedInside(HalfInside):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Any:
        return super().forward(x) * self.scale


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
        unused_meta, FloatStaysDouble, MixedInside,
    )
}  # fmt: skip
# Those whose logits have no gradients with respect to the image. A dynamic int8 layer has no backward pass.
WITHOUT_GRADIENTS = ("NoGrad", "InferenceMode", "ThroughNumpy", "FailsBackward", "int8")


class Fails(Plain):
    """Works on two images, and on one, but not on a block."""

    def forward(self, x: Tensor) -> Any:
        if len(x) > 2:
            raise self.error("no more\nthan two")
        return super().forward(x)

    error: type[BaseException] = RuntimeError


class Few(Plain):
    """Takes at most five images."""

    def forward(self, x: Tensor) -> Any:
        assert len(x) <= 5, "more than five images"
        return super().forward(x)


class Exits(Fails):
    error = SystemExit


class Cancelled(BaseException):
    """An error of its own that is no `Exception`."""


class Cancels(Fails):
    error = Cancelled


class Interrupts(Fails):
    error = KeyboardInterrupt


class FailsOnWhite(Plain):
    """Fails on images with a white pixel, as only some kinds of perturbation make them."""

    def forward(self, x: Tensor) -> Any:
        if x.max() >= 1:
            raise ValueError("a white pixel")
        return super().forward(x)


def two_classes() -> nn.Module:
    return nn.Sequential(Plain(), nn.Linear(3, 2).requires_grad_(False))
