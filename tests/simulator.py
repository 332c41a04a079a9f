"""Numba's CUDA simulator, in a process of its own: it must be asked for before Numba is imported."""

import os
import subprocess
import sys
from pathlib import Path

import torch

OPERATORS = ("analyse", "synthesise", "pack", "fold", "contract")


def simulate(call, *, barriers=True):
    """Run `call`, an expression like "test_kernels.check()", where kernels take tensors of the CPU.

    `barriers` says that the threads of its kernels wait for each other. The main thread polls them,
    and at Python's 5 ms between threads all wait for it; those that never wait only lose time so.
    """
    interval = "sys.setswitchinterval(1e-4); " if barriers else ""
    script = f"import sys; {interval}import {call.partition('.')[0]}; {call}"
    environment = os.environ | {"NUMBA_ENABLE_CUDASIM": "1", "PYTHONPATH": str(Path(__file__).parent)}
    command = [sys.executable, "-W", "error", "-c", script]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=500)
    assert run.returncode == 0, run.stderr


def kernels_on_cpu():
    """Let the operators and the spectral form use the kernels on CPU tensors; call it in the simulator.

    New memory is filled with NaN: an element that a kernel leaves out is seen. Returns what must be kept.
    """
    from blconv.kernels import launches
    from blconv.kernels.limits import TYPES, fits
    from blconv.methods import spectral

    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    library = torch.library.Library("blconv", "IMPL")
    for name in OPERATORS:
        library.impl(name, getattr(launches, name), "CPU")
    spectral.runs_kernels = lambda _, dtype, geometry: dtype in TYPES and fits(geometry)
    return library
