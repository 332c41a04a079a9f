"""The answers by which a run knows its models, and the flags of answers that are no function of an image."""

import hashlib
import itertools
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from support import stand_in
from torch import Tensor, nn

from blrobust.data import datasets
from blrobust.device import full_precision
from blrobust.evaluation import probe as module
from blrobust.evaluation.doubts import BATCH, GRADIENTS, doubts
from blrobust.evaluation.probe import find_flags, probe
from blrobust.models import zoo
from blrobust.models.batches import bounded
from blrobust.runs.answers import RANDOM, UNREPEATABLE, Answers, OtherModelError, check

CPU = torch.device("cpu")
BUNDLED = ("fp32", "fp16", "bf16", "fft85")


class Changed(nn.Module):
    """A small fixed network whose logits are changed."""

    def __init__(self, change=lambda logits: logits):
        super().__init__()
        self.network = stand_in.Network(seed=0)
        self.change = change

    def forward(self, pixels: Tensor) -> Tensor:
        return self.change(self.network(pixels))


def found(change=lambda logits: logits, *, n=30):
    model = stand_in.model("x")
    model.module = Changed(change).eval()
    data = stand_in.dataset(n)
    return Answers.decode(probe([model], data, CPU)["x"]), flags_of([model], data)["x"]


def flags_of(models, data, source=None):
    answers = probe(models, data, CPU, source=source)
    return find_flags(models, data, CPU, answers, source=source)


def in_training(logits):
    return nn.functional.batch_norm(logits, None, None, training=True)


RANDOM_MODELS = {
    "torch": lambda logits: nn.functional.dropout(logits, 0.5),
    "numpy": lambda logits: logits + np.random.rand(),  # noqa: NPY002
    "python": lambda logits: logits + random.random(),
}


@pytest.mark.parametrize("source", RANDOM_MODELS)
def test_random_answers_are_flagged_and_repeat(source):
    first, flags = found(RANDOM_MODELS[source])
    again, _ = found(RANDOM_MODELS[source])
    assert flags == [RANDOM]
    assert np.array_equal(first.logits, again.logits)


def test_random_answers_that_no_seed_repeats_identify_no_model():
    source = np.random.default_rng()
    noisy = lambda logits: logits + torch.from_numpy(source.normal(0, 0.3, logits.shape)).float()  # noqa: E731
    first, flags = found(noisy)
    assert (flags, first.tolerance) == ([RANDOM], UNREPEATABLE)
    assert not found(noisy)[0].agree(first)
    answers = first.encode()
    with pytest.raises(OtherModelError, match="answers of x do not repeat"):
        check(Path("run"), {"x": answers}, {"x": found(noisy)[0].encode()}, {})


def seeded_by_pixels(scale, *, whole=False):
    """Noise whose seed is the content of each image, or of the whole batch."""

    def change(logits):
        parts = [logits] if whole else logits.split(1)
        seeds = [int.from_bytes(hashlib.sha1(part.numpy().tobytes()).digest()[:4]) for part in parts]
        numbers = [
            np.random.default_rng(seed).normal(0, scale, p.shape)
            for seed, p in zip(seeds, parts, strict=True)
        ]
        return logits + torch.from_numpy(np.concatenate(numbers)).float()

    return change


@pytest.mark.parametrize("whole", [False, True])
def test_a_model_that_amplifies_rounding_errors_is_known_by_its_repeated_answers(whole):
    first, flags = found(seeded_by_pixels(1.0, whole=whole))
    assert flags == [BATCH] or not whole
    assert first.agree(found(seeded_by_pixels(1.0, whole=whole))[0])
    assert not first.agree(found(seeded_by_pixels(1.1, whole=whole))[0])
    assert not found()[0].agree(first)


class Coin:
    """Draws one of two numbers from a generator of its own, at every `every`-th call."""

    def __init__(self, seed, *, every=1):
        self.source, self.every, self.calls = random.Random(seed), every, 0

    def __call__(self, logits):
        self.calls += 1
        return logits + self.source.choice([0.0, 1.0]) if self.calls % self.every == 0 else logits


