"""Flags and medians of attacks whose outcomes are invented."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray
from support import invented

from blrobust.analysis.attack_results import BLACK_BOX
from blrobust.analysis.run_analysis import RunAnalysis
from blrobust.runs.record import Card

BOTH = ("pgd-linf", "square-linf")  # with gradients and without


class StandIn:
    """A finished run of attacks on one model; `right` returns correctness by kind and level."""

    models: ClassVar[list[str]] = ["a"]
    cards: ClassVar[dict[str, Card]] = {"a": Card(label="a", sha256="")}
    record = SimpleNamespace(flags={})
    draws = 1
    labels = np.zeros(10, np.int16)

    def __init__(
        self,
        kinds: tuple[str, ...],
        levels: list[float],
        right: Callable[[str, float], NDArray[np.bool_]],
        *,
        source: str | None = None,
        minimal: NDArray[np.float64] | None = None,
    ) -> None:
        self.kinds, self._levels, self._right, self._minimal = list(kinds), levels, right, minimal
        self.sweep = SimpleNamespace(origin=source)
        self.cells = len(self.done())

    def levels(self, kind: str) -> list[float]:
        return self._levels

    def done(self) -> set[tuple[str, str, float, int]]:
        return {("a", kind, level, 0) for kind in self.kinds for level in self._levels}

    def correct(self, model: str, kind: str, level: float) -> NDArray[np.bool_]:
        return self._right(kind, level)[None]

    def not_finite(self, model: str, kind: str, level: float) -> NDArray[np.int64]:
        return np.zeros(1, np.int64)

    def outcome(self, model: str, kind: str, level: float, draw: int) -> dict[str, Any]:
        if self._minimal is None:
            return {}
        return {"minimal": self._minimal, "forwards": np.ones(len(self._minimal))}


def analysis(*given: Any, **named: Any) -> RunAnalysis:
    run: Any = StandIn(*given, **named)
    return RunAnalysis(run)


@pytest.mark.parametrize("source", [None, "fp32"])
def test_a_source_leaves_no_white_box_to_beat(source: str | None) -> None:
    def right(kind: str, level: float) -> NDArray[np.bool_]:
        return np.full(50, kind == "pgd-linf")  # one breaks all, the other none

    found = analysis(BOTH, [0.0, 0.1], right, source=source).flags
    assert found == {"a": [BLACK_BOX] if source is None else []}


@pytest.mark.parametrize(
    ("strengths", "lost", "flagged"),
    # Exact McNemar of k images that only the black box breaks: 2 / 2^k, by Holm times the strengths.
    [(1, 6, True), (1, 5, False), (2, 6, False), (2, 7, True), (4, 7, False), (4, 8, True)],
)
def test_more_strengths_need_a_clearer_win_of_the_black_box(strengths: int, lost: int, flagged: bool) -> None:
    def right(kind: str, level: float) -> NDArray[np.bool_]:
        wins = kind == "square-linf" and level == 1
        return np.arange(50) >= lost * wins

    levels = [float(level) for level in range(strengths + 1)]
    assert analysis(BOTH, levels, right).flags == {"a": [BLACK_BOX] * flagged}


@pytest.mark.parametrize(
    ("minimal", "wanted"),
    [([0.1, 0.4], 0.1), ([0.1, 0.4, 0.5], 0.4), ([0.1, np.inf], 0.1), ([0.1, np.inf, np.inf], np.inf)],
)
def test_the_median_breaks_half_and_is_a_strength(minimal: list[float], wanted: float) -> None:
    distances = np.array(minimal)
    found = analysis(("fmn-l2",), [0.0, 1.0], lambda _, level: distances > level, minimal=distances)
    assert found.attacks["median"].item() == wanted


def broken_at(kind: str, level: float) -> NDArray[np.bool_]:
    """Each of 10 images, by the levels of the two attacks that break it; the higher level breaks fewer."""
    broken = {
        ("pgd-linf", 1.0): [0, 1, 2],
        ("pgd-linf", 2.0): [2, 3],
        ("square-linf", 1.0): [4],
        ("square-linf", 2.0): [5],
    }
    return ~np.isin(np.arange(10), [9, *broken.get((kind, level), [])])  # 9 is wrong without an attack


def test_a_worst_case_includes_all_smaller_budgets_in_every_row() -> None:
    table = analysis(BOTH, [0.0, 1.0, 2.0], broken_at).worst_case.set_index(["norm", "level"]).accuracy
    assert table["Linf", 1.0] == pytest.approx(0.5)  # without 0, 1, 2, 4 and 9
    assert table["Linf", 2.0] == pytest.approx(0.3)  # without 3 and 5 either
    assert table["any"].item() == pytest.approx(0.3)


def test_a_worst_case_of_noise_includes_smaller_budgets_too() -> None:
    kinds = ("rotation", "translation")  # without a common unit: only the row of all attacks
    table = analysis(kinds, [0.0, 1.0, 2.0], lambda _, level: np.arange(10) != level).worst_case
    assert list(table.norm) == ["any"]
    assert table.accuracy.item() == pytest.approx(0.7)


def test_a_median_counts_what_lower_strengths_break() -> None:
    """Of the 9 images that are correct, 1 breaks 3, 2 breaks 2: together 4, below half; with 3 it is 6."""

    def right(_: str, level: float) -> NDArray[np.bool_]:
        return broken_at("pgd-linf", level) if level < 3 else ~np.isin(np.arange(10), [6, 7, 9])

    found = analysis(("pgd-linf",), [0.0, 1.0, 2.0, 3.0], right, minimal=None).attacks
    assert found["median"].item() == 3
    assert found["success"].item() == pytest.approx(2 / 9)  # at the last strength itself


def test_all_draws_count_in_success_median_and_passes() -> None:
    """Of the two draws, one breaks images 0 to 7 at level 1, the other image 0 at level 2; 9 is wrong."""
    run: Any = Drawn()
    (row,) = RunAnalysis(run).attacks.to_dict("records")
    assert row["accuracy"][2.0] == pytest.approx((10 - 9 + 10 - 2) / 20)
    assert row["success"] == pytest.approx((8 + 1) / 18)
    assert row["median"] == 2.0  # 8 of 18 are broken at 1, 9 of 18 at 1 or 2
    assert row["queries"] == pytest.approx((10 * 3 + 10 * 1) / 20)
    assert row["clean"] == pytest.approx(0.9)


class Drawn(StandIn):
    """Two draws of one attack, in which the second draw breaks less and takes fewer passes."""

    draws = 2

    def __init__(self) -> None:
        super().__init__(("pgd-linf",), [0.0, 1.0, 2.0], lambda *_: np.ones(10, np.bool_))

    def done(self) -> set[tuple[str, str, float, int]]:
        return {(*key[:3], draw) for key in super().done() for draw in (0, 1)}

    def correct(self, model: str, kind: str, level: float) -> NDArray[np.bool_]:
        broken = {0.0: ([9], [9]), 1.0: ([*range(8), 9], [9]), 2.0: ([*range(8), 9], [0, 9])}[level]
        return np.stack([~np.isin(np.arange(10), images) for images in broken])

    def not_finite(self, model: str, kind: str, level: float) -> NDArray[np.int64]:
        return np.zeros(2, np.int64)

    def outcome(self, model: str, kind: str, level: float, draw: int) -> dict[str, Any]:
        return {"forwards": np.full(10, 3 if draw == 0 else 1)}


class Seeded(StandIn):
    """Two seeds of one model: the attacks break images 0 to 4 of the first, and 5 to 6 of the second."""

    models: ClassVar[list[str]] = ["fp32", "fp32-seed1"]
    cards: ClassVar[dict[str, Card]] = {
        label: invented.card(label, **changes) for label, changes in invented.trained(models).items()
    }

    def __init__(self) -> None:
        super().__init__(BOTH, [0.0, 1.0], lambda *_: np.ones(10, np.bool_))

    def done(self) -> set[tuple[str, str, float, int]]:
        found = super().done()
        return {(model, *key[1:]) for model in self.models for key in found}

    def correct(self, model: str, kind: str, level: float) -> NDArray[np.bool_]:
        broken = {"fp32": ([0, 1], [2, 3, 4]), "fp32-seed1": ([5], [6])}[model][BOTH.index(kind)]
        return ~np.isin(np.arange(10), broken if level else [])[None]


def test_each_seed_has_its_own_worst_case() -> None:
    """Half of the images of one seed are left and 8 of 10 of the other, though only 3 of 10 of both."""
    run: Any = Seeded()
    found = RunAnalysis(run)
    rows = found.worst_case.set_index(["norm", "model"])
    assert rows.accuracy.tolist() == pytest.approx([(0.5 + 0.8) / 2] * 2)
    assert rows.ci_low["any", "fp32"] < 0.5 < 0.8 < rows.ci_high["any", "fp32"]
    attack = found.attacks[found.attacks.kind == "pgd-linf"].iloc[0]
    assert (attack.model, attack.success, attack["median"]) == ("fp32", pytest.approx(3 / 20), np.inf)
    assert found.flags == {"fp32": []}
