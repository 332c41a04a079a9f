"""Which models of a run are seeds of one model."""

import pytest
from support import invented

from blrobust.analysis.groups import Group, group_of, groups, seed_counts


def grouped(labels: list[str], **own: dict[str, object]) -> dict[str, Group]:
    """The groups of models of the suite; `own` changes cards, with `_` for `-` in labels."""
    cards = invented.trained(labels)
    for label, changes in own.items():
        cards[label.replace("_", "-")] |= changes
    return groups({label: invented.card(label, **changes) for label, changes in cards.items()})


def members(found: dict[str, Group]) -> dict[str, list[str]]:
    return {name: list(group.members) for name, group in found.items()}


def test_models_that_differ_in_the_seed_alone_are_one() -> None:
    labels = ["fp32", "fft50-seed2", "fft50", "fp32-seed1", "fft85-compact-seed1", "fft85-compact-seed4"]
    found = grouped(labels)
    assert members(found) == {
        "fp32": ["fp32", "fp32-seed1"],
        "fft50": ["fft50-seed2", "fft50"],
        "fft85-compact": ["fft85-compact-seed1", "fft85-compact-seed4"],
    }
    assert {name: group.card.label for name, group in found.items()} == {name: name for name in found}
    assert found["fft85-compact"].card.seed == 1
    assert group_of("fft85-compact-seed4", found) == "fft85-compact"
    assert group_of("other", found) == "other"
    assert seed_counts(found.values()) == {2: ["fp32", "fft50", "fft85-compact"]}


def test_channels_in_front_must_be_alike() -> None:
    labels = ["fp32", "lowpass-fft85+fp32", "fp32-seed1", "lowpass0.5+fp32-seed1", "lowpass-fft85+fp32-seed1"]
    assert members(grouped(labels)) == {
        "fp32": ["fp32", "fp32-seed1"],
        "lowpass-fft85+fp32": ["lowpass-fft85+fp32", "lowpass-fft85+fp32-seed1"],
        "lowpass0.5+fp32-seed1": ["lowpass0.5+fp32-seed1"],
    }


def test_seeds_tested_at_another_band_limit_are_one_model() -> None:
    labels = ["fft50@85", "fft50-seed1@85", "fft50-seed1@0", "fft50"]
    assert members(grouped(labels)) == {
        "fft50@85": ["fft50@85", "fft50-seed1@85"],
        "fft50-seed1@0": ["fft50-seed1@0"],
        "fft50": ["fft50"],
    }


def test_a_lone_seed_keeps_its_label() -> None:
    assert members(grouped(["fp32-seed1", "fft50"])) == {"fp32-seed1": ["fp32-seed1"], "fft50": ["fft50"]}


@pytest.mark.parametrize(
    "changes",
    [
        {"checkpoint": None},  # a module of the user
        {"checkpoint": "mine.safetensors"},
        {"checkpoint": "weights/cifar10-resnet20-fp32-seed2.safetensors"},
        {"channels": ("depth5",)},
        {"arch": "resnet18"},  # not that of the file
    ],
)
def test_a_model_that_is_not_what_its_label_says_stays_alone(changes: dict[str, object]) -> None:
    found = grouped(["fp32", "fp32-seed1"], fp32_seed1=changes)
    assert members(found) == {"fp32": ["fp32"], "fp32-seed1": ["fp32-seed1"]}


def test_seeds_do_not_take_the_label_of_a_model_of_the_user() -> None:
    labels = ["fp32", "fp32-seed1", "fp32-seed2"]
    found = grouped(labels, fp32={"checkpoint": "mine.safetensors"})
    assert members(found) == {label: [label] for label in labels}


@pytest.mark.parametrize("label", ["depth5", "a=b", "+", "x-seed1", "lowpass0.5+"])
def test_any_label_of_the_user_is_a_model_of_its_own(label: str) -> None:
    card = invented.card(label, dataset="cifar10", checkpoint=f"cifar10-resnet20-{label}.safetensors")
    assert members(groups({label: card})) == {label: [label]}
