"""Global settings of torch, Python and the process that a user's code may change for all other code."""

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import torch

DEVICES = ("cpu", "cuda")


def _set_default_device(device: torch.device) -> None:
    """Set torch's default device; for the CPU, remove the setting, because torch then uses the CPU."""
    torch.set_default_device(None if device.type == "cpu" else device)


def _autocast() -> list[tuple[bool, torch.dtype]]:
    return [(torch.is_autocast_enabled(name), torch.get_autocast_dtype(name)) for name in DEVICES]


def _set_autocast(states: list[tuple[bool, torch.dtype]]) -> None:
    for name, (enabled, dtype) in zip(DEVICES, states, strict=True):
        torch.set_autocast_enabled(name, enabled)
        torch.set_autocast_dtype(name, dtype)
    torch.clear_autocast_cache()


def _cudnn() -> tuple[bool, bool, bool, bool]:
    flags = torch.backends.cudnn
    return flags.enabled, flags.benchmark, flags.deterministic, flags.allow_tf32


def _set_cudnn(state: tuple[bool, bool, bool, bool]) -> None:
    flags = torch.backends.cudnn
    flags.enabled, flags.benchmark, flags.deterministic, flags.allow_tf32 = state


def _deterministic() -> tuple[bool, bool]:
    return torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()


def _set_deterministic(state: tuple[bool, bool]) -> None:
    torch.use_deterministic_algorithms(state[0], warn_only=state[1])


def _folder() -> str | None:
    with suppress(FileNotFoundError):
        return os.getcwd()
    return None  # it was removed


def _change_folder(folder: str | None) -> None:
    if folder is not None:
        os.chdir(folder)


SETTINGS: tuple[tuple[Callable[[], Any], Callable[[Any], Any]], ...] = (
    (torch.get_default_dtype, torch.set_default_dtype),
    (torch.get_default_device, _set_default_device),
    (torch.is_grad_enabled, torch.set_grad_enabled),
    (_autocast, _set_autocast),
    (_deterministic, _set_deterministic),
    (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
    (_cudnn, _set_cudnn),
    (torch.get_num_threads, torch.set_num_threads),
    (_folder, _change_folder),
    (lambda: logging.root.level, logging.root.setLevel),
)


@contextmanager
def unchanged_settings() -> Iterator[None]:
    """Restore, at the end of the context, the global settings that user code in it has changed.

    They are torch's default dtype and device, gradient mode, autocast, deterministic algorithms, precision
    of matrix products, flags of cuDNN and number of threads, the current folder, and the level of Python's
    root logger.
    """
    before = [get() for get, _ in SETTINGS]
    try:
        yield
    finally:
        for (get, restore), value in zip(SETTINGS, before, strict=True):
            if get() != value:
                restore(value)
