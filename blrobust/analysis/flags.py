"""Flags: reasons to doubt the predictions of a model, which a run stores, or the results of an attack."""

from collections.abc import Mapping
from typing import Any

from blrobust.attacks.catalogue.table import ATTACKS
from blrobust.runs.record import Record


def model_flags(record: Record, label: str, *, not_finite: int) -> list[str]:
    """Return the flags of a model in a run's record, and the number of its predictions without finite logits.

    `not_finite` is the number of predictions without finite logits; if it is above 0, a flag with this number
    is added. Runs without attacks by early builds of version 0.1.0 have no stored flags.
    """
    stored = list(record.flags.get(label, []))
    return stored + ([f"{not_finite:,} answers not finite"] if not_finite else [])


def member_flag(kind: str, *, parameters: Mapping[str, Any] | None, revision: int) -> list[str]:
    """Return a flag if only one attack of the ensemble `kind` runs on a model without gradients; else none.

    `parameters` are by default those of the attack; earlier revisions of an ensemble ran no attack.
    """
    spec = ATTACKS.get(kind)
    if spec is None or spec.revision != revision:
        return []
    alone = spec.without_gradients(spec.budget() if parameters is None else parameters)
    return [f"{spec.gradient_free_member} only"] if alone else []


def rejected_flag(count: int) -> list[str]:
    """Return a flag with the number of inputs that failed a check or raised an error; none if it is 0."""
    return [f"{count:,} rejected"] if count else []
