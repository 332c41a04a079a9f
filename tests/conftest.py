"""What holds for all tests."""

import os
import signal

import pytest
import torch

from blrobust.device import full_precision

# The tests' products are tiny: a second thread makes them slower, and several times slower where the
# cores are shared. Processes that tests start must do likewise: sums depend on the number of threads.
os.environ["OMP_NUM_THREADS"] = "1"
torch.set_num_threads(1)

# A shell lets what it starts in the background ignore Ctrl-C, and processes inherit that; some tests send it.
signal.signal(signal.SIGINT, signal.default_int_handler)

GPU = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]


@pytest.fixture(autouse=True)
def seed() -> None:
    """Draw the same random numbers every time."""
    torch.manual_seed(0)


@pytest.fixture(scope="module", params=["cpu", pytest.param("cuda", marks=GPU)])
def device(request):
    """Every kind of device in turn, computing float32 in float32."""
    with full_precision():
        yield request.param
