"""Shapes and data types of the arrays in an `.npz` archive, read without unpacking the arrays."""

import math
import zipfile
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.lib import format as npy

SUFFIX = ".npy"
READERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


class Header(NamedTuple):
    """The shape and the data type of an array, as its file declares them."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def bytes(self) -> int:
        """The size of the unpacked array in bytes."""
        return math.prod(self.shape) * self.dtype.itemsize


def read_headers(archive: zipfile.ZipFile, names: Iterable[str]) -> dict[str, Header]:
    """Return the headers of those arrays in `names` that the archive has, by name.

    Raises `ValueError` for a file in the archive that is not an array, that holds Python objects, or whose
    size is not the declared one.
    """
    members = {info.filename.removesuffix(SUFFIX): info for info in archive.infolist()}
    headers = {}
    for name in names:
        if name not in members:
            continue
        info = members[name]
        with archive.open(info) as file:
            version = npy.read_magic(file)
            if version not in READERS:
                raise ValueError(f"{name} has version {version} of the array format; legal: 1.0 and 2.0")
            shape, _, dtype = READERS[version](file)
            header = Header(shape, dtype)
            if dtype.hasobject:
                raise ValueError(f"{name}: Object arrays cannot be loaded, as they would run code")
            if min(shape, default=0) < 0 or file.tell() + header.bytes != info.file_size:
                raise ValueError(
                    f"{name} declares {dtype} of shape {shape}, which does not fit {info.file_size:,} bytes"
                )
        headers[name] = header
    return headers
