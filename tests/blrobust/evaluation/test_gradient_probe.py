"""The gradients by which a run of an attack knows its models, whose logits are the same."""

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from support import stand_in
from support.odd_precisions import int8
from support.plain_model import Plain
from torch import Tensor, nn

from blrobust.data import datasets
from blrobust.evaluation.gradient_probe import gradient_answers
from blrobust.evaluation.probe import inputs, probe, rounded
from blrobust.models import zoo
from blrobust.models.own_model import OwnModel
from blrobust.runs import gradients as module
from blrobust.runs.gradients import Gradients, distance

CPU = torch.device("cpu")
BUNDLED = ("fp32", "fft85", "fp16", "bf16")


class Scaled(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, values: Tensor) -> Tensor:
        return values.clone()

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        return 1.5 * gradient


def with_hook(values: Tensor) -> Tensor:
    if values.requires_grad:
        values.register_hook(lambda gradient: gradient.sign())
    return values


EDITS = {
    "none": lambda pixels: pixels,
    "scaled": Scaled.apply,
    "hook": with_hook,
    "masked": lambda pixels: torch.cat([pixels[:, :1].detach(), pixels[:, 1:]], 1),
    "zero": lambda pixels: pixels.detach() + 0 * pixels,
    "not finite": lambda pixels: pixels + (0 * pixels).square().sum((1, 2, 3), keepdim=True).sqrt(),
    "detached": lambda pixels: pixels.detach(),
}


class Edited(nn.Module):
    def __init__(self, edit: Any) -> None:
        super().__init__()
        self.network = stand_in.Network(seed=0)
        self.edit = edit

    def forward(self, pixels: Tensor) -> Tensor:
        return self.network(self.edit(pixels))


def stored(edit: Any, n: int = 30) -> dict[str, Any]:
    model = stand_in.model("x")
    model.module = Edited(edit).eval()
    return probe([model], stand_in.dataset(n), CPU, gradients=True)["x"]


@pytest.mark.parametrize("n", [1, 30])
def test_an_edit_of_the_gradient_alone_is_another_model(n: int) -> None:
    found = {name: stored(edit, n) for name, edit in EDITS.items()}
    assert all(np.array_equal(each["logits"], found["none"]["logits"]) for each in found.values())
    for first, second in itertools.product(EDITS, EDITS):
        assert module.agree(found[first], found[second]) == (first == second), (first, second)


def test_answers_stored_without_gradients_agree_with_all() -> None:
    found = stored(EDITS["none"])
    old = {key: value for key, value in found.items() if key != "gradients"}
    assert module.agree(old, found)
    assert module.agree(found, old)


def test_noise_asks_for_no_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.autograd, "grad", None)
    model = stand_in.model("x")
    model.module = Edited(EDITS["none"]).eval()
    assert "gradients" not in probe([model], stand_in.dataset(), CPU)["x"]


def test_only_the_model_that_attacks_run_on_has_gradients() -> None:
    models = [stand_in.model("a"), stand_in.model("s")]
    answers = probe(models[:1], stand_in.dataset(), CPU, source=models[1], gradients=True)
    assert {name: "gradients" in each for name, each in answers.items()} == {"a": False, "--source s": True}


def test_a_model_without_a_backward_pass_has_no_gradients() -> None:
    found = []
    for module_ in (int8(), Plain().eval()):
        model = stand_in.model("x")
        model.module = OwnModel(module_, "x", 3)
        answers = probe([model], stand_in.dataset(channels=3), CPU, gradients=True)
        found.append(Gradients.decode(answers["x"]["gradients"]))
    assert [each.sketches is None for each in found] == [True, False]
    assert found[0].agree(found[0])
    assert not found[0].agree(found[1])


def test_gradients_that_do_not_repeat_agree() -> None:
    source = np.random.default_rng()

    def shaken(pixels: Tensor) -> Tensor:
        factors = torch.from_numpy(source.normal(0, 1, pixels.shape)).float()
        return pixels.detach() + (pixels - pixels.detach()) * factors

    for _ in range(5):
        assert module.agree(stored(shaken), stored(shaken))


def test_a_failing_backward_pass_leaves_the_gradients_open() -> None:
    calls = itertools.count()

    def fails_later(pixels: Tensor) -> Tensor:
        if pixels.requires_grad and next(calls) > 2:
            raise RuntimeError("no more")
        return pixels

    assert "gradients" not in stored(fails_later)


def test_the_distance_leaves_out_a_quarter_of_the_images() -> None:
    first = np.eye(8, dtype=np.float32)
    second = first.copy()
    second[0] *= -1
    assert distance(first, first) == 0
    assert distance(first, second) == 0
    second[1:4] *= -1
    assert distance(first, second) == 2


@pytest.mark.parametrize("name", BUNDLED)
def test_threads_and_the_order_of_sums_make_no_other_model(name: str) -> None:
    data = datasets.load("cifar10-sample").take(16)
    model = zoo.load(name, dataset=data, device=CPU)
    threads, found = torch.get_num_threads(), []

    pixels = inputs(data, CPU)

    def take() -> None:
        found.append(gradient_answers(model.module, pixels, rounded(pixels), len(data)))

    take()
    torch.set_num_threads(2)
    try:
        take()
    finally:
        torch.set_num_threads(threads)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.backends.mkldnn, "enabled", False)
        take()
    model.module.to(memory_format=torch.contiguous_format)
    take()
    assert all(module.agree(a, b) for a, b in itertools.permutations(found, 2))
    gradients = [Gradients.decode(each["gradients"]) for each in found]
    sketches = [each.sketches for each in gradients]
    assert not all(np.array_equal(sketches[0], other) for other in sketches)
    assert max(each.tolerance for each in gradients) < (0.9 if name in ("fp16", "bf16") else 0.05)


def test_other_weights_have_other_gradients() -> None:
    data = datasets.load("cifar10-sample").take(16)
    models = [zoo.load(name, dataset=data, device=CPU) for name in ("fp32", "fft85", "bf16")]
    answers = probe(models, data, CPU, gradients=True)
    assert not module.agree(answers["fp32"], answers["fft85"])
    assert not module.agree(answers["bf16"], answers["fft85"])
