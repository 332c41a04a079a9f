"""Flags: reasons to doubt a model's predictions (stored in a run), or the results of an attack."""

from collections.abc import Mapping
from typing import Any

from blrobust.attacks.catalogue.table import ATTACKS
from blrobust.runs.record import Record


def model_flags(record: Record, *labels: str, not_finite: int) -> list[str]:
    """Return the flags of a model: those stored in a run's record, and one for logits not finite.

    `labels` has the label of the model, or those of its training seeds, whose flags are joined. `not_finite`
    is the number of predictions without finite logits; if it is above 0, one flag gives it. Runs without
    attacks by early builds of version 0.1.0 have no stored flags.
    """
    stored = list(dict.fromkeys(flag for label in labels for flag in record.flags.get(label, [])))
    return stored + ([f"{not_finite:,} answers not finite"] if not_finite else [])


def member_flag(kind: str, *, parameters: Mapping[str, Any] | None, revision: int) -> list[str]:
    """Return a list with a flag if only one attack of the ensemble `kind` runs on models without gradients.

    `parameters` are by default those of the catalogue. `revision` is the version of the attack in the run.
    The list is empty for attacks that are no ensembles, and for versions other than that of the catalogue:
    earlier ones ran no attack on models without gradients.
    """
    spec = ATTACKS.get(kind)
    if spec is None or spec.revision != revision:
        return []
    alone = spec.without_gradients(spec.budget() if parameters is None else parameters)
    return [f"{spec.gradient_free_member} only"] if alone else []


def rejected_flag(count: int) -> list[str]:
    """Return a list with a flag that states `count`, the number of rejected inputs; empty if `count` is 0."""
    return [f"{count:,} rejected"] if count else []
