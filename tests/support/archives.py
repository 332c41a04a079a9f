"""Archives that are small on disk and huge in memory."""

import io
import zipfile
from pathlib import Path

import numpy as np


def huge_npz(path: Path, shape: tuple[int, ...], *, y: int, packed: bool = True) -> None:
    """Write an archive of zeros of that shape, a few megabytes, and `y` labels."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": shape})
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("x.npy", "w", force_zip64=True) as member:
            member.write(header.getvalue())
            for _ in range(int(np.prod(shape)) // 2**20 if packed else 1):
                member.write(bytes(2**20))
        labels = io.BytesIO()
        np.save(labels, np.zeros(y, dtype=np.int64))
        archive.writestr("y.npy", labels.getvalue())
