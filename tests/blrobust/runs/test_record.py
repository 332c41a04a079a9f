"""run.json: what it must contain, and one line for whatever else it contains."""

import copy
import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import invented, invented_frequencies

from blrobust.analysis.view import view
from blrobust.errors import UserError
from blrobust.runs.record import Record, digest
from blrobust.runs.run import Run

Plain = dict[str, Any]
MAKE: dict[str, Callable[[Path], Path]] = {
    "noise": partial(invented.run, curves={"fp32": [0.9, 0.5], "b": [0.8, 0.6]}, levels=[0.0, 0.5], n=5),
    "heatmap": invented_frequencies.heatmap,
    "recover": invented_frequencies.recovery,
}


@pytest.fixture(scope="module", params=MAKE)
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Plain]:
    """A finished run of each kind, and its run.json without the checksum."""
    folder = MAKE[request.param](tmp_path_factory.mktemp("runs") / request.param)
    plain = json.loads((folder / "run.json").read_text())
    del plain["checksum"]
    return folder, plain


def edit(folder: Path, plain: Plain, *, rehash: bool = True) -> None:
    """Write run.json as somebody would who knows how the hash and the checksum are made."""
    if rehash and isinstance(plain.get("config"), dict):
        plain = plain | {"hash": digest(plain["config"])}
    (folder / "run.json").write_text(json.dumps(plain | {"checksum": digest(plain)}))


def use(folder: Path) -> str:
    """Return what the record and the results contain; raises `UserError` of one line."""
    try:
        with Run.open(folder) as opened:
            results = view(opened)
            return f"{opened.config.summary} {results.table.to_csv()} {results.flags}"
    except UserError as error:
        text = str(error)
    assert "\n" not in text
    raise UserError(text)


def paths(value: Any, before: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path to every value within a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in items:
        yield (*before, key)
        yield from paths(part, (*before, key))


def change(plain: Plain, path: tuple[Any, ...], value: Any) -> Plain:
    """Return a copy with another value at a path; `...` removes it."""
    plain = copy.deepcopy(plain)
    owner: Any = plain
    for key in path[:-1]:
        owner = owner[key]
    if value is ...:
        del owner[path[-1]]
    else:
        owner[path[-1]] = value
    return plain


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.just(10**400),
    st.floats(allow_nan=False, allow_infinity=False),
)
values = st.one_of(
    st.just(...),
    scalars | st.text(max_size=5),
    st.recursive(
        scalars,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
        max_leaves=5,
    ),
    st.sampled_from([nested(200), [0.0] * 5000, "x" * 5000]),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_an_edited_record_is_used_or_refused_in_one_line(
    run: tuple[Path, Plain], data: st.DataObject
) -> None:
    folder, plain = run
    path = data.draw(st.sampled_from(list(paths(plain))), label="path")
    edited = change(plain, path, data.draw(values, label="value"))
    edit(folder, edited, rehash=data.draw(st.booleans(), label="rehash"))
    try:
        use(folder)
    except UserError:
        return


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("config", "command"), "dance"),
        (("config", "seed"), -1),
        (("config", "seed"), 0.0),
        (("config", "more"), 1),
        (("config", "models"), []),
        (("config", "dataset", "n"), 6),
        (("dataset", "n"), 6),
        (("dataset", "classes"), []),
        (("dataset", "std"), [0, 0, 0]),
        (("dataset", "std"), [1.0]),
        (("models", 0, "label"), "other"),
        (("models", 0, "effective_compression"), 2),
        (("models", 0, "test_accuracy"), 10**400),
        (("sessions",), []),
        (("id",), "0" * 31),
        (("id",), ...),
        (("format",), 2),
        (("hash",), "0" * 64),
        (("finished",), 5),
        (("flags",), {"fp32": "text"}),
    ],
)
def test_a_record_that_cannot_be_is_corrupt(
    run: tuple[Path, Plain], path: tuple[Any, ...], value: Any
) -> None:
    folder, plain = run
    edit(folder, change(plain, path, value), rehash=path != ("hash",))
    with pytest.raises(UserError, match=r"run.json is corrupt: "):
        use(folder)


