"""Numba's CUDA simulator, in a process of its own: it must be asked for before Numba is imported."""

import inspect
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import torch

from support.processes import importing

OPERATORS = ("analyse", "synthesise", "pack", "fold", "contract")


def simulate(check: Callable[..., None], *arguments: object, barriers: bool = True) -> None:
    """Run `check(*arguments)`, a function of a test module, where kernels take tensors of the CPU.

    `barriers` says that the threads of its kernels wait for each other. The main thread polls them,
    and at Python's 5 ms between threads all wait for it; those that never wait only lose time so.
    """
    interval = "sys.setswitchinterval(1e-4); " if barriers else ""
    file = Path(inspect.getfile(check))
    call = f"{check.__name__}({', '.join(map(repr, arguments))})"
    script = f"import sys; {interval}import {file.stem}; {file.stem}.{call}"
    environment = importing(str(file), NUMBA_ENABLE_CUDASIM="1")
    command = [sys.executable, "-W", "error", "-c", script]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=500)
    assert run.returncode == 0, run.stderr


def kernels_on_cpu() -> torch.library.Library:
    """Let the operators and the spectral form use the kernels on CPU tensors; call it in the simulator.

    New memory is filled with NaN: an element that a kernel leaves out is seen. Returns what must be kept.
    """
    from blconv.kernels import operators
    from blconv.kernels.limits import KERNEL_DTYPES, spectral_planes_fit
    from blconv.methods import spectral

    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    library = torch.library.Library("blconv", "IMPL")
    for name in OPERATORS:
        library.impl(name, operators.KERNELS[name], "CPU")
    spectral.runs_spectral_kernels = lambda _, dtype, geometry: (
        dtype in KERNEL_DTYPES and spectral_planes_fit(geometry)
    )
    return library
