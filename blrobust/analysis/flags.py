"""Flags of a model: reasons to doubt its predictions, which a run stores."""

from blrobust.runs.record import Record


def model_flags(record: Record, label: str, *, not_finite: int) -> list[str]:
    """Return the flags of a model in a run's record, and the number of its predictions without finite logits.

    `not_finite` is the number of predictions without finite logits; if it is above 0, a flag with this number
    is added. Runs without attacks by early builds of version 0.1.0 have no stored flags.
    """
    stored = list(record.flags.get(label, []))
    return stored + ([f"{not_finite:,} answers not finite"] if not_finite else [])
