"""Checks of an attack's parameters, and the text that shows them."""


def check(name: str, value: object, legal: str, *, accepted: bool) -> None:
    """Raise `ValueError`, with the legal values in words, unless the value of the parameter is legal."""
    if not accepted:
        raise ValueError(f"got {name}={value!r}; legal: {legal}")


def check_counts(*, least: int = 1, **counts: int) -> None:
    """Raise `ValueError` at the first count that is not a whole number from `least` on."""
    for name, count in counts.items():
        accepted = isinstance(count, int) and count >= least
        check(name, count, f"whole numbers from {least}", accepted=accepted)


def check_above_0(**values: float) -> None:
    """Raise `ValueError` at the first number that is not above 0."""
    for name, value in values.items():
        check(name, value, "numbers above 0", accepted=value > 0)


def constructor_call(attack: object) -> str:
    """Return the constructor call of an attack as text, from its public attributes: its `repr`."""
    given = {name: value for name, value in vars(attack).items() if not name.startswith("_")}
    return f"{type(attack).__name__}({', '.join(f'{name}={value!r}' for name, value in given.items())})"
