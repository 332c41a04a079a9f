"""The guard, on planted attacks that misbehave in one way each."""

import logging
import weakref
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from foolbox.attacks.base import FixedEpsilonAttack, MinimizationAttack
from foolbox.distances import l1, l2, linf
from torch import Tensor, nn

from blrobust.attacks.catalogue.attack_spec import AttackSpec, Strength
from blrobust.attacks.catalogue.table import ATTACKS
from blrobust.attacks.guard import Guard, seeded
from blrobust.attacks.status import Status
from blrobust.data.datasets import Dataset
from blrobust.errors import UserError
from blrobust.perturbations.paper_bounds import BOUNDS, MEAN, STD
from blrobust.perturbations.paper_space import space as legacy_space

CPU = torch.device("cpu")


class Brightness(nn.Module):
    """Class 1 where the mean pixel is above 1/2, else class 0; counts the samples it sees."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = 0
        self.eval()

    def forward(self, pixels: Tensor) -> Tensor:
        self.seen += len(pixels)
        mean = pixels.flatten(1).mean(dim=1)
        return torch.stack([0.5 - mean, mean - 0.5], dim=1)


class Planted(FixedEpsilonAttack):
    """Returns what the test's function makes of the inputs."""

    distance = linf

    def __init__(self, act: Callable[[Any, Tensor, float], Tensor]) -> None:
        self.act = act

    def run(self, model: Any, inputs: Any, criterion: Any, *, epsilon: float, **kwargs: Any) -> Any:
        return self.act(model, inputs, epsilon)


class PlantedL1(Planted):
    distance = l1


class Unbounded(MinimizationAttack):
    """A minimal-norm attack, which no epsilon limits: every pixel becomes 1."""

    distance = l2

    def run(self, model: Any, inputs: Any, criterion: Any, *, early_stop: Any = None, **kwargs: Any) -> Any:
        return torch.ones_like(inputs)


def spec(attack: str = f"{__name__}:Planted", *, is_search: bool = True, **parameters: Any) -> AttackSpec:
    return replace(
        ATTACKS["pixel"],
        attack=attack,
        parameters=parameters,
        per_sample_seed=False,
        strength=Strength("Linf", "largest change", "0:1"),
        is_search=is_search,
    )


def planted(act: Callable[[Any, Tensor, float], Tensor], *, is_search: bool = True) -> Guard:
    return Guard("planted", spec(is_search=is_search, act=act), seed=0)


def run(guard: Guard, *, model: nn.Module | None = None, level: float = 0.25) -> dict[str, Tensor]:
    """Attack four grey images of brightness 96/255, labelled 0, 0, 0 and (wrongly) 1."""
    images = torch.full((4, 3, 4, 4), 96 / 255)
    labels = torch.tensor([0, 0, 0, 1])
    return guard(model or Brightness(), images, labels, level=level, draw=0, samples=range(4))


def brighter(model: Any, inputs: Tensor, epsilon: float) -> Tensor:
    return inputs + epsilon


# Checks


def test_an_honest_success_passes() -> None:
    outcome = run(planted(brighter))
    assert outcome["prediction"].tolist() == [1, 1, 1, 0]
    assert outcome["success"].tolist() == [True, True, True, False]
    assert outcome["reason"].tolist() == [Status.ADVERSARIAL] * 3 + [Status.NOT_ATTACKED]
    assert outcome["distance"].tolist() == pytest.approx([0.25, 0.25, 0.25, 0])
    assert {name: tensor.dtype for name, tensor in outcome.items()} == {
        "prediction": torch.int16,
        "probability_label": torch.float16,
        "probability_prediction": torch.float16,
        "margin": torch.float32,
        "success": torch.bool,
        "distance": torch.float32,
        "reason": torch.uint8,
        "rounded": torch.bool,
        "forwards": torch.int32,
        "backwards": torch.int32,
    }


