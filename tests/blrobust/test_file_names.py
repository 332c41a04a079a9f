"""File names of labels: one each, short, and turned back into the label."""

import re
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blrobust.file_names import MOST, file_name

LABELS = st.text(st.characters(), min_size=1) | st.text("ab/_.%~+2EF7\\", min_size=1, max_size=6)


@given(LABELS | st.text(min_size=1).map(lambda text: text * 80))
def test_a_name_is_legal_short_and_stays_in_its_folder(label):
    name = file_name(label)
    assert re.fullmatch(r"[A-Za-z0-9_+=%-][A-Za-z0-9._+=%~-]*", name)
    assert len(name) <= MOST


@given(LABELS)
def test_the_label_is_read_from_the_name(label):
    name = file_name(label)
    assert "~" in name or unquote(name, errors="surrogatepass") == label


@given(LABELS, LABELS)
def test_two_labels_have_two_names(one, other):
    assert (file_name(one) == file_name(other)) == (one == other)


@given(st.text(max_size=3), st.text(max_size=3))
def test_two_long_labels_have_two_names(one, other):
    long = "é/" * 150
    assert (file_name(long + one) == file_name(long + other)) == (one == other)


@given(st.from_regex(r"[A-Za-z0-9_+=-][A-Za-z0-9._+=-]{0,199}", fullmatch=True))
def test_plain_labels_keep_their_names(label):
    assert file_name(label) == label


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("a/b", "a%2Fb"),
        ("a_b", "a_b"),
        (".", "%2E"),
        ("..", "%2E%2E"),
        ("..a.", "%2E%2Ea."),
        ("lowpass0.5+fp32", "lowpass0.5+fp32"),
        ("100 %", "100%20%25"),
        ("~", "%7E"),
        ("ü", "%C3%BC"),
        ("\udcff", "%ED%B3%BF"),
    ],
)
def test_examples(label, name):
    assert file_name(label) == name
