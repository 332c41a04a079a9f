"""File names of labels: one each, short, and turned back into the label."""

import re
import unicodedata
from urllib.parse import unquote

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from blrobust.file_names import MOST, file_name, file_name_with_capitals

DEVICES = [
    "con",
    "prn",
    "aux",
    "nul",
    *(f"{port}{number}" for port in ("com", "lpt") for number in range(10)),
]
LABELS = (
    st.text(st.characters(), min_size=1)
    | st.text("ab/_.%~+2EF7\\", min_size=1, max_size=6)
    | st.builds(str.__add__, st.sampled_from(DEVICES), st.text("C.x~", max_size=2))
)


def on_disk(name: str) -> str:
    """Return equal texts for names that a file system may take as equal."""
    return unicodedata.normalize("NFKC", name).casefold().rstrip(". ")


@given(LABELS | st.text(min_size=1).map(lambda text: text * 80))
def test_a_name_is_legal_short_and_stays_in_its_folder(label):
    name = file_name(label)
    assert re.fullmatch(r"[A-Za-z0-9_+=%-][A-Za-z0-9._+=%~-]*", name)
    assert len(name) <= MOST
    assert name.split(".")[0].lower() not in DEVICES


@given(LABELS)
def test_the_label_is_read_from_the_name(label):
    name = file_name(label)
    assert "~" in name or unquote(name, errors="surrogatepass") == label


@given(LABELS, LABELS)
def test_two_labels_have_two_names(one, other):
    assert (on_disk(file_name(one)) == on_disk(file_name(other))) == (one == other)


@given(LABELS, st.integers(0, 3))
def test_labels_that_differ_in_case_or_in_dots_have_two_names(label, dots):
    alike = {label, label.swapcase(), label.upper(), label.lower(), label.title(), label + "." * dots}
    assert len({on_disk(file_name(one)) for one in alike}) == len(alike)


@given(st.text(max_size=3), st.text(max_size=3))
def test_two_long_labels_have_two_names(one, other):
    long = "é/" * 150
    names = [on_disk(file_name(long + end)) for end in (one, other)]
    assert (names[0] == names[1]) == (one == other)


@given(st.from_regex(r"[a-z0-9_+=-]([a-z0-9._+=-]{0,198}[a-z0-9_+=-])?", fullmatch=True))
def test_plain_labels_keep_their_names(label):
    assume(label.split(".")[0] not in DEVICES)
    assert file_name(label) == label


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("a/b", "a%2Fb"),
        ("a_b", "a_b"),
        (".", "%2E"),
        ("..", "%2E%2E"),
        ("..a.", "%2E%2Ea%2E"),
        ("a.b", "a.b"),
        ("ResNet", "%52es%4Eet"),
        ("lowpass0.5+fp32", "lowpass0.5+fp32"),
        ("100 %", "100%20%25"),
        ("~", "%7E"),
        ("ü", "%C3%BC"),
        ("nul", "%6Eul"),
        ("con.a", "%63on.a"),
        ("CON", "%43%4F%4E"),
        ("com10", "com10"),
        ("\udcff", "%ED%B3%BF"),
    ],
)
def test_examples(label, name):
    assert file_name(label) == name


@given(LABELS | st.text(min_size=1).map(lambda text: text * 80))
def test_names_with_capitals_are_those_of_earlier_folders(label):
    name = file_name_with_capitals(label)
    assert len(name) <= MOST
    assert "~" in name or unquote(name, errors="surrogatepass") == label
    if len(label) < 20 and not re.search(r"[A-Z]|\.$", label) and label.split(".")[0] not in DEVICES:
        assert name == file_name(label)


def test_examples_with_capitals():
    assert [file_name_with_capitals(label) for label in ("..ResNet.", "a/B~")] == [
        "%2E%2EResNet.",
        "a%2FB%7E",
    ]