@pytest.mark.parametrize(
    ("act", "status"),
    [
        (lambda model, x, epsilon: x * torch.nan, Status.NOT_FINITE),
        (lambda model, x, epsilon: x + torch.inf, Status.NOT_FINITE),
        (lambda model, x, epsilon: torch.where(x == x[0, 0, 0, 0], 1.001, x), Status.OUT_OF_BOUNDS),
        (lambda model, x, epsilon: x - 1, Status.OUT_OF_BOUNDS),
        (lambda model, x, epsilon: x + epsilon * (1 + 4e-6), Status.BEYOND_EPSILON),
        (lambda model, x, epsilon: torch.ones_like(x), Status.BEYOND_EPSILON),
        (lambda model, x, epsilon: x, Status.NOT_ADVERSARIAL),
        (lambda model, x, epsilon: x - epsilon / 2, Status.NOT_ADVERSARIAL),
    ],
)
def test_a_bad_return_counts_as_robust_with_its_reason(
    act: Callable[[Any, Tensor, float], Tensor], status: Status
) -> None:
    outcome = run(planted(act))
    assert outcome["reason"].tolist() == [status] * 3 + [Status.NOT_ATTACKED]
    assert outcome["prediction"].tolist() == [0, 0, 0, 0]
    assert not outcome["success"].any()
    assert not outcome["rounded"].any()


def test_one_bad_sample_leaves_the_others() -> None:
    def act(model: Any, inputs: Tensor, epsilon: float) -> Tensor:
        found = inputs + epsilon
        found[1, 0, 0, 0] = torch.nan
        return found

    outcome = run(planted(act))
    assert outcome["success"].tolist() == [True, False, True, False]
    assert outcome["reason"].tolist()[1] == Status.NOT_FINITE
    assert outcome["distance"].tolist() == pytest.approx([0.25, 0, 0.25, 0])


def test_writing_into_the_inputs_hides_nothing() -> None:
    outcome = run(planted(lambda model, x, epsilon: x.fill_(1)))
    assert outcome["reason"].tolist()[:3] == [Status.BEYOND_EPSILON] * 3
    assert outcome["prediction"].tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize("epsilon", [1 / 255, 2 / 255, 8 / 255, 0.3])
