"""Arrays as bytes for the database of a run."""

import zlib
from typing import Any

from numpy.typing import NDArray
from safetensors.numpy import load, save

Outcomes = dict[str, NDArray[Any]]

MOST_BYTES = 1024  # the most bytes of all arrays of a cell, per image; a dozen numbers take far fewer
MOST_HEADER = 2**16  # the most bytes of the names and types of these arrays


def pack(arrays: Outcomes) -> bytes:
    """Return arrays as zlib-compressed safetensors; unlike a pickle, they run no code when they are read."""
    return zlib.compress(save(arrays))


def unpack(blob: bytes, n: int) -> Outcomes:
    """Return the arrays over `n` images in bytes that `pack` returned.

    Raises `ValueError` if the bytes are cut, or if they unpack to more bytes than such arrays can have.
    Raises an error of zlib or safetensors for other bytes.
    """
    most = MOST_HEADER + n * MOST_BYTES
    stream = zlib.decompressobj()
    content = stream.decompress(blob, most)
    if not stream.eof:
        raise ValueError(f"got a blob that is cut or has more than {most:,} bytes")
    return load(content)
