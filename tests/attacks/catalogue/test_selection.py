"""What --kind and --set name."""

import re

import pytest

from blrobust.attacks.catalogue import parameter_rules, selection
from blrobust.attacks.catalogue.suites import SUITES
from blrobust.attacks.catalogue.table import ATTACKS
from blrobust.errors import UserError
from blrobust.perturbations import levels


def test_names_patterns_and_suites_keep_the_users_order() -> None:
    assert list(selection.kinds("pgd-linf, pixel")) == ["pgd-linf", "pixel"]
    assert list(selection.kinds("fmn-*")) == [kind for kind in ATTACKS if kind.startswith("fmn-")]
    assert next(iter(selection.kinds("pixel,p*"))) == "pixel"
    for suite, members in SUITES.items():
        chosen = selection.kinds(f"suite:{suite}")
        assert chosen == {kind: levels.parse(grid or ATTACKS[kind].grid) for kind, grid in members.items()}


def test_a_kind_named_twice_has_the_strengths_of_both(monkeypatch: pytest.MonkeyPatch) -> None:
    suites = {"a": {"fgsm": "0,0.1,0.3", "pgd-linf": None}, "b": {"fgsm": "0.2,0.3"}}
    monkeypatch.setattr(selection, "SUITES", suites)
    for text in ("suite:a,suite:b", "suite:b,suite:a", "suite:a,suite:b,suite:a"):
        assert selection.kinds(text)["fgsm"] == (0, 0.1, 0.2, 0.3)
    own = levels.parse(ATTACKS["fgsm"].grid)
    for text in ("suite:b,fg*", "fgsm,suite:b"):
        assert selection.kinds(text)["fgsm"] == tuple(sorted({*own, 0.2, 0.3}))


@pytest.mark.parametrize("text", ["pgd", "suite:none", "", ",", "x*"])
def test_what_names_nothing_is_said(text: str) -> None:
    with pytest.raises(UserError, match=re.escape(repr(text))):
        selection.kinds(text)


def test_a_suite_names_attacks_with_grids_they_can_take() -> None:
    for members in SUITES.values():
        for kind, grid in members.items():
            ATTACKS[kind].check_levels(levels.parse(grid or ATTACKS[kind].grid), (3, 32, 32))


def test_the_papers_suite_has_the_attacks_that_the_paper_names() -> None:
    """Sections 4.3 and 4.4 and the appendix: noise of both kinds, and those of Foolbox."""
    named = {
        *("gaussian", "uniform-linf", "pixel", "local-search", "fgsm", "cw-l2"),
        *("contrast", "gaussian-blur", "rotation", "translation"),
    }
    assert set(selection.kinds("suite:paper")) == named
    assert selection.kinds("suite:paper")["uniform-linf"][-1] == pytest.approx(128 / 255)


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
    for kind, spec in ATTACKS.items():
        assert not {"norm", "constraint"} & set(spec.settable()), kind


@pytest.mark.parametrize("kind", [kind for kind in ATTACKS if kind.startswith("apgd-")])
def test_what_makes_the_name_cannot_be_set(kind: str) -> None:
    for change in ("loss=dlr", "norm=l2"):
        with pytest.raises(UserError, match="legal parameters of the chosen attacks"):
            selection.parameters([kind], [change], "default")


