"""Matrix products of float32 numbers on tensor cores, which read only ten bits of mantissa (TF32).

The precision "tf32" rounds numbers to ten bits. The precision "split" writes a number as the sum of two TF32
numbers, the high half and the low half; it takes three products instead of one and has about the accuracy of
float32. Constant matrices are rounded or split in advance (`fragments.round_table`). In a split matrix, the
low half of a number is stored `low` numbers after its high half.

A warp multiplies A by B with `mma` (`blconv.kernels.primitives.warp`). Each lane supplies four numbers of A
and two of B, and has four numbers of the result in a local array c.
"""

from collections.abc import Callable
from typing import Literal

from blconv.kernels.primitives.warp import device, mma, tf32

Precision = Literal["tf32", "split"]


@device
def _multiply(c, at, a0, a1, a2, a3, b0, b1):
    """Add the warp's matrix product A B to c[at : at + 4], given the lane's numbers of A and B."""
    c[at], c[at + 1], c[at + 2], c[at + 3] = mma(
        a0, a1, a2, a3, b0, b1, c[at], c[at + 1], c[at + 2], c[at + 3]
    )


def multiplier(split: bool) -> Callable[..., None]:
    """Return the device function (c, at, table, a, low, b0, b1) that adds the product A B to c[at : at + 4].

    A and B are matrices of the warp; each lane has some of their numbers. A is constant, and table[a : a + 4]
    are the lane's numbers of A; b0 and b1 are those of B. With `split`, the function splits b0 and b1, and
    the low halves of the numbers of A begin at table[low + a].
    """

    def once(c, at, table, a, low, b0, b1):
        _multiply(c, at, table[a], table[a + 1], table[a + 2], table[a + 3], b0, b1)

    def thrice(c, at, table, a, low, b0, b1):
        h0, h1 = tf32(b0), tf32(b1)
        once(c, at, table, a, low, tf32(b0 - h0), tf32(b1 - h1))
        once(c, at, table, low + a, low, h0, h1)
        once(c, at, table, a, low, h0, h1)

    once = device(once)
    return device(thrice) if split else once


def right_multiplier(split: bool, low: int, step: int) -> Callable[..., None]:
    """Return the device function (c, at, a0, a1, a2, a3, table, b) that adds A B to c[at : at + 4].

    A and B are matrices of the warp. B is constant, and table[b] and table[b + step] are the lane's numbers
    of B; a0 .. a3 are those of A. With `split`, the function splits a0 .. a3, and the low halves of the
    numbers of B are stored `low` numbers after the high halves.
    """

    def once(c, at, a0, a1, a2, a3, table, b):
        _multiply(c, at, a0, a1, a2, a3, table[b], table[b + step])

    def thrice(c, at, a0, a1, a2, a3, table, b):
        h0, h1, h2, h3 = tf32(a0), tf32(a1), tf32(a2), tf32(a3)
        b0, b1 = table[b], table[b + step]
        _multiply(c, at, tf32(a0 - h0), tf32(a1 - h1), tf32(a2 - h2), tf32(a3 - h3), b0, b1)
        _multiply(c, at, h0, h1, h2, h3, table[low + b], table[low + b + step])
        _multiply(c, at, h0, h1, h2, h3, b0, b1)

    return device(thrice if split else once)


def rounder(rounds: bool) -> Callable[..., float]:
    """Return the device function that rounds a number to TF32, or, if not `rounds`, returns it unchanged.

    16-bit numbers need no rounding, because tensor cores read them exactly.
    """

    def rounded(x):
        return tf32(x)

    def same(x):
        return x

    return device(rounded if rounds else same)
