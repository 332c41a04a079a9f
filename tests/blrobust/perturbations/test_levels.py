import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blrobust.errors import UserError
from blrobust.perturbations.levels import distinct_digits, format_level, parse, parse_given


def test_a_range_has_21_levels_as_printed():
    assert parse("0:2") == tuple(float(f"{i / 10:.1f}") for i in range(21))


@pytest.mark.parametrize(
    ("text", "levels"),
    [
        ("0:1:0.25", (0, 0.25, 0.5, 0.75, 1)),
        ("0:1:0.3", (0, 0.3, 0.6, 0.9)),
        ("0:1:0.1", (0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1)),
        ("0:1000:50", tuple(range(0, 1001, 50))),
        ("0.5,0.1", (0, 0.1, 0.5)),
        ("0.1, 0.1,0", (0, 0.1)),
        ("0", (0,)),
        ("-0.0", (0,)),
        ("1:2:1", (0, 1, 2)),
        ("1e-3", (0, 0.001)),
    ],
)
def test_explicit_grids(text, levels):
    assert parse(text) == levels
    assert math.copysign(1, parse(text)[0]) == 1


def test_a_range_that_starts_above_0_gets_level_0_too():
    levels = parse("0.5:2")
    assert len(levels) == 22
    assert levels[:2] == (0, 0.5)
    assert levels[-1] == 2


@pytest.mark.parametrize(
    "text",
    [
        *("", ",", "a", "1,", "0:a", "2:0", "1:1", "-1:1", "-1", "nan", "inf", "0:inf", "0:nan"),
        *("0:1:0", "0:1:-1", "0:1:nan", "0:1:1e-9", "0:1:1e-320", "1:2:3:4", "0:1:", ":", "::"),
        *("0x10", "1;2", "0-2", "1e10", "0:1e308", "1e400"),
    ],
)
def test_what_is_no_grid_is_one_line(text):
    with pytest.raises(UserError, match="legal: ") as error:
        parse(text)
    assert repr(text) in str(error.value)
    assert "\n" not in str(error.value)


finite = st.floats(0, 1e9)


@given(finite, finite)
def test_any_range_is_sorted_finite_and_starts_at_0(a, b):
    low, high = sorted((a, b))
    if low == high:
        return
    levels = parse(f"{low!r}:{high!r}")
    assert levels[0] == 0
    assert list(levels) == sorted(set(levels))
    assert all(math.isfinite(level) for level in levels)
    assert levels[-1] == pytest.approx(high, rel=1e-11)


@given(st.text(alphabet="0123456789.:,-+e naif", max_size=12))
def test_any_text_gives_levels_or_a_user_error(text):
    try:
        levels = parse(text)
    except UserError:
        return
    assert levels[0] == 0
    assert all(0 <= level < math.inf for level in levels)


@pytest.mark.parametrize(
    ("level", "norm", "text"),
    [
        (8 / 255, "Linf", "8/255"),
        (0.0313725490196, "Linf", "8/255"),
        (8 / 255, "L2", "0.0313725"),
        (8.01 / 255, "Linf", "0.0314118"),
        (0.5 / 255, "Linf", "0.5/255"),
        (9.5 / 255, "Linf", "9.5/255"),
        (12.5 / 255, "Linf", "12.5/255"),
        (0.25 / 255, "Linf", "0.25/255"),
        (126 / 255, "Linf", "126/255"),
        (128 / 255, "Linf", "128/255"),
        (0.05, "Linf", "0.05"),  # 12.75/255
        (0.1, "Linf", "0.1"),  # 25.5/255
        (0.001, "Linf", "0.001"),
        (0.0, "Linf", "0"),
        (0.5, "Linf", "0.5"),
        (1.0, "Linf", "1"),
        (1000.0, "L0 (pixels)", "1,000"),
        (0.3, None, "0.3"),
    ],
)
def test_levels_are_written_as_they_are_asked_for(level: float, norm: str | None, text: str) -> None:
    assert format_level(level, norm) == text


@pytest.mark.parametrize(
    ("listed", "norm", "texts"),
    [
        ([0.0, 16 / 255, 0.1], None, ["0", "0.0627451", "0.1"]),
        ([0.0, 0.12345678, 0.123456789], None, ["0", "0.12345678", "0.12345679"]),
        ([1_000_001.0, 1_000_002.0], None, ["1,000,001", "1,000,002"]),
        ([2 / 255, 8 / 255], "Linf", ["2/255", "8/255"]),
        ([8 / 255, 0.03137255], "Linf", ["8/255", "0.03137255"]),
    ],
)
def test_levels_of_one_run_have_different_texts(listed, norm, texts):
    rounded = parse_given(listed, name="levels")[-len(listed) :]
    digits = distinct_digits(rounded, norm)
    assert [format_level(level, norm, digits=digits) for level in rounded] == texts
