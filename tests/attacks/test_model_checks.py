"""Each flag fires on a model planted to deserve it, and none on plain ones."""

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import grad as imported_grad

from blrobust.attacks import model_checks as module
from blrobust.attacks.model_checks import check_model
from blrobust.data import datasets
from blrobust.device import resolve
from blrobust.models import zoo
from blrobust.models.own_model import OwnModel


class Linear(nn.Module):
    """Logits of two fixed weights; ``change`` is done to them."""

    def __init__(self, change=lambda logits: logits, scale=1.0):
        super().__init__()
        source = torch.Generator().manual_seed(0)
        self.weight = nn.Parameter(scale * torch.randn(3, 3 * 4 * 4, generator=source))
        self.change = change
        self.eval()

    def forward(self, pixels: Tensor) -> Tensor:
        return self.change((pixels - 0.5).flatten(1) @ self.weight.T)


class Descends(Linear):
    """Takes a step down before it answers."""

    def forward(self, pixels: Tensor) -> Tensor:
        with torch.enable_grad():
            moved = pixels.detach().clone().requires_grad_()
            (gradient,) = torch.autograd.grad(super().forward(moved).square().sum(), moved)
        return super().forward(pixels - 1e-3 * gradient)


class DescendsByName(Linear):
    """Takes a step down with a function imported by name."""

    def forward(self, pixels: Tensor) -> Tensor:
        with torch.enable_grad():
            moved = pixels.detach().clone().requires_grad_()
            (gradient,) = imported_grad(super().forward(moved).square().sum(), moved)
        return super().forward(pixels - 1e-3 * gradient)


class Forward(Linear):
    """Takes forward-mode derivatives."""

    def forward(self, pixels: Tensor) -> Tensor:
        logits, slope = torch.func.jvp(super().forward, (pixels,), (torch.full_like(pixels, 0.01),))
        return logits + 0.1 * slope


class Hidden(Linear):
    """Rounds its input to black and white: right gradients are zero."""

    def forward(self, pixels: Tensor) -> Tensor:
        return super().forward(pixels.round().detach() + 0 * pixels)


class RootOfNothing(Linear):
    """Adds the square root of a sum that is zero: its derivative is infinite, times zero."""

    def forward(self, pixels: Tensor) -> Tensor:
        return super().forward(pixels) + (0 * pixels).square().flatten(1).sum(1, keepdim=True).sqrt()


PLANTED = {
    module.NOT_FINITE: RootOfNothing(),
    module.OPTIMISES: Descends(),
    module.SOFTMAX: Linear(lambda logits: logits.softmax(1)),
    module.ZERO: Hidden(),
    module.VANISHING: Linear(scale=1e4),
}


def ask(model: nn.Module) -> list[str]:
    images = torch.rand(40, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        labels = model(images).argmax(1)
    return check_model(model, images, labels)


@pytest.mark.parametrize("flag", PLANTED)
def test_a_flag_fires_where_it_is_deserved(flag: str) -> None:
    assert ask(PLANTED[flag]) == [flag]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_probabilities_in_16_bits_are_found(dtype: torch.dtype) -> None:
    half = Linear(lambda logits: logits.softmax(1).to(dtype))
    assert module.SOFTMAX in ask(OwnModel(half, "half", 3))


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:FutureWarning")  # torch's own, of forward mode
@pytest.mark.parametrize("model", [DescendsByName(), Forward()])
def test_derivatives_inside_a_model_are_found_by_every_name(model: nn.Module) -> None:
    assert module.OPTIMISES in ask(model)


def test_a_plain_model_has_none() -> None:
    assert ask(Linear()) == []
    assert ask(Linear(lambda logits: -logits)) == []


def test_a_model_that_is_always_wrong_is_not_asked() -> None:
    images = torch.rand(4, 3, 4, 4)
    assert check_model(Hidden(), images, torch.full((4,), 9)) == []


@pytest.mark.parametrize("name", ["fp32", "fp16", "bf16", "fft85"])
def test_the_bundled_models_have_none(name: str) -> None:
    from blrobust.models import model_names

    data = datasets.load("cifar10-sample").take(16)
    (parsed,) = model_names.parse_names(name)
    model = zoo.load(parsed, arch="resnet20", dataset=data, device=resolve("cpu"))
    pixels = data.pixels(slice(0, 16), torch.device("cpu"))
    assert check_model(model.module, pixels, data.labels) == []