class Counter:
    """Another answer at each `every`-th call, without any random number."""

    def __init__(self, every):
        self.every, self.calls = every, 0

    def __call__(self, logits):
        self.calls += 1
        return -logits if self.calls % self.every == 0 else logits


class RunningMean:
    """Statistics that go on learning after training, and settle."""

    def __init__(self):
        self.mean = 0.0

    def __call__(self, logits):
        self.mean += 0.5 * (logits.mean().item() - self.mean)
        return logits - self.mean


class Stale:
    """Returns the answers to the first inputs of each shape."""

    def __init__(self):
        self.kept = {}

    def __call__(self, logits):
        return self.kept.setdefault(logits.shape, logits)


@pytest.mark.parametrize("seed", range(20))
def test_a_generator_of_the_models_own_is_flagged_whatever_it_draws_first(seed):
    assert found(Coin(seed))[1] == [RANDOM]


@pytest.mark.parametrize("change", [Coin(1, every=4), *map(Counter, range(2, 17)), RunningMean()])
def test_what_a_model_keeps_between_calls_is_flagged(change):
    assert found(change)[1] == [RANDOM]


def test_answers_that_are_those_of_the_call_before_are_flagged():
    assert found(Stale())[1] == [BATCH]


def test_a_cache_that_is_right_is_not_flagged():
    kept = {}
    assert found(lambda logits: kept.setdefault(logits.numpy().tobytes(), logits))[1] == []


def test_a_model_that_changes_during_a_run_is_flagged_at_its_end():
    data, calls = stand_in.dataset(30), itertools.count()
    slow = changed("slow", lambda logits: logits * (1 if next(calls) < 50 else -1))
    subjects, source = [changed("a"), slow], changed("s")
    answers = probe(subjects, data, CPU, source=source)
    flags = find_flags(subjects, data, CPU, answers, source=source)
    assert flags == {"a": [], "slow": []}
    with torch.no_grad():
        for _ in range(20):
            slow.module(data.pixels(slice(0, 1)))
    module.check_again(subjects, data, CPU, answers, flags, source=source)
    assert flags == {"a": [], "slow": [RANDOM]}
    source.module.change = lambda logits: -logits
    module.check_again(subjects, data, CPU, answers, flags, source=source)
    assert flags == {"a": [f"source: {RANDOM}"], "slow": [RANDOM, f"source: {RANDOM}"]}


def changed(label, change=lambda logits: logits):
    model = stand_in.model(label)
    model.module = Changed(change).eval()
    return model


def test_doubts_about_a_source_are_flagged_for_every_model():
    data, subjects = stand_in.dataset(30), [changed("a"), changed("b", in_training)]
    source = changed("s", RANDOM_MODELS["torch"])
    assert flags_of(subjects, data, source) == {"a": [f"source: {RANDOM}"], "b": [BATCH, f"source: {RANDOM}"]}
    source = changed("s", lambda logits: logits.detach())
    flags = {"a": [], "b": [BATCH]}
    for _ in range(2):  # of a run that goes on after the checks, they are not stored twice
        module.check_under_attack(subjects, data, CPU, flags, source=source)
    doubt = "source: no gradients"
    assert [[flag for flag in flags[label] if flag == doubt] for label in "ab"] == [[doubt]] * 2


@pytest.mark.parametrize("n", [1, 2, 30])
def test_answers_that_depend_on_the_batch_are_flagged(n):
    assert found(in_training, n=n)[1] == [BATCH]


def test_answers_that_depend_on_a_batch_larger_than_the_probe_are_flagged():
    def adapts(logits):
        return logits - logits.mean() if len(logits) >= 64 else logits

    assert found(adapts, n=100)[1] == [BATCH]
    model, data = changed("x", adapts), stand_in.dataset(100)
    assert flags_of([bounded(model, 63)], data) == {"x": []}


@pytest.mark.parametrize(
    "change",
    [
        lambda logits: logits.roll(1, 1) if torch.is_grad_enabled() else logits,
        lambda logits: -logits if logits.requires_grad else logits,
    ],
)
def test_answers_that_differ_with_gradients_are_flagged(change):
    assert found(change)[1] == [GRADIENTS]


def test_a_plain_model_has_no_flags_and_leaves_the_generators_alone():
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
    assert found()[1] == []
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    assert np.random.get_state()[1].tolist() == before[2]  # noqa: NPY002


