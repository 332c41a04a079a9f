"""The simulator's threads: what a missing barrier, an error and a deadlock do."""

import pytest
import torch
from numba import cuda, float32

from blconv.kernels.primitives.warp import mma
from blconv.kernels.runtime import program
from blconv.kernels.runtime.kernel import Kernel

THREADS = 64


def launch(function):
    result = torch.full((2 * THREADS,), torch.nan)
    program.launch(Kernel(function, ("float32*",), THREADS, shared_bytes=4 * THREADS), 2, result)
    return result.view(2, THREADS)


def reverse(result):
    shared = cuda.shared.array(0, float32)
    n = cuda.threadIdx.x
    shared[n] = n
    cuda.syncthreads()
    result[cuda.blockIdx.x * 64 + n] = shared[63 - n]


def reverse_without_barrier(result):
    shared = cuda.shared.array(0, float32)
    n = cuda.threadIdx.x
    shared[n] = n
    result[cuda.blockIdx.x * 64 + n] = shared[63 - n]


def overwrite_too_early(result):
    shared = cuda.shared.array(0, float32)
    n = cuda.threadIdx.x
    shared[n] = n
    cuda.syncthreads()
    result[cuda.blockIdx.x * 64 + n] = shared[63 - n]
    shared[n] = -1


def leave_early(result):
    n = cuda.threadIdx.x
    if n < 32:
        return
    cuda.syncthreads()
    result[cuda.blockIdx.x * 64 + n] = n


def multiply_in_half_a_warp(result):
    if cuda.threadIdx.x % 32 < 16:
        result[0] = mma(1, 1, 1, 1, 1, 1, 0, 0, 0, 0)[0]


def fail(result):
    result[cuda.threadIdx.x] = 1 // (cuda.threadIdx.x - 40)


def check_barriers():
    wanted = torch.arange(THREADS).flip(0).expand(2, -1)
    torch.testing.assert_close(launch(reverse), wanted.float())
    for function in (reverse_without_barrier, overwrite_too_early):
        assert not torch.equal(launch(function), wanted), function
    found = launch(leave_early)
    assert found[:, :32].isnan().all()
    torch.testing.assert_close(found[:, 32:], torch.arange(32.0, THREADS).expand(2, -1))


def check_errors():
    with pytest.raises(ZeroDivisionError):
        launch(fail)
    with pytest.raises(AssertionError, match="32 of 64 threads wait at a barrier"):
        launch(multiply_in_half_a_warp)
    check_barriers()  # the next launch is not affected


@pytest.mark.parametrize("check", [check_barriers, check_errors])
def test_threads_run_one_at_a_time(check, simulate):
    simulate(check)
