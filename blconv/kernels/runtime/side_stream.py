"""A second stream beside torch's current one, for a small kernel to run while a large one does.

    with SideStream(x.device) as branch:
        kernel.launch(..., stream=branch.fork())    # after all that is on the current stream so far
        ...                                         # beside it, on the current stream
    ...                                             # after both

Memory is taken from, and given back to, the current stream alone. In a capture the branch is captured
with it. Each stream has one beside it for ever, so no two streams share one; threads that share a stream
may share what is beside it, since a later event of a stream stands for an earlier one too.
"""

from typing import Any

import torch

from blconv.kernels.runtime.kernel import check, driver, set_context


class SideStream:
    """What is beside the current stream of a device; nothing on the CPU and on a device not current."""

    __slots__ = ("_device", "_forked", "_pair")

    def __init__(self, device: torch.device) -> None:
        self._device, self._forked = device, False

    def __enter__(self) -> "SideStream":
        return self

    def fork(self) -> Any:
        """Let the second stream wait for the current one, and return it; None: the current one."""
        index = self._device.index
        if self._device.type != "cuda" or index != torch.cuda.current_device():
            return None
        set_context(index)
        main = torch._C._cuda_getCurrentRawStream(index)
        self._pair = _pairs.get((index, main)) or _pairs.setdefault((index, main), _StreamPair(main))
        self._forked = True
        return self._pair.fork()

    def __exit__(self, *_: object) -> None:
        if self._forked:
            self._pair.join()


class _StreamPair:
    """A stream, and the events by which it and the main one wait for each other."""

    def __init__(self, main: int) -> None:
        cuda = driver()
        self._main, self._record, self._wait = main, cuda.cuEventRecord, cuda.cuStreamWaitEvent
        made = [
            cuda.cuStreamCreate(cuda.CUstream_flags.CU_STREAM_NON_BLOCKING),
            *[cuda.cuEventCreate(cuda.CUevent_flags.CU_EVENT_DISABLE_TIMING) for _ in range(2)],
        ]
        for status, _ in made:
            check(status)
        self._stream, self._forked, self._joined = (handle for _, handle in made)

    def fork(self) -> Any:
        check(*self._record(self._forked, self._main))
        check(*self._wait(self._stream, self._forked, 0))
        return self._stream

    def join(self) -> None:
        check(*self._record(self._joined, self._stream))
        check(*self._wait(self._main, self._joined, 0))


_pairs: dict[tuple[int, int], _StreamPair] = {}
