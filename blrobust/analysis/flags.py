"""Flags of a model: reasons to doubt its predictions, which a run stores."""

from collections.abc import Mapping
from typing import Any


def model_flags(record: Mapping[str, Any], label: str, *, not_finite: int) -> list[str]:
    """Return the flags of the model `label` in the record of a run.

    `not_finite` is the number of predictions without finite logits; if it is above 0, a flag with this number
    is added. Runs that were made by version 0.1.0 without an attack have no stored flags.
    """
    stored = list(record.get("flags", {}).get(label, []))
    return stored + ([f"{not_finite:,} answers not finite"] if not_finite else [])
