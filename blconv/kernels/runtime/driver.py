"""The CUDA driver's bindings, and the context of a thread."""

from functools import lru_cache
from threading import local
from typing import Any

_thread = local()


@lru_cache(maxsize=1)
def driver() -> Any:
    """Return the module with the Python bindings of the CUDA driver."""
    from cuda.bindings import driver

    return driver


def set_context(index: int) -> None:
    """Make the context of torch's current device, number `index`, the driver's context in this thread.

    Torch sets the context at its first call of the driver in a thread. An autograd thread may not have made
    such a call yet, if all its memory comes from torch's cache.
    """
    if getattr(_thread, "index", None) != index:
        check(*driver().cuCtxSetCurrent(_context(index)))
        _thread.index = index


@lru_cache(maxsize=64)
def _context(index: int) -> Any:
    status, context = driver().cuDevicePrimaryCtxRetain(index)
    check(status)
    return context


def check(status: Any) -> None:
    """Raise `RuntimeError` unless `status`, which the driver has returned, means success."""
    if int(status) != 0:
        raise RuntimeError(f"the CUDA driver returned {status.name}")
