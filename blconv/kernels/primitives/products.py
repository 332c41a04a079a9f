"""Products of float32 numbers on tensor cores, which read ten bits of mantissa.

"tf32" rounds numbers to ten bits. "split" writes a number as the sum of two that are read exactly, which
takes three products instead of one and has float32's accuracy. Constant matrices are rounded or split in
advance (`fragments.round_table`); the low half of a split one lies `low` numbers after the high half.
"""

from collections.abc import Callable
from typing import Literal

from blconv.kernels.primitives.warp import device, mma, tf32

Precision = Literal["tf32", "split"]


@device
def _multiply(c, at, a0, a1, a2, a3, b0, b1):
    """c[at : at + 4] += A B."""
    c[at], c[at + 1], c[at + 2], c[at + 3] = mma(
        a0, a1, a2, a3, b0, b1, c[at], c[at + 1], c[at + 2], c[at + 3]
    )


def multiplier(split: bool) -> Callable[..., None]:
    """Return the procedure c[at : at + 4] += A B, with A at `a` of a constant table and B two numbers."""

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
    """Return the procedure c[at : at + 4] += A B, with A four numbers and B from a constant table.

    B is at `b` and at b + step of the table.
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
    """Return the function that rounds a number as tensor cores need it.

    16-bit numbers are read exactly, so for them it returns its argument.
    """

    def rounded(x):
        return tf32(x)

    def same(x):
        return x

    return device(rounded if rounds else same)