def test_float32_rounding_is_no_violation(epsilon: float) -> None:
    images = torch.rand(50, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    guard = planted(lambda model, x, epsilon: (x + epsilon).clamp(0, 1), is_search=False)
    outcome = guard(Brightness(), images, torch.zeros(50).long(), level=epsilon, draw=0, samples=range(50))
    assert set(outcome["reason"].tolist()) <= {Status.ADVERSARIAL, Status.NOT_ADVERSARIAL}


def test_float32_rounding_of_a_sum_is_no_violation() -> None:
    """A change of L1 norm 2 exactly, in the published space, where numbers reach 2.75."""
    images = torch.rand(50, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    change = torch.randn(50, 3, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    change *= 2 / change.abs().sum((1, 2, 3), keepdim=True)

    def act(model: Any, inputs: Tensor, epsilon: float) -> Tensor:
        return (inputs.double() + change[: len(inputs)]).float()

    planted_l1 = replace(spec(f"{__name__}:PlantedL1", act=act), strength=ATTACKS["pgd-l1"].strength)
    guard = Guard("planted", planted_l1, seed=0, space=legacy_space(cifar()))
    images = images * 0.5 + 0.25
    labels = Brightness()(images).argmax(1)
    outcome = guard(Brightness(), images, labels, level=2.0, draw=0, samples=range(50))
    assert (outcome["reason"] != Status.BEYOND_EPSILON).all()


def test_one_search_for_the_smallest_serves_every_strength() -> None:
    model = Brightness()
    guard = Guard("planted", spec(f"{__name__}:Unbounded"), seed=0)
    images, labels = torch.full((4, 3, 4, 4), 96 / 255), torch.tensor([0, 0, 0, 1])
    length = np.sqrt(48) * (1 - 96 / 255)
    strengths = [0, 0.99 * length, length, 100.0]
    outcomes = guard.measure(model, images, labels, levels=strengths, draw=0, samples=range(4))
    assert [outcome["success"].tolist() for outcome in outcomes] == [
        [False] * 4,
        [False] * 4,
        [True, True, True, False],
        [True, True, True, False],
    ]
    assert outcomes[1]["prediction"].tolist() == [0, 0, 0, 0]
    assert outcomes[1]["reason"].tolist() == [Status.TOO_FAR] * 3 + [Status.NOT_ATTACKED]
    for outcome in outcomes[1:]:
        assert outcome["minimal"].tolist() == pytest.approx([length] * 3 + [np.inf])
    assert outcomes[2]["distance"].tolist() == pytest.approx([length] * 3 + [0])
    alone = guard(model, images, labels, level=100.0, draw=0, samples=range(4))
    assert all(torch.equal(alone[name], outcomes[3][name]) for name in alone)


@pytest.mark.parametrize("act", [lambda model, x, epsilon: x[:, :1], lambda model, x, epsilon: [][0]])
def test_an_attack_that_raises_leaves_its_reason(
    act: Callable[[Any, Tensor, float], Tensor], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        outcome = run(planted(act))
    assert outcome["reason"].tolist() == [Status.RAISED] * 3 + [Status.NOT_ATTACKED]
    assert outcome["prediction"].tolist() == [0, 0, 0, 0]
    (line,) = caplog.messages
    assert "for 3 of 3 samples (the first is 0), which count as robust" in line


def test_a_sample_that_the_attack_cannot_take_leaves_the_others() -> None:
    sizes: list[int] = []

    def act(model: Any, inputs: Tensor, epsilon: float) -> Tensor:
        sizes.append(len(inputs))
        if (inputs == 0).flatten(1).all(1).any():
            raise RuntimeError("no start for one of them")
        return inputs + epsilon

    images = torch.full((5, 3, 4, 4), 96 / 255)
    images[1] = 0
    outcome = planted(act)(Brightness(), images, torch.zeros(5).long(), level=0.25, draw=0, samples=range(5))
    assert outcome["reason"].tolist() == [Status.ADVERSARIAL, Status.RAISED] + [Status.ADVERSARIAL] * 3
    assert sizes == [5, 3, 2, 1, 1, 1, 2]


def test_a_device_that_is_full_gets_halves() -> None:
    def act(model: Any, inputs: Tensor, epsilon: float) -> Tensor:
        if len(inputs) > 2:
            raise torch.OutOfMemoryError("full")
        return inputs + epsilon

    outcome = run(planted(act))
    assert outcome["success"].tolist() == [True, True, True, False]


def full_mps() -> None:
    raise RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)")


# Of a CPU: more than it can address.
@pytest.mark.parametrize("allocate", [lambda: torch.empty(1 << 46), lambda: np.empty(1 << 46), full_mps])
def test_other_memory_that_is_full_is_no_robustness(allocate: Callable[[], Any]) -> None:
    room = 2

    def act(model: Any, inputs: Tensor, epsilon: float) -> Tensor:
        if len(inputs) > room:
            allocate()
        return inputs + epsilon

    guard = planted(act)
    assert run(guard)["success"].tolist() == [True, True, True, False]
    room = 0
    with pytest.raises(torch.OutOfMemoryError, match="allocate"):
        run(guard)


def test_memory_of_a_failed_try_is_free_before_the_halves() -> None:
    kept: list[weakref.ref[Tensor]] = []

    def act(model: Any, inputs: Tensor, epsilon: float) -> Tensor:
        assert all(tensor() is None for tensor in kept), "the halves get no more room than the whole had"
        found = inputs + epsilon
        kept.append(weakref.ref(found))
        if len(found) > 1:
            raise torch.OutOfMemoryError("full")
        return found.clone()

    assert run(planted(act))["success"].tolist() == [True, True, True, False]


def test_restarts_try_on_another_model_what_fooled_nobody() -> None:
    """One run of an attack hands on what it found, whether or not its source falls; so must several."""

    class Easy(nn.Module):
        def forward(self, pixels: Tensor) -> Tensor:
            mean = pixels.flatten(1).mean(dim=1)
            return torch.stack([0.4 - mean, mean - 0.4], dim=1)

    for restarts in (1, 2):
        guard = Guard("planted", spec(act=brighter, restarts=restarts), seed=0, source=Brightness())
        outcome = run(guard, model=Easy().eval(), level=0.1)  # 96/255 + 0.1 is between the two thresholds
        assert outcome["prediction"].tolist() == [1, 1, 1, 0], restarts
        assert outcome["success"].tolist() == [True, True, True, False]


def test_what_is_too_far_puts_no_wrong_sample_right() -> None:
    class Inverse(nn.Module):
        def forward(self, pixels: Tensor) -> Tensor:
            return -Brightness()(pixels)

    guard = Guard("planted", spec(f"{__name__}:Unbounded"), seed=0, source=Brightness())
    outcome = run(guard, model=Inverse().eval(), level=0.25)  # wrong at once, right on white images
    assert outcome["prediction"].tolist() == [1, 1, 1, 1]
    assert outcome["distance"].tolist() == [0] * 4
    far = run(guard, model=Inverse().eval(), level=100.0)
    assert far["prediction"].tolist() == [0, 0, 0, 1]


def test_a_wrong_parameter_is_the_users() -> None:
    with pytest.raises(UserError, match=r"'square-linf': got share=2\.0; legal: numbers above 0, up to 1"):
        Guard("square-linf", ATTACKS["square-linf"], seed=0, parameters={"share": 2.0})


def test_restarts_go_on_with_those_that_resist() -> None:
    sizes: list[int] = []

    def act(model: Any, inputs: Tensor, epsilon: float) -> Tensor:
        sizes.append(len(inputs))
        found = inputs.clone()
        found[:1] += epsilon  # one sample a run falls
        return found

    guard = Guard("planted", spec(act=act, restarts=2), seed=0)
    outcome = run(guard)
    assert sizes == [3, 2]
    assert outcome["success"].tolist() == [True, True, False, False]


def test_a_targeted_attack_aims_at_the_second_class_or_the_one_given() -> None:
    aims: list[list[int]] = []

    class Three(nn.Module):
        def forward(self, pixels: Tensor) -> Tensor:
            return torch.tensor([[3.0, 1.0, 2.0]]).expand(len(pixels), 3)

    class Aimed(Planted):
        def run(self, model: Any, inputs: Any, criterion: Any, *, epsilon: float, **kwargs: Any) -> Any:
            aims.append(criterion.target_classes.raw.tolist())
            return inputs

    globals()["Aimed"] = Aimed
    targeted = replace(spec(f"{__name__}:Aimed", act=brighter), targeted=True)
    images, labels = torch.full((3, 3, 4, 4), 0.5), torch.tensor([0, 0, 1])
    reasons = []
    for target in (None, 1, 0):
        guard = Guard("planted", targeted, seed=0, target=target)
        outcome = guard.measure(Three().eval(), images, labels, levels=[0, 0.1], draw=0, samples=range(3))
        assert outcome[0]["reason"].tolist() == [Status.NOT_ATTACKED] * 3
        assert [o["prediction"].tolist() for o in outcome] == [[0, 0, 0]] * 2
        reasons.append(outcome[1]["reason"].tolist())
    assert aims == [[2, 2], [1, 1]]
    tried, wrong, own = Status.NOT_ADVERSARIAL, Status.NOT_ATTACKED, Status.IS_TARGET
    assert reasons == [[tried, tried, wrong], [tried, tried, own], [own, own, wrong]]


@pytest.mark.parametrize("source", [False, True])
def test_the_clean_images_are_asked_about_once_for_all_strengths(*, source: bool) -> None:
    model, other = Brightness(), Brightness()
    targeted = replace(spec(act=lambda model, x, epsilon: x), targeted=True)
    guard = Guard("planted", targeted, seed=0, source=other if source else None)
    for level in (0, 0.1, 0.2, 0.3):
        run(guard, model=model, level=level)
    # Clean and, of the model attacked, the second class; at each strength what was found, but not at 0.
    seen = (model.seen, other.seen)
    assert seen == ((4 + 3 * 4, 4 + 4) if source else (4 + 4 + 3 * 4, 0))


def test_what_one_model_gives_away_is_tried_on_another() -> None:
    class Inverse(nn.Module):
        def forward(self, pixels: Tensor) -> Tensor:
            return -model(pixels)

    model, asked = Brightness(), []

    def act(target: Any, inputs: Tensor, epsilon: float) -> Tensor:
        asked.append(target(inputs).argmax(1).tolist())
        return inputs + epsilon

    guard = Guard("planted", spec(act=act), seed=0, source=model)
    outcome = run(guard, model=Inverse().eval())
    assert asked == [[0, 0, 0]]  # the source's answers
    seen = model.seen
    again = run(guard, model=Brightness())
    assert asked == [[0, 0, 0]]  # it is not attacked again for another model
    assert model.seen == seen  # nor asked about the clean images
    assert again["forwards"].tolist() == outcome["forwards"].tolist()
    assert outcome["prediction"].tolist() == [0, 0, 0, 1]  # the other model's, of what was found


@pytest.mark.parametrize("error", [UserError("no"), torch.OutOfMemoryError("full")])
def test_what_the_user_or_the_caller_must_act_on_goes_through(error: Exception) -> None:
    def act(model: Any, inputs: Tensor, epsilon: float) -> Tensor:
        raise error

    with pytest.raises(type(error)):
        run(planted(act))


# Who is attacked


def test_a_search_spares_what_is_wrong_already() -> None:
    sizes: list[int] = []

    def act(model: Any, inputs: Tensor, epsilon: float) -> Tensor:
        sizes.append(len(inputs))
        return inputs + epsilon

    run(planted(act))
    run(planted(act, is_search=False))
    assert sizes == [3, 4]


def test_a_random_perturbation_may_put_a_wrong_sample_right() -> None:
    outcome = run(planted(brighter, is_search=False))
    assert outcome["prediction"].tolist() == [1, 1, 1, 1]
    assert outcome["success"].tolist() == [True, True, True, False]


@pytest.mark.parametrize("is_search", [True, False])
def test_strength_zero_is_the_clean_answer_at_one_pass(is_search: bool) -> None:
    model = Brightness()
    outcome = run(planted(brighter, is_search=is_search), model=model, level=0)
    assert outcome["prediction"].tolist() == [0, 0, 0, 0]
    assert outcome["reason"].tolist() == [Status.NOT_ATTACKED] * 4
    assert model.seen == 4


def test_nothing_is_attacked_where_all_is_wrong() -> None:
    guard = planted(lambda model, x, epsilon: [][0])
    images = torch.zeros(2, 3, 4, 4)
    outcome = guard(Brightness(), images, torch.ones(2).long(), level=0.1, draw=0, samples=range(2))
    assert outcome["reason"].tolist() == [Status.NOT_ATTACKED] * 2
    assert outcome["forwards"].tolist() == [1, 1]


# Rounding to 8 bits


class Threshold(nn.Module):
    """Class 1 from 127.2/255 on, a brightness that 8 bits cannot hold."""

    def __init__(self) -> None:
        super().__init__()
        self.eval()

    def forward(self, pixels: Tensor) -> Tensor:
        margin = pixels.flatten(1).mean(dim=1) - 127.2 / 255
        return torch.stack([-margin, margin], dim=1)


def test_rounding_is_a_column_of_its_own() -> None:
    images = torch.full((2, 3, 4, 4), 127 / 255)
    step = torch.tensor([0.3 / 255, 0.6 / 255]).view(-1, 1, 1, 1)  # 8 bits make it 127 and 128
    guard = planted(lambda model, x, epsilon: x + step)
    outcome = guard(Threshold(), images, torch.zeros(2).long(), level=0.1, draw=0, samples=range(2))
    assert outcome["success"].tolist() == [True, True]
    assert outcome["rounded"].tolist() == [False, True]
    assert outcome["forwards"].tolist() == [1, 1]


# Passes


def test_the_pixel_attack_costs_one_pass() -> None:
    model = Brightness()
    images = torch.randint(0, 256, (6, 3, 8, 8)).float() / 255
    guard = Guard("pixel", ATTACKS["pixel"], seed=0)
    outcome = guard(model, images, torch.zeros(6).long(), level=9, draw=0, samples=range(6))
    assert model.seen == 6
    assert outcome["forwards"].tolist() == [1] * 6
    assert outcome["backwards"].tolist() == [0] * 6


def test_passes_of_a_gradient_attack_are_counted() -> None:
    guard = Guard("pgd", spec("foolbox.attacks:LinfPGD", steps=7, rel_stepsize=0.5), seed=0)
    outcome = run(guard)
    assert outcome["success"].tolist() == [True, True, True, False]
    assert outcome["backwards"].tolist() == [7, 7, 7, 0]
    assert outcome["forwards"].tolist() == [8, 8, 8, 1]  # and one before, one after


def test_passes_of_a_part_of_the_block_add_up() -> None:
    def act(model: Any, inputs: Tensor, epsilon: float) -> Tensor:
        model(inputs)
        model(inputs[:2])
        return inputs

    outcome = run(planted(act))
    assert outcome["forwards"].tolist() == [3, 3, 2, 1]


# Precision


class Half(nn.Module):
    """Answers in half precision, as a model in fp16 does."""

    def forward(self, pixels: Tensor) -> Tensor:
        mean = pixels.half().flatten(1).mean(dim=1)
        return torch.stack([0.5 - mean, mean - 0.5], dim=1)


def test_half_precision_stays_inside_the_model() -> None:
    seen: list[torch.dtype] = []

    def act(model: Any, inputs: Tensor, epsilon: float) -> Tensor:
        seen.extend([inputs.dtype, model(inputs).dtype])
        return inputs + epsilon

    outcome = run(planted(act), model=Half().eval())
    assert seen == [torch.float32, torch.float32]
    assert outcome["success"].tolist() == [True, True, True, False]


def test_gradients_reach_through_half_precision() -> None:
    guard = Guard("fgsm", spec("foolbox.attacks:LinfFastGradientAttack"), seed=0)
    assert run(guard, model=Half().eval())["success"].tolist() == [True, True, True, False]


# Seeds


def test_randomness_belongs_to_attack_strength_draw_and_block() -> None:
    seen: list[tuple[Tensor, float]] = []

    def act(model: Any, inputs: Tensor, epsilon: float) -> Tensor:
        seen.append((torch.rand(1), np.random.rand()))  # noqa: NPY002
        return inputs

    images, labels = torch.zeros(2, 3, 4, 4), torch.zeros(2).long()

    def once(kind: str, level: float, draw: int, start: int, seed: int) -> tuple[float, float]:
        guard = Guard(kind, spec(act=act), seed=seed)
        guard(Brightness(), images, labels, level=level, draw=draw, samples=range(start, start + 2))
        drawn, number = seen[-1]
        return float(drawn), number

    cases = [
        ("a", 0.1, 0, 0, 0),
        ("b", 0.1, 0, 0, 0),
        ("a", 0.2, 0, 0, 0),
        ("a", 0.1, 1, 0, 0),
        ("a", 0.1, 0, 2, 0),
        ("a", 0.1, 0, 0, 1),
    ]
    first = [once(*case) for case in cases]
    assert [once(*case) for case in reversed(cases)] == first[::-1]
    assert len({drawn for drawn, _ in first}) == len({number for _, number in first}) == len(cases)


def test_generators_come_back_as_they_were() -> None:
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()  # noqa: NPY002
    with seeded("x", 1, device=CPU):
        torch.rand(3)
        np.random.rand(3)  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1]  # noqa: NPY002


# The published space


def cifar() -> Dataset:
    images = torch.randint(0, 256, (3, 3, 8, 8), dtype=torch.uint8)
    return Dataset("cifar10", "test", images, torch.zeros(3).long(), ("a", "b"), MEAN, STD)


def test_the_published_space_sets_pixels_to_its_two_bounds() -> None:
    dataset = cifar()
    pixels = dataset.pixels(slice(None))
    guard = Guard("pixel", ATTACKS["pixel"], seed=0, space=legacy_space(dataset))
    seen: list[Tensor] = []

    class Spy(Brightness):
        def forward(self, pixels: Tensor) -> Tensor:
            seen.append(pixels)
            return super().forward(pixels)

    outcome = guard(Spy(), pixels, dataset.labels, level=10, draw=0, samples=range(3))
    assert guard.space == "legacy"
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    normalised = (seen[0] - mean) / std
    changed = ((seen[0] - pixels).abs() > 1e-6).any(dim=1)
    assert outcome["distance"].tolist() == changed.sum(dim=(1, 2)).tolist()
    values = normalised.movedim(1, -1)[changed]  # (pixels set, channels)
    bounds = torch.tensor(BOUNDS)
    assert ((values[..., None] - bounds).abs().amin(dim=-1) < 1e-5).all()
    assert (values.amax(dim=1) - values.amin(dim=1) < 1e-5).all()
    assert 0 < int((values[:, 0] > 0).sum()) < len(values)


def test_both_spaces_choose_the_same_pixels() -> None:
    dataset = cifar()
    pixels = torch.full((3, 3, 8, 8), 0.5)
    shown = [
        Guard("pixel", ATTACKS["pixel"], seed=4, **space).picture(
            pixels, dataset.labels, level=12, draw=0, samples=range(3)
        )
        for space in ({}, {"space": legacy_space(dataset)})
    ]
    assert shown[0] is not None
    assert shown[1] is not None
    changed = [((picture - pixels).abs() > 1e-3).any(dim=1) for picture in shown]
    assert torch.equal(changed[0], changed[1])
    assert shown[1].min() >= 0
    assert shown[1].max() <= 1


def test_other_data_sets_have_no_published_space() -> None:
    dataset = replace(cifar(), name="svhn", mean=(0.4, 0.4, 0.4))
    with pytest.raises(UserError, match="svhn"):
        legacy_space(dataset)


def test_pictures_need_no_model_or_there_are_none() -> None:
    images, labels = torch.full((1, 3, 4, 4), 0.5), torch.zeros(1).long()
    picture = planted(brighter, is_search=False).picture(images, labels, level=0.25, draw=0, samples=range(1))
    assert picture is not None
    assert torch.equal(picture, images + 0.25)
    none = planted(brighter).picture(images, labels, level=0.25, draw=0, samples=range(1))
    assert none is None


@pytest.mark.parametrize(
    "act", [lambda model, x, epsilon: x + 2 * epsilon, lambda model, x, epsilon: x + [][0]]
)
def test_a_rejected_input_has_no_picture(act: Callable[[Any, Tensor, float], Tensor]) -> None:
    images, labels = torch.full((1, 3, 4, 4), 0.25), torch.zeros(1).long()
    guard = planted(act, is_search=False)
    assert guard.picture(images, labels, level=0.25, draw=0, samples=range(1)) is None


# The accelerator


@pytest.mark.gpu
def test_the_accelerator_sets_the_same_pixels_and_keeps_its_generator() -> None:
    images = torch.randint(0, 256, (6, 3, 8, 8)).float() / 255
    before = torch.cuda.get_rng_state()
    expected, outcome = (
        Guard("pixel", ATTACKS["pixel"], seed=0)(
            Brightness(),
            images.to(device),
            torch.zeros(6).long().to(device),
            level=9,
            draw=0,
            samples=range(6),
        )
        for device in ("cpu", "cuda")
    )
    for name, values in expected.items():
        found = outcome[name].cpu()
        if values.is_floating_point():  # probabilities and margins
            torch.testing.assert_close(found, values)
        else:
            assert torch.equal(found, values)
    assert torch.equal(torch.cuda.get_rng_state(), before)
