"""What --kind and --set name."""

import re

import pytest

from blrobust import levels
from blrobust.attacks import selection
from blrobust.attacks.table import ATTACKS, SUITES
from blrobust.errors import UserError


def test_names_patterns_and_suites_keep_the_users_order() -> None:
    assert list(selection.kinds("pgd-linf, pixel")) == ["pgd-linf", "pixel"]
    assert list(selection.kinds("fmn-*")) == [kind for kind in ATTACKS if kind.startswith("fmn-")]
    assert next(iter(selection.kinds("pixel,p*"))) == "pixel"
    for suite, members in SUITES.items():
        assert selection.kinds(f"suite:{suite}") == members


@pytest.mark.parametrize("text", ["pgd", "suite:none", "", ",", "x*"])
def test_what_names_nothing_is_said(text: str) -> None:
    with pytest.raises(UserError, match=re.escape(repr(text))):
        selection.kinds(text)


def test_a_suite_names_attacks_with_grids_they_can_take() -> None:
    for members in SUITES.values():
        for kind, grid in members.items():
            ATTACKS[kind].check_strengths(levels.parse(grid or ATTACKS[kind].grid), (3, 32, 32))


def test_changes_go_to_every_attack_that_has_the_parameter() -> None:
    found = selection.parameters(["fgsm", "pgd-linf", "pgd-l2"], ["steps=7", "pgd-l2.restarts=3"], "default")
    assert found["pgd-linf"]["steps"] == found["pgd-l2"]["steps"] == 7
    assert found["pgd-l2"]["restarts"] == 3
    assert "restarts" not in found["pgd-linf"]
    assert "steps" not in found["fgsm"]


def test_the_preset_of_the_literature_can_be_changed_too() -> None:
    kind = "pgd-linf"
    paper = selection.parameters([kind], ["rel_stepsize=0.1"], "paper")[kind]
    assert paper == {**ATTACKS[kind].parameters, **ATTACKS[kind].paper, "rel_stepsize": 0.1}


def test_frequencies_have_signs_and_norms_are_part_of_the_name() -> None:
    assert selection.parameters(["fourier"], ["row=-3,column=0"], "default")["fourier"]["row"] == -3
    for kind, entry in ATTACKS.items():
        assert not {"norm", "constraint"} & set(entry.settable()), kind


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("step=7", "rel_stepsize"),
        ("steps", "name=value"),
        ("steps=x", "'x' is not a whole number"),
        ("steps=1.5", "whole number"),
        ("rel_stepsize=nan", "below 1e9"),
        ("random_start=maybe", "true, false"),
        ("fgsm.steps=3", "'fgsm' is not among"),
        ("epsilon=1", "epsilon"),
        ("steps=0", "numbers from 1"),
        ("restarts=0", "numbers from 1"),
        ("rel_stepsize=-1", "numbers from 0"),
    ],
)
def test_a_wrong_change_names_itself_and_what_is_legal(change: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        selection.parameters(["pgd-linf"], [change], "default")
