"""The C library's allocator, which by default returns each freed block of some MB to the system."""

import ctypes
import os

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # names of parameters in malloc.h
_NEVER = 2**30  # bytes


def keep_freed_blocks() -> None:
    """Let the C library keep freed memory for the next allocation; this affects only Linux with glibc.

    On a CPU, the output of each layer is a block of some MB. If the C library returned each freed block to
    the system, every layer of every pass would cause page faults.
    """
    if os.name != "posix" or (set_parameter := getattr(ctypes.CDLL(None), "mallopt", None)) is None:
        return
    for parameter in (_TRIM_THRESHOLD, _MMAP_THRESHOLD):
        set_parameter(parameter, _NEVER)
