"""Reads and writes of vectors: from numbers of any type in global memory to local arrays of float32 and back.

A vector is `width` neighbouring numbers, read or written at once; vector n begins at number n * width.
"""

from typing import Any

from blconv.kernels.primitives.warp import device, loader, storer


def pointer(memory: str) -> str:
    """Return the type of a pointer to numbers of the type `memory`, for the signature of a `Kernel`.

    16-bit numbers are passed as integers with the same bits.
    """
    return "float32*" if memory == "float32" else "uint16*"


def vector_reader(memory: str, width: int, *, written: bool = False) -> Any:
    """Return the device function (values, source, n, start=0) that reads vector n of the array source.

    The vector is stored in values[start : start + width]. `written` states whether the kernel also writes to
    the memory that it reads.
    """
    load = loader(memory, width, written=written)

    def one(values, source, at, start=0):
        values[start] = load(source, at)

    def four(values, source, at, start=0):
        values[start], values[start + 1], values[start + 2], values[start + 3] = load(source, 4 * at)

    def eight(values, source, at, start=0):
        (
            values[start], values[start + 1], values[start + 2], values[start + 3],
            values[start + 4], values[start + 5], values[start + 6], values[start + 7],
        ) = load(source, 8 * at)  # fmt: skip

    return device({1: one, 4: four, 8: eight}[width])


def vector_writer(memory: str, width: int) -> Any:
    """Return the device function (out, n, values, start=0) that writes vector n of the array out.

    The numbers are values[start : start + width].
    """
    store = storer(memory, width)

    def one(out, at, v, start=0):
        store(out, at, v[start])

    def four(out, at, v, start=0):
        store(out, 4 * at, (v[start], v[start + 1], v[start + 2], v[start + 3]))

    def eight(out, at, v, start=0):
        store(
            out, 8 * at,
            (
                v[start], v[start + 1], v[start + 2], v[start + 3],
                v[start + 4], v[start + 5], v[start + 6], v[start + 7],
            ),
        )  # fmt: skip

    return device({1: one, 4: four, 8: eight}[width])


def float32_reader(count: int) -> Any:
    """Return the device function (values, source, offset) that reads `count` float32 into the array values.

    `count` is 1, 4 or 8, and the offset must be a multiple of min(count, 4).
    """
    load = loader("float32", min(count, 4))

    def one(values, source, at):
        values[0] = load(source, at)

    def four(values, source, at):
        values[0], values[1], values[2], values[3] = load(source, at)

    def eight(values, source, at):
        values[0], values[1], values[2], values[3] = load(source, at)
        values[4], values[5], values[6], values[7] = load(source, at + 4)

    return device({1: one, 4: four, 8: eight}[count])
