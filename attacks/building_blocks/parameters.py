"""Checks of an attack's parameters, and the text of its constructor call."""


def check(name: str, value: object, legal: str, *, accepted: bool) -> None:
    """Raise `ValueError` for the parameter `name` unless `accepted`; `legal` describes the legal values."""
    if not accepted:
        raise ValueError(f"got {name}={value!r}; legal: {legal}")


def check_counts(*, least: int = 1, **counts: int) -> None:
    """Raise `ValueError` for the first of the `counts` that is not a whole number of at least `least`."""
    for name, count in counts.items():
        accepted = isinstance(count, int) and count >= least
        check(name, count, f"whole numbers from {least}", accepted=accepted)


def check_above_0(**values: float) -> None:
    """Raise `ValueError` for the first of `values`, parameters given by name, that is not above 0."""
    for name, value in values.items():
        check(name, value, "numbers above 0", accepted=value > 0)


def constructor_call(attack: object) -> str:
    """Return the text of an attack's constructor call, with its public attributes as arguments."""
    given = {name: value for name, value in vars(attack).items() if not name.startswith("_")}
    return f"{type(attack).__name__}({', '.join(f'{name}={value!r}' for name, value in given.items())})"