def test_a_number_that_foolbox_writes_without_a_point_is_one() -> None:
    assert selection.parameters(["cw-l2"], ["confidence=0.5"], "default")["cw-l2"]["confidence"] == 0.5
    with pytest.raises(UserError, match="whole number"):
        selection.parameters(["cw-l2"], ["steps=0.5"], "default")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("step=7", "rel_stepsize"),
        ("steps", "name=value"),
        ("steps=x", "got 'steps=x'; legal: whole numbers"),
        ("steps=1.5", "legal: whole numbers"),
        ("rel_stepsize=nan", "below 1e9"),
        ("random_start=maybe", "true, false"),
        ("fgsm.steps=3", "legal: the chosen attacks pgd-linf"),
        ("epsilon=1", "epsilon"),
        ("steps=0", "numbers from 1"),
        ("restarts=0", "numbers from 1"),
        ("rel_stepsize=-1", "numbers above 0"),
    ],
)
def test_a_wrong_change_names_itself_and_what_is_legal(change: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        selection.parameters(["pgd-linf"], [change], "default")


@pytest.mark.parametrize("kind", ATTACKS)
def test_the_default_and_the_literature_are_legal(kind: str) -> None:
    spec = ATTACKS[kind]
    for name, value in {**spec.settable(), **{n: v for n, v in spec.paper.items() if n != "norm"}}.items():
        assert selection.parameters([kind], [f"{name}={value}"], "default")[kind][name] == value


# What a class of Foolbox's or our own does anything with; 0 and -1 are refused for all else.
FROM_0 = {
    *("confidence", "regularization", "source_step_convergance", "d", "low", "probability", "quantile"),
    *("deepfool-l2.overshoot", "deepfool-linf.overshoot", "mifgsm.momentum"),
    *("brendel-bethge-l2.momentum", "brendel-bethge-linf.momentum"),
}
SETTABLE = [(kind, name) for kind, spec in ATTACKS.items() for name in spec.settable()]


@pytest.mark.parametrize(("kind", "name"), SETTABLE, ids=[".".join(pair) for pair in SETTABLE])
def test_nonsense_is_refused_before_anything_runs(kind: str, name: str) -> None:
    """Each parameter of each attack: 0, -1, and a word that means nothing."""
    nonsense = {"0", "-1", "nan", "x" * 50}
    if {name, f"{kind}.{name}"} & FROM_0:
        nonsense -= {"0"}
    if kind == "fourier":
        nonsense -= {"0", "-1"}
    for value in nonsense:
        if kind.startswith("autoattack-") and name == "attacks":  # several words: the class knows them
            chosen = selection.parameters([kind], [f"{name}={value}"], "default")[kind]
            with pytest.raises(ValueError, match=f"got attacks='{value}'; legal"):
                ATTACKS[kind].build(seed=0, parameters=chosen)
            continue
        with pytest.raises(UserError, match=re.escape(f"parameters: got '{name}={value}'; legal: ")):
            selection.parameters([kind], [f"{name}={value}"], "default")


@pytest.mark.parametrize(
    ("change", "legal"),
    [
        ("hopskipjump.stepsize_search=foo", "geometric_progression, grid_search"),
        ("deepfool-l2.loss=hinge", "logits, crossentropy"),
        ("ead.decision_rule=L2", "EN, L1"),
        ("contrast.towards=black", "middle, mean"),
        ("deepfool-linf.candidates=1", "numbers from 2"),
        ("ddn.gamma=1", "numbers above 0, below 1"),
        ("boundary.step_adaptation=0.5", "numbers from 1"),
        ("brendel-bethge-l2.lr_decay=2", "numbers above 0, up to 1"),
    ],
)
def test_what_is_legal_is_said(change: str, legal: str) -> None:
    with pytest.raises(UserError, match=f"legal: {legal}$"):
        selection.parameters([change.partition(".")[0]], [change], "default")


def test_a_parameter_of_all_and_of_one_attack_are_two() -> None:
    found = selection.parameters(["pgd-linf", "pgd-l2"], ["steps=3,pgd-l2.steps=5"], "default")
    assert (found["pgd-linf"]["steps"], found["pgd-l2"]["steps"]) == (3, 5)
    for changes in (["steps=3", "steps=3"], ["steps=3, steps=5"], ["pgd-l2.steps=3", "pgd-l2.steps=4"]):
        with pytest.raises(UserError, match=r"parameters: got '.*' and '.*'; legal: each parameter once$"):
            selection.parameters(["pgd-linf", "pgd-l2"], changes, "default")


@pytest.mark.parametrize("kind", ATTACKS)
def test_defaults_pass_the_limits_of_any_data(kind: str) -> None:
    for preset in ("default", "paper"):
        budget = ATTACKS[kind].budget(preset)
        parameter_rules.check_limits(kind, budget, budget, parameter_rules.Data(4, 4, classes=2))


@pytest.mark.parametrize(
    ("kind", "name", "least", "most"),
    [
        ("simba-dct", "frequencies", 1, 12),
        ("fourier", "row", -6, 6),
        ("fourier", "column", -10, 10),
        ("fourier-worst", "step", 1, 19),
        ("local-search", "candidates", 1, 240),
        ("deepfool-linf", "candidates", 2, 7),
        ("apgd-targeted-l2", "targets", 1, 6),
        ("autoattack-linf", "targets", 1, 6),
    ],
)
def test_the_data_limit_parameters(kind: str, name: str, least: int, most: int) -> None:
    """Images of 12 x 20 in 7 classes."""
    data = parameter_rules.Data(12, 20, classes=7)
    for value in (least, most):
        parameter_rules.check_limits(kind, {name: value}, {}, data)
    for value in (least - 1, most + 1):
        with pytest.raises(UserError, match=re.escape(f"'{kind}.{name}={value}'; legal for ")):
            parameter_rules.check_limits(kind, {name: value}, {}, data)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("steps=0", "'steps=0' for pgd-linf; legal: numbers from 1"),
        ("steps=x", "'steps=x' for pgd-linf; legal: whole numbers"),
        ("random_start=x", "'random_start=x' for fgsm; legal: true, false"),
        ("candidates=1", "'candidates=1' for deepfool-l2; legal: numbers from 2"),
        ("loss=hinge", "'loss=hinge' for deepfool-l2; legal: logits, crossentropy"),
        ("deepfool-l2.candidates=1", "'deepfool-l2.candidates=1'; legal: numbers from 2"),
    ],
)
def test_of_several_attacks_the_one_that_refuses_a_change_is_named(change: str, told: str) -> None:
    with pytest.raises(UserError, match=f"^parameters: got {re.escape(told)}$"):
        selection.parameters(["fgsm", "pgd-linf", "deepfool-l2"], [change], "default")


@pytest.mark.parametrize(
    ("kind", "name", "least", "most"),
    [
        ("rotation", "angles", 1, 1_000),
        ("spatial", "shifts", 1, 100),
        ("spatial-random", "tries", 1, 10_000),
        ("pointwise", "starts", 1, 1_000),
        ("nes", "directions", 1, 10_000),
        ("square-l2", "queries", 1, 1_000_000),
        ("hopskipjump", "initial_gradient_eval_steps", 1, 10_000),
        ("gen", "population", 2, 1_000),
    ],
)
def test_numbers_that_need_memory_have_a_limit(kind: str, name: str, least: int, most: int) -> None:
    for value in (least, most):
        assert selection.parameters([kind], [f"{name}={value}"], "default")[kind][name] == value
    for value in (least - 1, most + 1):
        legal = f"'{name}={value}'; legal: numbers from {least} to {most:,}"
        with pytest.raises(UserError, match=f"^parameters: got {re.escape(legal)}$"):
            selection.parameters([kind], [f"{name}={value}"], "default")


@pytest.mark.parametrize("kind", ATTACKS)
def test_the_budgets_are_legal_for_set(kind: str) -> None:
    for preset in ("default", "paper"):
        for name, value in ATTACKS[kind].budget(preset).items():
            if isinstance(value, int | float) and not isinstance(value, bool):
                parameter_rules.check(name, kind, name, value)
