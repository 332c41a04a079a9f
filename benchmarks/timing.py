"""Measurement of time, memory and bandwidth.

GPU time is that of CUDA-graph replays between two events. A replay before the first event keeps the device
busy while the next ones are queued. CPU time is wall time. Steps that are compared take turns, so that a
drift of the clock cancels in their ratio.
"""

import gc
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch
from filelock import FileLock
from torch import Tensor

Step = Callable[[], object]
PRECISIONS = {
    "strict": torch.float32,
    "tf32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}
WINDOW = {"cuda": 0.002, "cpu": 0.02}  # seconds; shorter steps are repeated to fill it
COPY_BYTES = {"cuda": 2**30, "cpu": 2**27}
LAUNCHES = 50


def set_precision(name: str) -> None:
    """Switch TF32 off for "strict" and on for other precisions, in matrix products and convolutions.

    Also lets cuDNN search for its fastest algorithm.
    """
    mode = "ieee" if name == "strict" else "tf32"
    # Both of torch's interfaces, so that either can be read.
    torch.set_float32_matmul_precision("highest" if mode == "ieee" else "high")
    torch.backends.cudnn.allow_tf32 = mode == "tf32"
    torch.backends.cudnn.conv.fp32_precision = torch.backends.cudnn.rnn.fp32_precision = mode
    torch.backends.cudnn.benchmark = True


def exclusive(device: torch.device) -> AbstractContextManager[object]:
    """Return a context that holds the GPU's lock among the benchmark's processes; on a CPU, one without lock.

    The lock is released if its process dies.
    """
    if device.type == "cpu":
        return nullcontext()
    return FileLock(Path(tempfile.gettempdir()) / "blconv-benchmark.lock")


def repeatable(step: Step, device: torch.device, stream: torch.cuda.Stream | None = None) -> Step:
    """Warm up `step` and return it; on a GPU, return the replay of its CUDA graph, captured on `stream`."""
    if device.type == "cpu":
        step()
        return step
    stream = stream or torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            step()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        step()

    def replay(kept: Step = step) -> None:  # the graph reads the memory that `step` keeps alive
        graph.replay()

    return replay


def milliseconds(steps: list[Step], device: torch.device, rounds: int) -> list[list[float]]:
    """Return the times of each of the `steps` in milliseconds, one per round; the steps take turns.

    The steps are results of `repeatable`.
    """
    window = 1000 * WINDOW[device.type]
    counts = [max(1, round(window / max(_run(step, 1, device), 1e-3))) for step in steps]
    times: list[list[float]] = [[] for _ in steps]
    for _ in range(rounds):
        for found, step, count in zip(times, steps, counts, strict=True):
            found.append(_run(step, count, device))
    return times


def _run(step: Step, count: int, device: torch.device) -> float:
    """Return the milliseconds of a step, as a mean over `count` steps in a row."""
    if device.type == "cpu":
        began = time.perf_counter()
        for _ in range(count):
            step()
        return 1000 * (time.perf_counter() - began) / count
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    step()
    start.record()
    for _ in range(count):
        step()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / count


def ratio(times: list[float], base: list[float]) -> float:
    """Return the median over the rounds of time / base time, for two steps that took turns."""
    return statistics.median(t / b for t, b in zip(times, base, strict=True))


def peak_bytes(step: Step, device: torch.device) -> int | None:
    """Return the peak bytes of a step beyond the memory in use before it; None on a CPU."""
    if device.type == "cpu":
        return None
    release()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    step()
    return torch.cuda.max_memory_allocated() - before


def saved_bytes(function: Callable[[Tensor], Tensor], x: Tensor) -> int:
    """Return the bytes that one call keeps for the backward pass, without tensors that all calls share.

    Shared tensors, such as weights and constant tables, are those that two calls have in common.
    """
    kept: list[dict[int, int]] = []
    alive = []
    for _ in range(2):
        storages: dict[int, int] = {}

        def pack(tensor: Tensor, found: dict[int, int] = storages) -> Tensor:
            found[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            # Not the tensor itself: a saved output holds its graph, which holds what is returned here.
            return tensor.detach()

        own = x.detach().clone().requires_grad_()
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            alive.append((own, function(own)))
        kept.append(storages)
    return sum(size for place, size in kept[1].items() if place not in kept[0])


def copy_bandwidth(device: torch.device) -> float:
    """Return the bytes per second, read and written, of a large copy on the device.

    A kernel makes the copy. In a captured graph, torch's copy would use the copy engine, which is slower
    than the memory.
    """
    source = torch.randn(COPY_BYTES[device.type] // 4, device=device)
    target = torch.empty_like(source)
    step = repeatable(lambda: torch.neg(source, out=target), device)
    (times,) = milliseconds([step], device, 9)
    return 2 * source.nbytes / (statistics.median(times) / 1000)


def launch_microseconds(step: Step) -> float:
    """Return the median host time of an eager call, whose kernels must take less time than their launches."""
    times = []
    for _ in range(10):
        torch.cuda.synchronize()
        began = time.perf_counter()
        for _ in range(LAUNCHES):
            step()
        times.append(1e6 * (time.perf_counter() - began) / LAUNCHES)
    return statistics.median(times[1:])


def release() -> None:
    """Collect garbage, and give torch's unused GPU memory back to the driver."""
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
        torch.cuda.empty_cache()


def reason(error: Exception) -> str:
    """Return the reason why a peer could not be measured, in a few words."""
    if isinstance(error, torch.OutOfMemoryError):
        return "out of memory"
    if isinstance(error, ImportError):
        return f"not installed: {error.name}"
    return (str(error).strip() or type(error).__name__).splitlines()[0][:80].replace("|", "/")
