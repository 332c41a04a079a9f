"""The frequencies of a Fourier heat map, and the names of its kinds of perturbation."""

Frequency = tuple[int, int]  # row and column of the 2D Fourier spectrum

CLEAN = "clean"  # the kind for images without a wave


def axis_frequencies(size: int) -> range:
    """Return the signed frequencies along one axis of a heat map: -15 to 15 for size 31, -16 to 15 for 32."""
    return range(-(size // 2), size - size // 2)


def canonical(row: int, column: int, *, height: int, width: int) -> Frequency:
    """Return one frequency for both (row, column) and (-row, -column), whose cosine waves are equal.

    Rows are taken modulo the `height` of the images and columns modulo their `width`. The result is the
    smaller of the two pairs.
    """
    return min((row % height, column % width), (-row % height, -column % width))


def distinct(size: int, *, height: int, width: int) -> list[Frequency]:
    """Return the frequencies of the different waves in a heat map of `size` x `size` frequencies, ascending.

    `height` and `width` are those of the images. Two frequencies with the same wave are listed once
    (`canonical`). For images of 32 x 32, there are 481 waves for size 31, and 514 for size 32.
    """
    axis = axis_frequencies(size)
    return sorted({canonical(k, l_, height=height, width=width) for k in axis for l_ in axis})


def wave_kind(frequency: Frequency) -> str:
    """Return the name "wave ROW,COLUMN" of the kind of perturbation with one frequency from `distinct`."""
    row, column = frequency
    return f"wave {row},{column}"
