"""The frequencies of a Fourier heat map, which name its cells."""

Frequency = tuple[int, int]

CLEAN = "clean"  # the kind of a heat map's cell without a wave


def axis_frequencies(size: int) -> range:
    """Return the signed frequencies of a centred map of `size`: -15..15 for 31, -16..15 for 32."""
    return range(-(size // 2), size - size // 2)


def canonical(row: int, column: int, *, height: int, width: int) -> Frequency:
    """Return the frequency that stands for both (row, column) and (-row, -column), modulo the image size."""
    return min((row % height, column % width), (-row % height, -column % width))


def distinct(size: int, *, height: int, width: int) -> list[Frequency]:
    """Return the different waves of a map: for images of 32 x 32, 481 for size 31 and 514 for size 32."""
    axis = axis_frequencies(size)
    return sorted({canonical(k, l_, height=height, width=width) for k in axis for l_ in axis})


def wave_kind(frequency: Frequency) -> str:
    """Return the kind of a heat map's cell: the wave of a frequency from `distinct`."""
    row, column = frequency
    return f"wave {row},{column}"
