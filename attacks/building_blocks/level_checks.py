"""Checks of a level against the size of the images and the meaning of the level for an attack."""

import math

from blrobust.errors import UserError


def check_pixel_count(level: float, shape: tuple[int, ...]) -> int:
    """Return `level` as a number of pixels of an image of `shape` (C, H, W).

    Raises `UserError` unless it is a whole number from 0 to H * W.
    """
    height, width = shape[-2:]
    if not (level % 1 == 0 and 0 <= level <= height * width):
        raise UserError(
            f"got strength {level:g}; legal: whole numbers of pixels from 0 to {height * width}, "
            f"all that an image of {height} x {width} has"
        )
    return int(level)


def check_not_negative(level: float, shape: tuple[int, ...]) -> None:
    """Raise `UserError` unless `level` is a finite number from 0 on, for images of any `shape`."""
    if not 0 <= level < math.inf:
        raise UserError(f"got strength {level:g}; legal: finite numbers from 0")
