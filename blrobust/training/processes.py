"""Data-parallel training: processes started by torchrun, each with its share of every batch.

All processes have the same weights: they start from those of the first process and apply the same averaged
gradients. BatchNorm normalises by the statistics of the share of a process, and its running statistics are
those of the first process, as in torch's DistributedDataParallel.
"""

import os
import re
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from blrobust.device import resolve
from blrobust.errors import LONGEST, UserError, reason, shorten
from blrobust.signals import FIRST_CODE

T = TypeVar("T")
CPU = torch.device("cpu")
GRACE = 5.0  # seconds to end after a signal; torchrun waits for 30 s before it kills a process
STOPPED = b"Interrupted: another process of this training has ended, or its launcher.\n"
ENDED = "another process of this training has ended or cannot be reached"
_SOURCE = re.compile(r"^\[[^]]*\] ")  # the line of torch's code, with which its messages begin
AGAIN = "the same command with --resume continues after the last complete epoch"


@dataclass(frozen=True)
class Processes:
    """This process and the others of a training. A single process has rank 0, and all methods are trivial."""

    rank: int = 0
    count: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes files and prints."""
        return self.rank == 0

    def part(self, batch_size: int) -> slice:
        """Return the places of the images of this process in a batch; raise `UserError` for unequal parts."""
        size, rest = divmod(batch_size, self.count)
        if rest:
            raise UserError(
                f"batch_size: got {batch_size} for {self.count} processes; legal: a multiple of {self.count}"
            )
        return slice(self.rank * size, (self.rank + 1) * size)

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its mean over all processes, in place. A CUDA graph can capture this."""

        def mean(flat: Tensor) -> None:
            dist.all_reduce(flat)
            flat.div_(self.count)

        if self.count > 1:
            _change(tensors, mean)

    def copy_from_first(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by that of the first process, in place."""
        if self.count > 1:
            _change(tensors, lambda flat: dist.broadcast(flat, src=0))

    def from_first(self, make: Callable[[], T]) -> T:
        """Return the result of `make`, which only the first process calls, in all processes.

        If it raises an error, the other processes raise `UserError`.
        """
        if self.count == 1:
            return make()
        box: list[tuple[T] | None] = [None]
        try:
            if self.is_first:
                box = [(make(),)]
        finally:
            with _peers():
                dist.broadcast_object_list(box, src=0, device=CPU)
        if box[0] is None:
            raise UserError("the first process of this training has ended; its message says why")
        return box[0][0]


ALONE = Processes()


@contextmanager
def joined(device: str) -> Iterator[tuple[Processes, torch.device]]:
    """Return a context with the processes that torchrun has started, and the device of this process.

    Without torchrun, this process is alone. `device` is a device by its name; with several processes, auto
    and cuda mean the GPU whose number is the rank of this process on its host. Raises `UserError` for a
    device that is unknown, not available, or one for all processes.
    """
    count, rank = (int(os.environ.get(name, default)) for name, default in (("WORLD_SIZE", 1), ("RANK", 0)))
    if count == 1 or "MASTER_ADDR" not in os.environ:
        yield ALONE, resolve(device)
        return
    own = _own_device(device, int(os.environ.get("LOCAL_RANK", rank)))
    is_gpu = own.type == "cuda"
    if is_gpu:
        torch.cuda.set_device(own)
    with _ended_by_signals():
        dist.init_process_group("cpu:gloo,cuda:nccl" if is_gpu else "gloo", rank=rank, world_size=count)
        yield Processes(rank, count), own
        dist.destroy_process_group()  # not after an error: it would wait for the others


def _own_device(device: str, local_rank: int) -> torch.device:
    if device not in ("auto", "cuda", "cpu"):
        raise UserError(f"device: got {device} for several processes; legal: auto, cuda or cpu")
    if device == "cpu" or (device == "auto" and not torch.cuda.is_available()):
        return CPU
    return resolve(f"cuda:{local_rank}")


def _change(tensors: Sequence[Tensor], collective: Callable[[Tensor], object]) -> None:
    """Call `collective` for one tensor with all values of the same type, and copy its values back."""
    for dtype in dict.fromkeys(t.dtype for t in tensors):
        of_type = [t for t in tensors if t.dtype == dtype]
        flat = torch.cat([t.detach().reshape(-1) for t in of_type])
        with _peers():
            collective(flat)
        parts = torch.split(flat, [t.numel() for t in of_type])
        with torch.no_grad():
            torch._foreach_copy_(of_type, [p.view(t.shape) for p, t in zip(parts, of_type, strict=True)])


@contextmanager
def _peers() -> Iterator[None]:
    """Return a context that raises `UserError` for a collective that fails because a process has ended."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        sentence = _SOURCE.sub("", reason(error)).split(". ")[0]
        raise UserError(f"{ENDED} ({shorten(sentence, LONGEST)}); {AGAIN}") from error


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Return a context in which a signal ends this process, even if it waits for a process that has ended.

    If a process ends, torchrun sends SIGTERM to the others. While the main thread waits for a collective,
    Python calls no handlers of signals. So a thread waits for the signal, gives the main thread `GRACE`
    seconds, and ends the process.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    is_over = threading.Event()

    def watch() -> None:
        number = reader.recv(1)
        if number and not is_over.wait(GRACE):
            with suppress(OSError):
                os.write(2, STOPPED)
            os._exit(FIRST_CODE + number[0])

    before = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        is_over.set()
        signal.set_wakeup_fd(before)
        writer.close()
