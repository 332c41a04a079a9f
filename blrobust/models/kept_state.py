"""The state that a module changes in its own passes: statistics, counters, caches and random generators."""

from collections.abc import Iterable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager, suppress
from multiprocessing.process import BaseProcess
from subprocess import Popen
from threading import Thread
from typing import Any
from weakref import ref

import torch
from torch import nn

from blrobust.models.belongings import belongings
from blrobust.models.restorers import Restorer, restorers

WORKERS = (Thread, Executor, BaseProcess, Popen)
_NOT_RESTORED: list[ref[nn.Module]] = []


@contextmanager
def kept_state(module: nn.Module) -> Iterator[None]:
    """Restore, at the end of the context, everything that `module` can change in a pass (`Snapshot`)."""
    snapshot = Snapshot(module)
    try:
        yield
    finally:
        snapshot.restore()


class Snapshot:
    """Copies of the state of a module, and functions that write them back into the same objects.

    The state is that of the parameters, buffers and attributes of the module and of its parts, and of the
    objects that belong to them: objects of the user's classes, containers, arrays and random generators. It
    is also that of the user's own code: closures, global variables, and attributes of classes and functions.

    An object whose state cannot be read is not restored: it keeps the changes of the passes. If the memory is
    too small for the copies, no object is restored.
    """

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self._restorers: list[Restorer] = []
        self._built: Any = None
        self._workers: set[int] = set()
        with suppress(Exception):  # whatever the user's class raises
            self._built = _structure(module)
            values = list(belongings(module))
            self._workers = {id(value) for value in values if isinstance(value, WORKERS)}
            self._restorers = list(_all_restorers(values))

    def restore(self) -> None:
        """Write all copies back; objects that cannot be written keep their present state.

        A module that has built parameters or parts keeps all of its state, because the new parts belong to
        it, and so does a module that `stop_restoring` has received.
        """
        with suppress(Exception):
            if is_restored(self._module) and self._built == _structure(self._module):
                self.write_back()

    def write_back(self) -> None:
        """Write all copies back, also to a module that has built parts, which it then no longer has."""
        for restorer in self._restorers:
            with suppress(Exception):  # whatever the user's class raises
                restorer()

    def has_started_workers(self, before: "Snapshot") -> bool:
        """Return whether the module has threads or processes that it did not have `before`.

        They go on with their own state, and the module would start others if it lost them.
        """
        return bool(self._workers - before._workers)

    def can_build_again(self) -> bool:
        """Return whether the module has built parts that it builds again after `write_back`.

        A lazy module of torch does not: it changes its class when its first pass gives it parameters.
        """
        with suppress(Exception):
            is_lazy = any(lazy for *_, parameters in self._built for _, lazy in parameters)
            return bool(self._restorers) and not is_lazy and self._built != _structure(self._module)
        return False


def stop_restoring(module: nn.Module) -> None:
    """Leave the state of a module as it is from now on, because it fails with the state of a snapshot."""
    _NOT_RESTORED.append(ref(module))


def is_restored(module: nn.Module) -> bool:
    """Return whether the state of a module is restored after passes (`stop_restoring`)."""
    return all(other() is not module for other in _NOT_RESTORED)


def _all_restorers(values: Iterable[Any]) -> Iterator[Restorer]:
    for value in values:
        try:
            yield from restorers(value)
        except (MemoryError, torch.OutOfMemoryError):
            raise
        except Exception:  # whatever the user's class raises
            continue


def _structure(module: nn.Module) -> list[Any]:
    """Return the parts of a module and the names of their parameters, those without data marked."""
    return [
        (id(part), type(part), [(name, nn.parameter.is_lazy(p)) for name, p in part.named_parameters()])
        for part in module.modules()
    ]
