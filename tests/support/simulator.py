"""Numba's CUDA simulator, in a process of its own: it must be chosen before Numba is imported.

That process imports torch and Numba once, and runs every check in a fork of itself.
"""

import importlib
import inspect
import json
import os
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest  # noqa: F401  not used here, but loaded before the forks, whose test modules use it
import torch

from blconv.kernels import layer_operator, operators
from blconv.kernels.limits import KERNEL_DTYPES, spectral_planes_fit
from blconv.methods import spectral
from support.processes import importing
from support.turns import take_turns

OPERATORS = ("analyse", "synthesise", "pack", "fold", "contract", "convolve", "convolve_backward")


class Simulator:
    """The process; the first check starts it."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def run(self, check: Callable[..., None], *arguments: str | int) -> None:
        """Run `check(*arguments)`, a function of a test module, where kernels take tensors of the CPU."""
        process = self._process = self._process or start()
        assert process.stdin
        assert process.stdout
        call = inspect.getfile(check), check.__name__, arguments
        try:
            print(json.dumps(call), file=process.stdin, flush=True)
            status, output = json.loads(process.stdout.readline())
        except BaseException:  # after a timeout the result of this check could arrive as that of the next
            self.stop()
            raise
        assert status == 0, output

    def stop(self) -> None:
        """End the process and the check that it runs."""
        if self._process:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.communicate()
            self._process = None


def start() -> subprocess.Popen[str]:
    """Start a process that reads calls and writes results, each a line of JSON."""
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", "from support.simulator import serve; serve()"],
        env=importing(__file__, NUMBA_ENABLE_CUDASIM="1"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def serve() -> None:
    """Run each call of the standard input in a fork, and write its status and its output."""
    take_turns()
    for line in sys.stdin:
        with tempfile.TemporaryFile("w+") as output:
            child = os.fork()
            if not child:
                file, name, arguments = json.loads(line)
                call(file, name, arguments, output=output.fileno())
            _, status = os.waitpid(child, 0)
            output.seek(0)
            print(json.dumps([status, output.read()]), flush=True)


def call(file: str, name: str, arguments: list[str | int], *, output: int) -> None:
    """Call a function of a test module and end this process, which is a fork."""
    for stream in (1, 2):
        os.dup2(output, stream)
    torch.manual_seed(0)
    torch.set_num_threads(1)  # makes torch's pool of threads here: a fork inherits no thread
    status = 1
    try:
        sys.path.insert(0, str(Path(file).parent))
        getattr(importlib.import_module(Path(file).stem), name)(*arguments)
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def kernels_on_cpu() -> torch.library.Library:
    """Let the operators and the spectral form use the kernels on CPU tensors; call it in the simulator.

    New memory is filled with NaN: an element that a kernel leaves out is seen. Returns what must be kept.
    """
    torch.use_deterministic_algorithms(True)
    library = torch.library.Library("blconv", "IMPL")
    for name in OPERATORS:
        library.impl(name, (operators.KERNELS | layer_operator.KERNELS)[name], "CPU")
    spectral.runs_spectral_kernels = (  # type: ignore[attr-defined]  # an import there
        lambda device, dtype, geometry: dtype in KERNEL_DTYPES and spectral_planes_fit(geometry)
    )
    return library
