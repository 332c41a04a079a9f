"""What holds for all tests."""

import os
import signal
from collections.abc import Callable, Iterator

import pytest
import torch
from support.machine_code import MachineCode, machine_code
from support.simulator import Simulator

from blconv.kernels.runtime.kernel import Kernel
from blrobust.device import full_precision

# The tests' products are tiny: a second thread makes them slower, and several times slower where the
# cores are shared. Processes that tests start must do likewise: sums depend on the number of threads.
os.environ["OMP_NUM_THREADS"] = "1"
torch.set_num_threads(1)

# A shell lets what it starts in the background ignore Ctrl-C, and processes inherit that; some tests send it.
signal.signal(signal.SIGINT, signal.default_int_handler)

SLOW = {"simulate": "simulator", "compile_kernel": "ptx"}  # the fixtures of slow tests, and their markers


@pytest.hookimpl(tryfirst=True)  # before -m selects by markers
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that run the simulator or compile kernels; skip those on a GPU where there is none."""
    no_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(no_gpu)
        for fixture in SLOW.keys() & set(getattr(item, "fixturenames", ())):
            item.add_marker(SLOW[fixture])


@pytest.fixture(autouse=True)
def seed() -> None:
    """Draw the same random numbers every time."""
    torch.manual_seed(0)


@pytest.fixture(scope="module", params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> Iterator[str]:
    """Every kind of device in turn, computing float32 in float32."""
    with full_precision():
        yield request.param


@pytest.fixture(scope="session")
def simulate() -> Iterator[Callable[..., None]]:
    """Run a function of a test module, with arguments, in a process with Numba's CUDA simulator."""
    simulator = Simulator()
    yield simulator.run
    simulator.stop()


@pytest.fixture(scope="session")
def compile_kernel() -> Callable[[Kernel, tuple[int, int]], MachineCode]:
    """Compile a kernel for a compute capability and check what holds for all; see `machine_code`."""
    return machine_code
