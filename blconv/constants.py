"""Constant tensors on a device, which outlive the calls for which they are made."""

from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor


def on_device(constant: Tensor, device: torch.device) -> Tensor:
    """Return `constant`, a CPU tensor, as a tensor on `device`.

    On CUDA, another thread allocates the memory. The reason is `torch.compile` with CUDA graphs: memory that
    the calling thread allocates belongs to the graph of one model, and a constant must outlive this graph.
    While a stream is captured, no other thread may allocate; the calling thread then allocates the memory.
    """
    if device.type != "cuda" or torch.cuda.is_current_stream_capturing():
        return constant.to(device)
    with ThreadPoolExecutor(1) as other:
        return other.submit(constant.to, device).result()
