"""Score-based attacks: what holds for all of them, then each against its paper's formulas and brute force."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import foolbox
import numpy as np
import pytest
import scipy.fft
import torch
from foolbox.criteria import Criterion, Misclassification, TargetedMisclassification
from torch import Tensor, nn

from blrobust.attacks.building_blocks.losses import log_odds
from blrobust.attacks.building_blocks.problem import Problem
from blrobust.attacks.score.genetic import GeneticAttack
from blrobust.attacks.score.local_search import LocalSearchAttack, RoundDistance
from blrobust.attacks.score.nes import NESAttack
from blrobust.attacks.score.simba import SimBAAttack, SimBADCTAttack, cosines
from blrobust.attacks.score.square import SquareL2Attack, SquareLinfAttack, bumps
from blrobust.errors import UserError

CPU = torch.device("cpu")
UNIT = (0.0, 1.0)
LEGACY = (-2.4290657, 2.7537313)
SHAPE = (3, 8, 8)


class Scored(nn.Module):
    """Class 1 where ``score`` (m,) is above ``level``, else class 0; class 2 never. Keeps the questions."""

    def __init__(self, score: Callable[[Tensor], Tensor], level: float = 0.0) -> None:
        super().__init__()
        self.score = score
        self.level = level
        self.asked: list[Tensor] = []
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        self.asked.append(x.clone())
        # In float64, so that the batch cannot change a bit of the answer.
        excess = self.score(x.double()) - self.level
        return torch.stack([-excess, excess, torch.full_like(excess, -100)], dim=1).float()

    @property
    def queries(self) -> int:
        return sum(map(len, self.asked))


def brightness(x: Tensor) -> Tensor:
    return x.flatten(1).mean(dim=1)


def stubborn(x: Tensor) -> Tensor:
    """The clean image looks worst: no change helps, and none is adversarial."""
    return torch.zeros_like(x[:, 0, 0, 0])


def rough(x: Tensor) -> Tensor:
    """Nothing linear, and another slope for every value."""
    weight = torch.linspace(-3, 4, x[0].numel(), dtype=torch.float64).view(x.shape[1:])
    return (weight * (3 * x + weight).sin()).flatten(1).mean(dim=1)


def target(model: nn.Module, bounds: tuple[float, float] = UNIT) -> foolbox.PyTorchModel:
    return foolbox.PyTorchModel(model, bounds=bounds, device=CPU)


def dim(batch: int, shape: tuple[int, ...] = SHAPE) -> Tensor:
    """Dark images: brighter by 0.1 in every value is far from the bounds."""
    return torch.rand(batch, *shape, generator=torch.Generator().manual_seed(1)) * 0.1 + 0.1


def extreme(batch: int, bounds: tuple[float, float]) -> Tensor:
    """Images with many values at the bounds."""
    lower, upper = bounds
    spread = torch.rand(batch, *SHAPE, generator=torch.Generator().manual_seed(2)) * 2 - 0.5
    return (lower + (upper - lower) * spread).clamp(lower, upper)


@dataclass(frozen=True)
class Case:
    attack: Any
    epsilon: float | None  # None for minimal-norm attacks
    level: float  # a brightness that the attack can reach from below 0.16, and where it must end
    queries: int  # of a sample that stays as it is
    targeted: bool = False

    def criterion(self, batch: int) -> Criterion:
        if self.targeted:
            return TargetedMisclassification(torch.ones(batch, dtype=torch.int64))
        return Misclassification(torch.zeros(batch, dtype=torch.int64))

    def run(
        self, model: nn.Module, images: Tensor, *, bounds: tuple[float, float] = UNIT, **keys: Any
    ) -> Tensor:
        if self.epsilon is not None:
            keys = {"epsilon": self.epsilon, **keys}
        found = self.attack.run(target(model, bounds), images, self.criterion(len(images)), **keys)
        assert isinstance(found, Tensor)
        return found


# Brightness is about 0.15; linf 0.1 can add 0.1, l2 2.0 can add 2 / sqrt(192) = 0.144.
CASES = [
    Case(SquareLinfAttack(queries=100), 0.1, 0.17, 100),
    Case(SquareL2Attack(queries=200), 2.0, 0.17, 200),
    Case(SimBAAttack(queries=60), None, 0.17, 60),
    Case(SimBADCTAttack(queries=55, frequencies=3), None, 0.17, 55),  # all 27 directions, both ways
    Case(LocalSearchAttack(rounds=8, candidates=20), 4, 0.19, 6 + 7 * 20 + 8),
    Case(NESAttack(steps=8, directions=10), 0.1, 0.16, 8 * 11),
    Case(GeneticAttack(generations=30, population=6), 0.1, 0.16, 6 + 29 * 5, targeted=True),
]
each = pytest.mark.parametrize("case", CASES, ids=lambda case: type(case.attack).__name__)


# What holds for all of them


@each
def test_a_planted_adversarial_is_found_within_epsilon(case: Case) -> None:
    images = dim(6)
    model = Scored(brightness, case.level)
    found = case.run(model, images)
    assert (brightness(found.double()) > case.level).all()
    if case.epsilon is not None:
        assert (case.attack.distance(images, found) <= case.epsilon * (1 + 1e-6)).all()
    assert model.queries < 6 * case.queries


@each
@pytest.mark.parametrize("bounds", [UNIT, LEGACY])
def test_bounds_and_epsilon_hold(case: Case, bounds: tuple[float, float]) -> None:
    images = extreme(4, bounds)
    found = case.run(Scored(rough, 50.0), images, bounds=bounds)
    assert found.min() >= torch.tensor(bounds[0])
    assert found.max() <= torch.tensor(bounds[1])
    if case.epsilon is not None:
        assert not torch.equal(found, images)
        assert (case.attack.distance(images, found) <= case.epsilon * (1 + 1e-6) + 2**-22).all()


@each
def test_without_an_adversarial_all_stated_queries_are_made_and_no_more(case: Case) -> None:
    images = dim(3)
    model = Scored(stubborn, 1.0)
    found = case.run(model, images)
    assert model.queries == 3 * case.queries
    if case.epsilon is None:
        assert torch.equal(found, images)


@each
def test_the_batch_does_not_matter(case: Case) -> None:
    images = dim(5)
    level = float(rough(images.double()).max()) + 0.02
    whole = case.run(Scored(rough, level), images, samples=range(40, 45))
    places = (40, 42, 44)
    some = case.run(Scored(rough, level), images[::2], samples=places)
    assert torch.equal(whole[::2], some)
    for i in range(5):
        assert torch.equal(
            whole[i : i + 1], case.run(Scored(rough, level), images[i : i + 1], samples=range(40 + i, 41 + i))
        )


@each
def test_the_same_key_repeats_and_another_differs(case: Case) -> None:
    images = dim(1)
    level = float(rough(images.double()).max()) + 0.02

    def asked(**keys: Any) -> Tensor:
        model = Scored(rough, level)
        case.run(model, images, **keys)
        return torch.cat(model.asked)

    once = asked()
    assert torch.equal(once, asked())
    seed = case.attack.seed
    case.attack.seed = 7
    others = [asked(draw=1), asked(samples=range(1, 2))]
    try:
        others.append(asked())
    finally:
        case.attack.seed = seed
    assert not any(torch.equal(once[: len(other)], other[: len(once)]) for other in others)


@each
def test_a_finished_sample_is_left_alone(case: Case) -> None:
    """Beside a sample that is never done, the first adversarial stays: more queries change nothing."""
    images = dim(2)
    images[1] = 0.0  # black: out of reach of most, but the batch goes on
    alone = case.run(Scored(brightness, case.level), images[:1])
    assert torch.equal(case.run(Scored(brightness, case.level), images)[:1], alone)


@each
def test_wrong_use_raises(case: Case) -> None:
    model = Scored(brightness, 0.5)
    with pytest.raises(TypeError, match="power"):
        case.run(model, dim(2), power=3)
    for wrong in (1.5, -0.5, math.nan):
        with pytest.raises(ValueError, match=r"legal: the model's bounds, 0 to 1"):
            case.run(model, torch.full((2, *SHAPE), wrong))
    with pytest.raises(ValueError, match=r"got images of shape \(2, 3, 8\); legal"):
        case.run(model, torch.zeros(2, 3, 8))
    keys = {} if case.epsilon is None else {"epsilon": case.epsilon}
    both = Misclassification(torch.zeros(2)) & Misclassification(torch.ones(2))
    with pytest.raises(ValueError, match="_And"):
        case.attack.run(target(model), dim(2), both, **keys)
    with pytest.raises(ValueError, match="for 2 images"):
        case.attack.run(target(model), dim(2), case.criterion(3), **keys)


@each
def test_repr_is_the_call_that_builds_it(case: Case) -> None:
    copy = eval(repr(case.attack))
    assert type(copy) is type(case.attack)
    assert public(copy) == public(case.attack)


def public(attack: Any) -> dict[str, Any]:
    return {name: value for name, value in vars(attack).items() if not name.startswith("_")}


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: SquareLinfAttack(queries=0), "queries=0; legal: whole numbers from 1"),
        (lambda: SquareL2Attack(share=1.5), "share=1.5; legal: numbers above 0, up to 1"),
        (lambda: SimBAAttack(step=0), "step=0; legal: numbers above 0"),
        (lambda: SimBAAttack(queries=0), "queries=0; legal: whole numbers from 1"),
        (lambda: SimBADCTAttack(frequencies=0), "frequencies=0; legal: whole numbers from 1"),
        (lambda: LocalSearchAttack(r=2.5), "r=2.5; legal: numbers above 1, up to 2"),
        (lambda: LocalSearchAttack(r=1.0), "r=1.0; legal: numbers above 1, up to 2"),
        (lambda: LocalSearchAttack(rounds=0), "rounds=0; legal: whole numbers from 1"),
        (lambda: LocalSearchAttack(d=-1), "d=-1; legal: whole numbers from 0"),
        (lambda: NESAttack(steps=0), "steps=0; legal: whole numbers from 1"),
        (lambda: NESAttack(directions=5), "directions=5; legal: even numbers from 2"),
        (lambda: NESAttack(sigma=0), "sigma=0; legal: numbers above 0"),
        (lambda: GeneticAttack(population=1), "population=1; legal: whole numbers from 2"),
        (lambda: GeneticAttack(probability=2), "probability=2; legal: numbers from 0 to 1"),
        (lambda: GeneticAttack(temperature=0), "temperature=0; legal: numbers above 0"),
    ],
)
def test_illegal_parameters_name_themselves(build: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.parametrize("case", [case for case in CASES if not isinstance(case.attack, LocalSearchAttack)])
def test_targets_are_reached(case: Case) -> None:
    keys = {} if case.epsilon is None else {"epsilon": case.epsilon}
    model = Scored(brightness, case.level)
    wanted = TargetedMisclassification(torch.ones(3, dtype=torch.int64))
    found = case.attack.run(target(model), dim(3), wanted, **keys)
    assert (model(found).argmax(dim=1) == 1).all()


# The problem


def test_success_is_what_the_criterion_says() -> None:
    logits = torch.tensor([[2.0, -1.0, 0.5], [0.0, 3.0, 1.0], [torch.nan, 1.0, 0.0], [0.0, -torch.inf, 1.0]])
    classes = torch.tensor([0, 2, 0, 2])
    images = dim(4)
    leave, reach = (
        Problem.of(target(Scored(stubborn, 1.0)), images, criterion)
        for criterion in (Misclassification(classes), TargetedMisclassification(classes))
    )
    assert (leave.sign, reach.sign) == (1, -1)
    # Logits that are not finite predict no class.
    assert leave.fooled(logits).tolist() == [False, True, True, True]
    assert reach.fooled(logits).tolist() == [True, False, False, False]
    rows = torch.tensor([1, 1, 0])
    assert leave.fooled(logits[rows], rows).tolist() == [True, True, False]
    assert torch.equal(leave.criterion(rows).labels.raw, classes[rows])
    assert torch.equal(reach.criterion(rows).target_classes.raw, classes[rows])


def test_log_odds_fall_where_the_probability_has_rounded_to_one() -> None:
    sure = torch.tensor([[60.0, 0.0], [59.0, 0.0]])
    assert sure.softmax(dim=1)[:, 0].tolist() == [1, 1]
    loss = log_odds(sure, torch.zeros(2, dtype=torch.int64))
    assert loss[1] < loss[0]


# Square


def test_the_share_halves_on_the_papers_schedule() -> None:
    attack = SquareLinfAttack(queries=10_000, share=0.8)
    share = {1: 1, 10: 1, 11: 2, 50: 2, 51: 4, 200: 4, 201: 8, 501: 16, 1001: 32, 2001: 64, 4001: 128}
    share |= {6001: 256, 8000: 256, 8001: 512, 9999: 512}
    for query, halving in share.items():
        assert attack.side(query, (1, 3, 224, 224)) == round(math.sqrt(0.8 / halving * 224 * 224))
    short = SquareLinfAttack(queries=1000, share=0.8)
    for query in range(1, 1000):
        assert short.side(query, (1, 3, 32, 32)) == attack.side(10 * query, (1, 3, 32, 32))
    for query in range(1, 1000):
        side = SquareL2Attack(queries=1000).side(query, (1, 3, 32, 32))
        assert side % 2 == 1
        assert side >= 3


def test_square_linf_starts_with_vertical_stripes_and_changes_one_square_a_query() -> None:
    images = dim(1) + 0.3
    attack = SquareLinfAttack(queries=80, share=0.4)
    model = Scored(stubborn, 1.0)
    attack.run(target(model), images, torch.zeros(1, dtype=torch.int64), epsilon=0.1)
    changes = torch.cat(model.asked) - images
    torch.testing.assert_close(changes.abs(), torch.full_like(changes, 0.1))
    stripes = changes[0].sign()
    assert (stripes == stripes[:, :1]).all()
    assert stripes[:, 0].unique(dim=1).shape[1] > 1
    for query in range(1, 80):
        changed = (changes[query].sign() != stripes).any(dim=0).nonzero()
        if len(changed) > 0:  # the colours of a square may be those it had
            height, width = (changed.amax(dim=0) - changed.amin(dim=0) + 1).tolist()
            side = attack.side(query, images.shape)
            assert max(height, width) <= side
            inside = changes[query][:, changed[0, 0], changed[0, 1]]
            box = changes[query][:, changed.amin(0)[0] : changed.amax(0)[0] + 1]
            box = box[:, :, changed.amin(0)[1] : changed.amax(0)[1] + 1]
            torch.testing.assert_close(box, inside.view(-1, 1, 1).expand_as(box))


def test_square_windows_are_uniform_over_all_places() -> None:
    images = torch.full((400, 1, 6, 6), 0.5)
    model = Scored(stubborn, 1.0)
    attack = SquareLinfAttack(queries=2, share=1 / 36)
    attack.run(target(model), images, torch.zeros(400, dtype=torch.int64), epsilon=0.1)
    start, second = model.asked
    hits = (start != second).any(dim=1).sum(dim=0)  # half of 400 / 36 a pixel
    assert abs(int(hits.sum()) - 200) < 60
    assert hits.min() > 0
    assert hits.max() < 20


@pytest.mark.parametrize("side", [1, 2, 3, 6, 7, 11])
def test_bumps_are_the_papers_sums(side: int) -> None:
    def bump(height: int, width: int) -> np.ndarray:
        value = np.zeros((height, width))
        n = width // 2
        for r in range(1, height + 1):
            for s in range(1, width + 1):
                last = n - max(abs(r - height // 2 - 1), abs(s - width // 2 - 1))
                value[r - 1, s - 1] = sum(1 / (n + 1 - k) ** 2 for k in range(last + 1))
        return value

    eta = np.concatenate([bump(side // 2, side), -bump(side - side // 2, side)])
    np.testing.assert_allclose(bumps(side, CPU).numpy(), eta / np.linalg.norm(eta), rtol=1e-5)


@pytest.mark.parametrize("shape", [(3, 12, 12), (1, 16, 11), (2, 3, 3)])
def test_square_l2_uses_all_of_epsilon_and_touches_two_squares(shape: tuple[int, ...]) -> None:
    images = torch.full((1, *shape), 0.5)
    attack = SquareL2Attack(queries=60, share=0.2)
    model = Scored(stubborn, 1.0)
    attack.run(target(model), images, torch.zeros(1, dtype=torch.int64), epsilon=0.4)
    changes = torch.cat(model.asked) - images
    torch.testing.assert_close(changes.flatten(1).norm(dim=1), torch.full((60,), 0.4))
    for query in range(1, 60):
        touched = ((changes[query] - changes[0]).abs() > 1e-6).any(dim=0)
        assert 0 < touched.sum() <= 2 * attack.side(query, images.shape) ** 2


def test_square_l2_starts_from_a_grid_of_tiles() -> None:
    images = torch.full((1, 1, 10, 10), 0.5)
    model = Scored(stubborn, 1.0)
    SquareL2Attack(queries=1).run(target(model), images, torch.zeros(1, dtype=torch.int64), epsilon=0.5)
    tiles = (model.asked[0] - images)[0, 0].unfold(0, 2, 2).unfold(1, 2, 2).reshape(25, 4)
    # 25 tiles of one shape, each +eta or -eta, each with 1/25 of the squared norm
    torch.testing.assert_close(tiles.norm(dim=1), torch.full((25,), 0.1))
    cosine = tiles @ tiles[0] / 0.01
    torch.testing.assert_close(cosine.abs(), torch.ones(25))
    assert (cosine < 0).any()
    assert (cosine > 0).sum() > 1


# SimBA


def test_simba_on_a_linear_model_is_a_step_along_every_sign() -> None:
    weight = torch.tensor([[0.5, -1.0, 2.0], [-0.3, 0.7, -0.2], [1.1, -0.9, 0.4]]).view(1, 3, 3)
    images = torch.full((1, 1, 3, 3), 0.5)
    best = images + 0.1 * weight.sign()

    def score(x: Tensor) -> Tensor:
        return (x * weight).flatten(1).sum(dim=1)

    level = float(score(best.double())) - 1e-4  # all nine steps are needed
    model = Scored(score, level)
    found = SimBAAttack(step=0.1, queries=100).run(target(model), images, torch.tensor([0]))
    torch.testing.assert_close(found, best)
    assert float((found - images).norm()) == pytest.approx(0.1 * math.sqrt(9))
    down = int((weight < 0).sum())
    steps = 1 + (9 - down) + 2 * down  # the clean image, one query for each +, two for each -
    assert model.queries - steps in range(10)  # it looks at which are done every ten queries
    short = SimBAAttack(step=0.1, queries=steps - 1).run(target(model), images, torch.tensor([0]))
    assert torch.equal(short, images)


@pytest.mark.parametrize("attack", [SimBAAttack(queries=50), SimBADCTAttack(queries=50, frequencies=4)])
def test_simba_is_algorithm_1(attack: SimBAAttack | SimBADCTAttack) -> None:
    """The same walk, one question at a time; the directions are read from a run that keeps none."""
    image = dim(1, (2, 4, 4)) + 0.3
    probing = Scored(stubborn, 1.0)
    attack.run(target(probing), image, torch.tensor([0]))
    questions = torch.cat(probing.asked)
    directions = (questions[1::2] - image) / 0.2  # + of each, then - of each
    torch.testing.assert_close(questions[2::2] - image, -0.2 * directions[: len(questions[2::2])])
    flat = directions.flatten(1)
    torch.testing.assert_close(flat @ flat.T, torch.eye(len(flat)), rtol=0, atol=1e-5)

    x, level, asked = image.clone(), float(rough(image.double())) + 0.2, 1
    for direction in directions:
        for sign in (1, -1):
            if asked == 50 or rough(x.double()) > level:
                break
            moved = (x + sign * 0.2 * direction).clamp(0, 1)
            asked += 1
            if rough(moved.double()) > rough(x.double()):
                x = moved
                break
    model = Scored(rough, level)
    found = attack.run(target(model), image, torch.tensor([0]))
    assert model.queries - asked in range(10)  # likewise
    torch.testing.assert_close(found, x if rough(x.double()) > level else image)


def test_cosines_are_scipys() -> None:
    for size in (1, 4, 7, 32):
        np.testing.assert_allclose(
            cosines(size, CPU).numpy(), scipy.fft.idct(np.eye(size), norm="ortho", axis=1), atol=1e-6
        )


def test_the_directions_of_simba_dct_are_the_low_frequencies_of_one_channel() -> None:
    image = torch.full((1, 2, 6, 5), 0.5)
    model = Scored(stubborn, 1.0)
    SimBADCTAttack(step=0.1, queries=1000, frequencies=3).run(target(model), image, torch.tensor([0]))
    waves = (torch.cat(model.asked)[1::2] - image) / 0.1
    spectrum = scipy.fft.dctn(waves.numpy(), axes=(2, 3), norm="ortho")
    peaks = {tuple(np.argwhere(np.abs(wave) > 1e-4)[0]) for wave in spectrum}
    assert all((np.abs(wave) > 1e-4).sum() == 1 for wave in spectrum)
    assert peaks == {(c, u, v) for c in range(2) for u in range(3) for v in range(3)}


def test_frequencies_beyond_the_image_raise() -> None:
    with pytest.raises(ValueError, match=r"got frequencies=9; legal .* 8 x 8: 1 to 8"):
        SimBADCTAttack(frequencies=9).run(target(Scored(stubborn, 1.0)), dim(1), torch.tensor([0]))


# Local search


def greedy(
    model: Scored, image: np.ndarray, first: tuple[int, int], *, t: int, rounds: int, d: int
) -> np.ndarray:
    """Foolbox 1's algorithm on one image (C, H, W) in [0, 1], its first round's one candidate given."""

    def ask(v: np.ndarray) -> Tensor:
        return model(torch.from_numpy(v + 0.5).float()[None])[0]

    v, (_, height, width) = image.astype(np.float64) - 0.5, image.shape
    candidates = [first]
    for _ in range(rounds):
        scores = []
        for y, x in candidates:
            probe = v.copy()
            probe[:, y, x] = 10 * np.sign(probe[:, y, x])
            scores.append(float(ask(probe).double().softmax(dim=0)[0]))
        stars = [candidates[i] for i in np.argsort(scores)[:t]]
        for y, x in stars:
            for channel in range(len(v)):
                moved = 1.5 * v[channel, y, x]
                v[channel, y, x] = moved + 1 if moved < -0.5 else moved - 1 if moved > 0.5 else moved
        if ask(v).argmax() != 0:
            break
        around = [(y + i, x + j) for y, x in stars for i in range(-d, d + 1) for j in range(-d, d + 1)]
        candidates = sorted({(y, x) for y, x in around if 0 <= y < height and 0 <= x < width})
    return v + 0.5


@pytest.mark.parametrize("d", [1, 5])
@pytest.mark.parametrize("t", [1, 2, 9])
def test_local_search_on_a_small_image_is_foolbox_1s(t: int, d: int) -> None:
    """On 3 x 3 pixels a round looks at all its candidates, so only the first is random."""

    def score(x: Tensor) -> Tensor:  # of moderate size at p = 10 too: float32 tells the probabilities apart
        weight = torch.linspace(1, 2, 18, dtype=torch.float64).view(2, 3, 3)
        return (weight * (5 * x * weight).sin()).flatten(1).sum(dim=1) / 9

    images = torch.rand(4, 2, 3, 3, generator=torch.Generator().manual_seed(3))
    labels = torch.zeros(4, dtype=torch.int64)
    one = LocalSearchAttack(rounds=1, candidates=9).run(target(Scored(score, 9.0)), images, labels, epsilon=1)
    starts = (one != images).any(dim=1).nonzero()  # (4, 3): sample, row, column
    for level in (9.0, 1.0):
        model = Scored(score, level)
        attack = LocalSearchAttack(rounds=6, candidates=9, d=d)
        found = attack.run(target(model), images, labels, epsilon=t)
        for i, y, x in starts.tolist():
            expected = greedy(model, images[i].numpy(), (y, x), t=t, rounds=6, d=d)
            np.testing.assert_allclose(found[i].numpy(), expected, atol=1e-5)


def test_local_search_asks_about_single_pixels_far_outside_and_moves_t_a_round() -> None:
    images, t, rounds = dim(1, (3, 20, 20)), 6, 4
    model = Scored(stubborn, 1.0)
    found = LocalSearchAttack(rounds=rounds, candidates=30, d=2).run(
        target(model), images, torch.tensor([0]), epsilon=t
    )
    last = images
    for probes, moved in zip(model.asked[::2], model.asked[1::2], strict=True):
        assert len(probes) == 30
        odd = (probes != last).any(dim=1)
        assert (odd.flatten(1).sum(dim=1) == 1).all()  # and 30 different ones
        assert odd.any(dim=0).sum() == 30
        values = probes.permute(0, 2, 3, 1)[odd]
        side = (last.expand_as(probes).permute(0, 2, 3, 1)[odd] - 0.5).sign()
        torch.testing.assert_close(values, 0.5 + 10 * side)
        assert (moved != last).any(dim=1).sum() == t
        last = moved
    assert torch.equal(found, last)
    assert (found != images).any(dim=1).sum() <= t * rounds
    assert RoundDistance(rounds)(images, found).item() <= t


def test_local_search_finds_the_one_pixel_that_matters() -> None:
    images = dim(8, (1, 6, 6))
    model = Scored(lambda x: (x[:, 0, 2, 3] - 0.15).square(), 0.35**2)
    # Darker than a sixth the value wraps around; above it moves away, and wraps in the next rounds.
    found = LocalSearchAttack(rounds=6, candidates=36).run(
        target(model), images, torch.zeros(8, dtype=torch.int64), epsilon=1
    )
    assert (found[:, 0, 2, 3] > 0.5).all()


def test_local_search_takes_no_target_and_whole_pixels() -> None:
    attack, model = LocalSearchAttack(), target(Scored(stubborn, 1.0))
    with pytest.raises(ValueError, match="TargetedMisclassification; legal: Misclassification"):
        attack.run(model, dim(1), TargetedMisclassification(torch.tensor([1])), epsilon=1)
    for strength in (0.5, -1, 65):
        with pytest.raises(UserError, match=f"got strength {strength:g}; legal: .* 0 to 64, .* 8 x 8"):
            attack.run(model, dim(1), torch.tensor([0]), epsilon=strength)


# NES


def test_nes_asks_in_opposite_gaussian_pairs_of_the_samples_own() -> None:
    images = torch.full((2, 1, 16, 16), 0.5)
    model = Scored(stubborn, 1.0)
    NESAttack(steps=3, directions=40, sigma=0.1).run(
        target(model), images, torch.zeros(2, dtype=torch.int64), epsilon=0.1
    )
    steps = []
    for probes in model.asked[::2]:
        up, down = (probes - 0.5).view(2, 2, 20, 256) / 0.1  # (sample, direction, value)
        torch.testing.assert_close(up, -down)
        steps.append(up)
    u = torch.stack(steps)  # (step, sample, direction, value): 30,720 numbers
    assert abs(u.mean()) < 0.03
    assert abs(u.std() - 1) < 0.03
    assert abs(u.pow(4).mean() - 3) < 0.3
    one, other = u[:, 0].flatten(), u[:, 1].flatten()
    assert abs(torch.corrcoef(torch.stack([u[0].flatten(), u[1].flatten()]))[0, 1]) < 0.05
    # Two samples differ by the sign of each of the 256 values.
    assert abs(torch.corrcoef(torch.stack([one, other]))[0, 1]) < 5 / 16


def test_nes_with_many_directions_follows_the_sign_of_the_gradient() -> None:
    weight = torch.tensor([[1.0, -2.0], [-1.0, 1.5]])
    images = torch.full((3, 1, 2, 2), 0.5)
    model = Scored(lambda x: (x[:, 0] * weight).flatten(1).sum(dim=1), 9.0)
    labels = torch.zeros(3, dtype=torch.int64)
    for steps, moved in ((1, 0.02), (3, 0.06), (9, 0.1)):  # clipped to epsilon after five
        attack = NESAttack(steps=steps, directions=400, stepsize=0.2)
        found = attack.run(target(model), images, labels, epsilon=0.1)
        torch.testing.assert_close(found - images, (moved * weight.sign()).expand(3, 1, 2, 2))


# GenAttack


def test_the_genetic_search_keeps_its_elite_and_its_bounds() -> None:
    images = dim(2)
    model = Scored(rough, 50.0)
    attack = GeneticAttack(generations=40, population=5)
    wanted = TargetedMisclassification(torch.ones(2, dtype=torch.int64))
    found = attack.run(target(model), images, wanted, epsilon=0.1)
    assert [len(asked) for asked in model.asked] == [10] + 39 * [8]
    scores = torch.stack([rough(asked.double()).view(2, -1).amax(dim=1) for asked in model.asked])
    # What is returned is the best of all that was ever asked.
    torch.testing.assert_close(rough(found.double()), scores.amax(dim=0), rtol=0, atol=1e-12)
    assert (scores[-1] > scores[0]).all()
    for asked in model.asked:
        change = asked - images.repeat_interleave(len(asked) // 2, dim=0)
        assert change.abs().max() <= 0.1 + 1e-6


def test_children_take_their_values_from_two_parents() -> None:
    images = torch.full((1, 1, 16, 16), 0.5)
    model = Scored(stubborn, 1.0)
    attack = GeneticAttack(generations=2, population=4, probability=0.1)
    attack.run(target(model), images, TargetedMisclassification(torch.tensor([1])), epsilon=0.2)
    parents, children = model.asked  # (4, ...), (3, ...)
    assert (parents - images).abs().max() > 0.19
    for child in children:
        same = (child == parents).view(4, -1)
        taken = same.float().mean(dim=1).sort(descending=True).values
        # Half of the values mutate at first; all are equally fit, so two parents give half each
        # (or one parent gives all, where both are the same).
        assert taken[:2].sum() == pytest.approx(0.5, abs=0.12)
        assert taken[2:].max() == 0
        mutant = (~same.any(dim=0)).nonzero()[:, 0]
        nearest = (child.flatten()[mutant] - parents.view(4, -1)[:, mutant]).abs().amin(dim=0)
        assert nearest.max() <= 0.4 * 0.2 + 1e-6


def test_fitter_parents_have_more_children() -> None:
    """The brightest of four far apart in fitness is the only parent."""
    images = torch.full((1, 1, 16, 16), 0.5)
    model = Scored(lambda x: 1e6 * brightness(x), 1e9)
    attack = GeneticAttack(generations=2, population=4)
    attack.run(target(model), images, TargetedMisclassification(torch.tensor([1])), epsilon=0.2)
    parents, children = model.asked
    fittest = parents[brightness(parents).argmax()]
    for child in children:
        assert (child == fittest).float().mean() == pytest.approx(0.5, abs=0.12)


def test_mutation_fades_with_plateaus_down_to_its_least() -> None:
    images = torch.full((1, 1, 16, 16), 0.5)
    model = Scored(stubborn, 1.0)
    attack = GeneticAttack(generations=402, population=2, probability=0.45)
    attack.run(target(model), images, TargetedMisclassification(torch.tensor([1])), epsilon=0.2)
    asked = torch.cat(model.asked)
    # Both parents of a child are the elite, as the fitness never differs and the first is kept, or
    # its last child; count what differs from both, of values that no two mutations bring to an end of
    # the ball, where they would be equal.
    elite = asked[0]
    inside = (elite - 0.5).abs() < 0.04

    def rate(first: int) -> float:
        shares = [
            ((asked[g + 2] != elite) & (asked[g + 2] != asked[g + 1]))[inside].float().mean()
            for g in range(first, first + 90)
        ]
        return float(torch.stack(shares).mean())

    assert rate(5) == pytest.approx(0.5, abs=0.03)
    assert rate(305) == pytest.approx(0.45, abs=0.03)


def test_mutations_of_one_sample_say_nothing_of_another() -> None:
    """Where two samples change the same value, they change it independently."""
    images = torch.full((40, 3, 16, 16), 0.5)
    model = Scored(stubborn, 1.0)
    attack = GeneticAttack(generations=2, population=2, probability=0.5, size=0.4)
    attack.run(target(model), images, TargetedMisclassification(torch.ones(40).long()), epsilon=0.2)
    parents, children = (asked.view(40, -1, 768) for asked in model.asked)  # two, and one
    differences = children - parents
    mutated = (differences != 0).all(dim=1)
    moves = differences.gather(1, differences.abs().argmin(dim=1, keepdim=True))[:, 0]  # from the nearer
    both = mutated[0::2] & mutated[1::2]
    assert both.sum() > 2000
    pairs = torch.stack([moves[0::2][both], moves[1::2][both]])
    assert abs(float(torch.corrcoef(pairs)[0, 1])) < 0.08


def test_the_genetic_attack_needs_a_target() -> None:
    with pytest.raises(ValueError, match="got the criterion Misclassification; legal: Targeted"):
        GeneticAttack().run(target(Scored(stubborn, 1.0)), dim(1), torch.tensor([0]), epsilon=0.1)