@pytest.mark.parametrize(
    ("command", "path", "value", "told"),
    [
        ("noise", ("kinds", "gaussian", "levels"), [0.5, 0.0], "ascending"),
        ("noise", ("kinds", "gaussian", "levels"), [0.0, 0.0, 0.5], "ascending"),
        ("noise", ("kinds", "gaussian", "levels"), [], "length"),
        ("noise", ("kinds",), {}, "length"),
        ("noise", ("draws",), 10**6, "10000"),
        ("noise", ("space",), "outer", "'outer'"),
        ("heatmap", ("size",), 9, "at most 8"),
        ("heatmap", ("size",), 10**6, "1000"),
        ("heatmap", ("shape",), [3, 8], "length 3"),
        ("recover", ("source",), "c", "'c', which is not one of the models"),
        ("recover", ("channels", 0, 1), "a", "different names"),
        ("recover", ("channels", 1, 1), "c", "'c', which is not one of the models"),
    ],
)
def test_a_configuration_that_cannot_be_names_the_problem(
    tmp_path: Path, command: str, path: tuple[Any, ...], value: Any, told: str
) -> None:
    folder = MAKE[command](tmp_path / "run")
    plain = json.loads((folder / "run.json").read_text())
    del plain["checksum"]
    edit(folder, change(plain, ("config", *path), value))
    with pytest.raises(UserError, match=r"run.json is corrupt: ") as caught:
        Record.read(folder)
    assert told in str(caught.value)


@pytest.mark.parametrize("label", ["", " ", "\x1b[31m", "a\nb", "\ud800"])
def test_a_label_must_be_printable(run: tuple[Path, Plain], label: str) -> None:
    folder, plain = run
    for path in (("config", "models", 0, "label"), ("models", 0, "label")):
        plain = change(plain, path, label)
    edit(folder, plain)
    with pytest.raises(UserError, match="legal: printable text"):
        use(folder)


def test_two_models_of_one_label_are_refused(run: tuple[Path, Plain]) -> None:
    folder, plain = run
    for path in (("config", "models"), ("models",)):
        owner: Any = plain
        for key in path:
            owner = owner[key]
        plain = change(plain, path, [owner[0], owner[0]])
    edit(folder, plain)
    with pytest.raises(UserError, match="models must have different names"):
        use(folder)


def test_an_unknown_kind_is_refused(tmp_path: Path) -> None:
    folder = invented.run(tmp_path, {"a": [0.5]}, [0.0], kind="rain")
    with pytest.raises(UserError, match="got the kind 'rain'; legal: gaussian, uniform or an attack"):
        use(folder)


@pytest.mark.parametrize("text", ["NaN", "Infinity", "1e999", "9" * 5000, "[" * 99999, "{", '"', "null", ""])
def test_text_that_is_no_record_is_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "run.json").write_text(text if text in ("", "{") else f'{{"checksum": "", "seed": {text}}}')
    with pytest.raises(UserError, match=r"run.json is corrupt: ") as caught:
        Record.read(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_record_is_written_as_it_was_read(run: tuple[Path, Plain]) -> None:
    folder, plain = run
    edit(folder, plain)
    before = json.loads((folder / "run.json").read_text())
    Record.read(folder).write(folder)
    assert json.loads((folder / "run.json").read_text()) == before


def test_a_flipped_bit_is_refused_or_changes_nothing(run: tuple[Path, Plain]) -> None:
    folder, plain = run
    edit(folder, plain)
    whole, table = (folder / "run.json").read_bytes(), use(folder)
    for place in range(0, 8 * len(whole), 59):
        flipped = bytearray(whole)
        flipped[place // 8] ^= 1 << place % 8
        (folder / "run.json").write_bytes(flipped)
        try:
            assert use(folder) == table, place
        except UserError:
            continue


def test_a_record_of_another_format_names_the_legal_ones(run: tuple[Path, Plain]) -> None:
    folder, plain = run
    edit(folder, plain | {"format": 5})
    with pytest.raises(UserError, match="got format 5; legal: 2, 3, 4"):
        use(folder)
