from fractions import Fraction
from math import isqrt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blconv.band import AxisBand, Band, check_compression, check_fft_size, kept_frequencies, transform_size

# The paper's layers (3x3, padding 1) by map size: N, then kept rows and columns by nominal compression.
KEPT = {
    32: (128, {0.28: (109, 55), 0.48: (91, 46), 0.84: (51, 26), 0.85: (49, 25)}),
    16: (64, {0.28: (55, 28), 0.48: (45, 23), 0.84: (25, 13), 0.85: (23, 12)}),
    8: (32, {0.28: (27, 14), 0.48: (23, 12), 0.84: (11, 6), 0.85: (11, 6)}),
    4: (16, {0.28: (13, 7), 0.48: (11, 6), 0.84: (5, 3), 0.85: (5, 3)}),
    2: (8, {0.28: (7, 4), 0.48: (5, 3), 0.84: (3, 2), 0.85: (1, 1)}),
}


def square(length, compression, fft_size="paper", kernel=3, padding=1):
    axis = AxisBand.of(
        length,
        kernel,
        padding=(padding, padding),
        dilation=1,
        compression=compression,
        fft_size=fft_size,
    )
    return Band((axis, axis))


@pytest.mark.parametrize("length", KEPT)
@pytest.mark.parametrize("nominal", [0.28, 0.48, 0.84, 0.85])
def test_the_papers_kept_sizes(length, nominal):
    size, kept = KEPT[length]
    band = square(length, nominal)
    assert (band.axes[0].size, band.axes[0].half) == (size, size // 2 + 1)
    assert (band.axes[0].two_sided, band.axes[1].kept) == kept[nominal]
    assert band.full == size * (size // 2 + 1)
    assert band.kept == kept[nominal][0] * kept[nominal][1]
    assert band.effective_compression == 1 - band.kept / band.full
    assert band.is_cut


@pytest.mark.parametrize("length", KEPT)
@pytest.mark.parametrize("fft_size", ["paper", "compact", 77])
def test_compression_zero_keeps_everything(length, fft_size):
    band = square(length, 0.0, fft_size)
    assert not band.is_cut
    assert band.kept == band.full
    assert band.effective_compression == 0


def test_an_axis_that_is_not_cut_keeps_its_nyquist_frequency():
    rows = AxisBand.of(1, 1, padding=(0, 0), dilation=1, compression=0.9, fft_size="compact")
    columns = AxisBand.of(30, 3, padding=(1, 1), dilation=1, compression=0.9, fft_size="compact")
    band = Band((rows, columns))
    assert (rows.size, rows.half, rows.kept, rows.is_cut, rows.two_sided) == (1, 1, 1, False, 1)
    assert (columns.size, columns.half, columns.kept, columns.two_sided) == (32, 17, 5, 9)
    assert band.is_cut
    assert band.effective_compression == pytest.approx(1 - 5 / 17)
    assert Band((columns, rows)).kept == 9


@given(st.integers(1, 5000), st.integers(0, 999))
def test_kept_frequencies_is_the_floor_of_the_exact_square_root(size, thousandths):
    compression = thousandths / 1000
    half = size // 2 + 1
    share = Fraction(1000 - thousandths, 1000) * half**2
    exact = isqrt(share.numerator // share.denominator)
    kept = kept_frequencies(size, compression)
    assert 1 <= kept <= half
    if share != exact**2:  # on an integer the floats decide, below
        assert kept == max(1, exact)
    assert kept >= kept_frequencies(size, min(compression + 0.001, 0.9999))


@pytest.mark.parametrize(
    ("size", "compression", "kept"),
    # sqrt(1 - c) half is a whole number: a single-precision square root would give one less or more.
    [(128, 0.84, 26), (48, 0.84, 10), (8, 0.84, 2), (128, 0.75, 32), (126, 0.75, 32), (198, 0.99, 10)],
)
def test_where_the_square_root_is_a_whole_number(size, compression, kept):
    assert kept_frequencies(size, compression) == kept


@given(st.integers(1, 3000), st.integers(1, 200))
def test_transform_sizes(padded, span):
    paper = transform_size(padded, span, fft_size="paper")
    needed = padded + max(padded - span + 1, span) - 1
    assert paper & (paper - 1) == 0
    assert paper >= needed
    assert paper == 1 or paper // 2 < needed
    assert transform_size(padded, span, fft_size="compact") == padded
    assert transform_size(padded, span, fft_size=padded) == padded
    assert transform_size(padded, span, fft_size=padded + 7) == padded + 7


def test_the_papers_transform_sizes():
    sizes = [transform_size(n + 2, 3, fft_size="paper") for n in (32, 16, 8, 4, 2)]
    assert sizes == [128, 64, 32, 16, 8]


def test_dilation_widens_the_filter():
    axis = AxisBand.of(20, 3, padding=(2, 2), dilation=9, compression=0.5, fft_size="paper")
    assert axis.padded == 24
    assert axis.size == 64  # 24 + max(24 - 19 + 1, 19) - 1 = 42


@pytest.mark.parametrize("compression", [-0.1, 1, 1.0, 2, float("nan"), float("inf"), -1e-9])
def test_illegal_compression(compression):
    with pytest.raises(ValueError, match=r"compression must be in \[0, 1\), got"):
        check_compression(compression)
    with pytest.raises(ValueError, match="compression"):
        kept_frequencies(16, compression)


@pytest.mark.parametrize("fft_size", ["", "Paper", "small", 0, -4, 33.0, None, True, (32, 32)])
def test_illegal_fft_size(fft_size):
    with pytest.raises(ValueError, match="fft_size must be 'paper', 'compact' or a positive int, got"):
        check_fft_size(fft_size)
    with pytest.raises(ValueError, match="fft_size"):
        transform_size(8, 3, fft_size=fft_size)


def test_a_transform_smaller_than_the_padded_input():
    with pytest.raises(ValueError, match="at least the padded input size 34, got 33"):
        square(32, 0.5, 33)
    assert square(32, 0.5, 34).axes[0].size == 34
