"""Training in two processes, on the CPU and on two GPUs, beside training in one."""

import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from support import data_parallel
from support.data_parallel import python_path, start
from support.invented_training import same

from blrobust.errors import UserError
from blrobust.training.processes import ALONE, Processes, _own_device

TWO_GPUS = [
    pytest.mark.gpu,
    pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices"),
]
TINY = ["support.tiny_command", "train", "fp32", "--arch", "tiny", "--batch-size", "16", "--device", "cpu"]


def finish(processes):
    """Return the exit codes, and what the processes wrote to stdout and stderr."""
    texts = [process.communicate(timeout=300) for process in processes]
    return [process.returncode for process in processes], *zip(*texts, strict=True)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=TWO_GPUS)])
def test_two_processes_train_as_one_does(tmp_path, device):
    for count in ("1", "2"):
        (tmp_path / count).mkdir()
    data_parallel.main(tmp_path / "1", device)
    codes, _, errors = finish(start(2, "support.data_parallel", str(tmp_path / "2"), device))
    assert codes == [0, 0], errors
    alone, first, second = (
        torch.load(tmp_path / name, map_location="cpu") for name in ("1/0.pt", "2/0.pt", "2/1.pt")
    )
    for name in ("plain", "norm", "resumed"):
        assert all(map(same, first[name], second[name]))
    for ours, theirs in zip(first["plain"], alone["plain"], strict=True):
        for name, tensor in theirs.items():
            torch.testing.assert_close(ours[name], tensor, rtol=1e-4, atol=1e-5)
    assert all(map(same, first["resumed"], first["norm"][:2]))
    assert first["norm history"] == second["norm history"]
    for ours, theirs in zip(first["plain history"], alone["plain history"], strict=True):
        assert [row["lr"] for row in ours] == [row["lr"] for row in theirs]
        for column in ("loss", "train_accuracy", "holdout_accuracy"):
            numbers = [[float(row[column]) for row in rows] for rows in (ours, theirs)]
            assert numbers[0] == pytest.approx(numbers[1], abs=0.03)
    assert first["error"] == "the disk is full"
    assert second["error"] == "the first process of this training has ended; its message says why"
    assert (tmp_path / "2/0").exists()
    assert not (tmp_path / "2/1").exists()  # the second process has written nothing but its results


def test_torchrun(tmp_path):
    """One process prints and writes."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["--module", *TINY, "--epochs", "2", "--out", str(tmp_path), "--json"]
    environment = os.environ | {"PYTHONPATH": python_path()}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("cifar10-tiny-fp32.safetensors") == 1
    assert done.stderr.count("100 %") == 1
    assert (tmp_path / "cifar10-tiny-fp32.safetensors").exists()


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_a_process_that_ends_ends_the_others(tmp_path):
    """The second process stops, so that the first waits for it in a collective; then the first is ended."""
    first, second = start(2, *TINY, "--epochs", "100000", "--out", str(tmp_path))
    try:
        limit = time.monotonic() + 120
        while not (tmp_path / "cifar10-tiny-fp32.training.safetensors").exists():
            assert time.monotonic() < limit
            time.sleep(0.2)
        second.send_signal(signal.SIGSTOP)
        time.sleep(0.5)
        first.send_signal(signal.SIGTERM)  # as torchrun does if a process has died
        _, told = first.communicate(timeout=60)
        assert first.returncode == 143
        assert told.splitlines()[-1].startswith("Interrupted")
        second.send_signal(signal.SIGCONT)
        _, told = second.communicate(timeout=60)
        assert second.returncode == 2
        (line,) = told.splitlines()
        assert line.startswith("Error: another process of this training has ended or cannot be reached (")
        assert line.endswith("; the same command with --resume continues after the last complete epoch")
        assert len(line) < 300
    finally:
        first.kill()
        second.kill()


def test_parts_of_a_batch():
    assert [Processes(rank, 3).part(12) for rank in range(3)] == [slice(0, 4), slice(4, 8), slice(8, 12)]
    assert ALONE.part(5) == slice(0, 5)
    with pytest.raises(UserError, match="batch_size: got 10 for 3 processes; legal: a multiple of 3"):
        Processes(0, 3).part(10)


@pytest.mark.parametrize("device", ["cuda:1", "mps", "tpu"])
def test_one_device_for_all_processes_is_refused(device):
    with pytest.raises(
        UserError, match=f"device: got {device} for several processes; legal: auto, cuda or cpu"
    ):
        _own_device(device, 0)


def test_alone_nothing_is_exchanged():
    tensor = torch.ones(2)
    ALONE.average([tensor])
    ALONE.copy_from_first([tensor])
    assert torch.equal(tensor, torch.ones(2))
    assert ALONE.from_first(lambda: 3) == 3
