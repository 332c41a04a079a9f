"""Members of an `.npz` archive: their headers are checked before anything is unpacked."""

import math
import zipfile
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

SUFFIX = ".npy"
READERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


class Header(NamedTuple):
    """The shape and the data type that an array declares, and the member of the archive with the array."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    member: zipfile.ZipInfo

    @property
    def bytes(self) -> int:
        """The size of the unpacked array in bytes."""
        return math.prod(self.shape) * self.dtype.itemsize


def names(archive: zipfile.ZipFile) -> list[str]:
    """Return the names of the arrays in the archive."""
    return [info.filename.removesuffix(SUFFIX) for info in archive.infolist()]


def read_headers(archive: zipfile.ZipFile, wanted: Iterable[str]) -> dict[str, Header]:
    """Return the headers of the `wanted` arrays, by name; arrays that the archive lacks are left out.

    Raises `ValueError` for a member that is not an array, occurs twice, or has another size than its header
    states.
    """
    members = dict(zip(names(archive), archive.infolist(), strict=True))
    headers = {}
    for name in wanted:
        if name not in members:
            continue
        if names(archive).count(name) > 1:
            raise ValueError(f"{name} is there more than once")
        info = members[name]
        with archive.open(info) as file:
            version = npy.read_magic(file)
            if version not in READERS:
                raise ValueError(f"{name} has version {version} of the array format; legal: 1.0 and 2.0")
            shape, _, dtype = READERS[version](file)
            header = Header(shape, dtype, info)
            if dtype.hasobject:
                raise ValueError(f"{name}: Object arrays cannot be loaded, as they would run code")
            if min(shape, default=0) < 0 or file.tell() + header.bytes != info.file_size:
                raise ValueError(
                    f"{name} declares {dtype} of shape {shape}, which does not fit {info.file_size:,} bytes"
                )
        headers[name] = header
    return headers


def read_array(archive: zipfile.ZipFile, header: Header) -> NDArray[Any]:
    """Return the array of a checked header; raise `ValueError` or `BadZipFile` for damaged contents.

    No more bytes are unpacked than the header declares; nothing is unpickled.
    """
    with archive.open(header.member) as file:
        array: NDArray[Any] = npy.read_array(file, allow_pickle=False)
        if file.read(1):  # also verifies the checksum of the member, which is checked at its end
            raise ValueError(f"{header.member.filename} has more bytes than it declares")
    return array