@pytest.mark.parametrize(
    "change",
    [
        lambda logits: -logits,
        lambda logits: 1.001 * logits,
        lambda logits: logits.roll(1, 1),
        lambda logits: logits * torch.nan,
        lambda logits: torch.where(logits == logits.amax(), torch.inf, logits),
    ],
)
def test_an_edited_model_answers_differently(change):
    assert found()[0].agree(found()[0])
    assert not found()[0].agree(found(change)[0])
    assert not found(change)[0].agree(found()[0])


def test_a_model_may_take_derivatives_and_refuse_inputs_that_are_no_images():
    class Strict(Changed):
        def forward(self, pixels: Tensor) -> Tensor:
            assert ((pixels >= 0) & (pixels <= 1)).all()
            with torch.enable_grad():
                moved = pixels.clone().requires_grad_()
                (gradient,) = torch.autograd.grad(self.network(moved).sum(), moved)
            return self.network(pixels + gradient)

    model = stand_in.model("x")
    model.module = Strict().eval()
    assert flags_of([model], stand_in.dataset(30)) == {"x": []}


def test_logits_that_are_not_finite_agree_with_themselves():
    broken = found(lambda logits: torch.where(logits < 0, torch.nan, logits))[0]
    assert np.isnan(broken.logits).any()
    assert broken.agree(broken)


@pytest.fixture(scope="module")
def bundled():
    """The answers of bundled models, in different orders of their sums."""
    data = datasets.load("cifar10-sample").take(16)
    threads, result = torch.get_num_threads(), {}
    for name in BUNDLED:
        model = zoo.load(name, dataset=data, device=CPU)
        orders = [Answers.decode(probe([model], data, CPU)[model.label])]
        with full_precision():  # a run does not search for flags of networks of ours
            flags = doubts(model.module, module.inputs(data, CPU), orders[0])

        def take(model, orders=orders):
            with full_precision():
                orders.append(module._answers(model.label, model.module, module.inputs(data, CPU)))

        torch.set_num_threads(2)
        try:
            take(model)
        finally:
            torch.set_num_threads(threads)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch.backends.mkldnn, "enabled", False)
            take(model)
        model.module.to(memory_format=torch.contiguous_format)
        take(model)
        result[name] = orders, flags
    return result


@pytest.mark.parametrize("name", BUNDLED)
def test_threads_and_the_order_of_sums_make_no_other_model(bundled, name):
    orders, flags = bundled[name]
    assert flags == []
    assert all(a.agree(b) for a, b in itertools.permutations(orders, 2))
    assert not all(np.array_equal(orders[0].logits, other.logits) for other in orders)
    assert max(each.tolerance for each in orders) < (5e-2 if name == "bf16" else 1e-2)


def test_other_weights_are_other_models(bundled):
    assert not bundled["fft85"][0][0].agree(bundled["fp32"][0][0])


@pytest.mark.parametrize(("shape", "images"), [((2, 6, 6), 16), ((3, 224, 224), 3), ((3, 2000, 2000), 2)])
def test_large_images_are_few(monkeypatch, shape, images):
    class Sized:
        def __init__(self):
            self.images = torch.empty((100, *shape), device="meta")

        def __len__(self):
            return 100

        def pixels(self, rows, device):
            return torch.zeros(rows.stop, *shape)

    monkeypatch.setattr(module, "fixed_noise", torch.zeros_like)
    assert module.inputs(Sized(), CPU).shape == (3 * images, *shape)


def test_an_edit_that_acts_beyond_the_pixel_range_is_seen():
    """Noise in normalised space goes beyond [0, 1]: a clamp that is taken away makes another model."""
    network = stand_in.model("a").module

    class Clamped(torch.nn.Module):
        def forward(self, pixels):
            return network(pixels.clamp(0, 1))

    pixels = module.inputs(stand_in.dataset(), CPU)
    free, clamped = (module._answers("a", each, pixels) for each in (network, Clamped()))
    assert not free.agree(clamped)
    part = len(pixels) // 3
    assert np.allclose(free.logits[: 2 * part], clamped.logits[: 2 * part], atol=1e-5)
