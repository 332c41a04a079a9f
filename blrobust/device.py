"""The device to compute on, and its numerical precision."""

import platform
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from blrobust.errors import UserError, shown


def resolve(device: str | torch.device) -> torch.device:
    """Return the device, which may be given by its name; "auto" means CUDA, or else MPS, or else the CPU.

    Raises `UserError` for a device that is unknown or not available.
    """
    cuda = [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    mps = ["mps"] if torch.backends.mps.is_available() else []
    found = [*cuda, *mps, "cpu"]
    if not isinstance(device, str | torch.device):
        raise UserError(f"device: got {shown(device)}; legal: auto, {', '.join(found)}")
    name = str(device)
    if name == "auto":
        return torch.device(found[0])
    if name == "cuda" and cuda:
        return torch.device("cuda", torch.cuda.current_device())
    if name not in found:
        raise UserError(f"device: got {name!r}; legal: auto, {', '.join(found)}")
    return torch.device(name)


@contextmanager
def full_precision() -> Iterator[None]:
    """Return a context in which GPUs compute in full float32, without TF32.

    TF32 has only 10 bits of mantissa and would change predictions.
    """
    matmul, convolution = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    try:
        torch.set_float32_matmul_precision("highest")
        torch.backends.cudnn.allow_tf32 = False
        yield
    finally:
        torch.set_float32_matmul_precision(matmul)
        torch.backends.cudnn.allow_tf32 = convolution


def describe(device: torch.device) -> str:
    """Return a description of the device for the record of a run."""
    if device.type == "cuda":
        return f"{device}, {torch.cuda.get_device_name(device)}"
    return f"{device}, {platform.machine()}, {torch.get_num_threads()} threads"
