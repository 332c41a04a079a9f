"""Checks that a level of an attack is legal for images of a given size."""

import math

from blrobust.errors import UserError


def check_pixel_count(level: float, shape: tuple[int, ...]) -> int:
    """Return `level` as an integer number of pixels, for images of `shape` (C, H, W).

    Raises `UserError` unless `level` is a whole number from 0 to H * W.
    """
    height, width = shape[-2:]
    if not (level % 1 == 0 and 0 <= level <= height * width):
        raise UserError(
            f"got strength {level:g}; legal: whole numbers of pixels from 0 to {height * width}, "
            f"all that an image of {height} x {width} has"
        )
    return int(level)


def check_not_negative(level: float, shape: tuple[int, ...]) -> None:
    """Raise `UserError` unless `level` is finite and at least 0; `shape` has no effect."""
    if not 0 <= level < math.inf:
        raise UserError(f"got strength {level:g}; legal: finite numbers from 0")
