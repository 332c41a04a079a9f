"""A second stream beside torch's current one, so that a small kernel can run during a large one.

    with SideStream(x.device) as side:
        kernel.launch(..., stream=side.fork())    # after everything on the current stream so far
        ...                                       # at the same time, on the current stream
    ...                                           # after both

Memory is allocated and freed on the current stream only. If the current stream is captured in a CUDA graph,
the graph includes the side stream. Each stream has one side stream, which is kept until the process ends.
Threads that share a stream also share its side stream. This is safe, because an event of a stream also covers
all earlier work on that stream.
"""

from typing import Any

import torch

from blconv.kernels.runtime.kernel import check, driver, set_context


class SideStream:
    """The side stream of the current stream, as a context; on exit the current stream waits for it.

    It has no effect unless `device` is the current CUDA device.
    """

    __slots__ = ("_device", "_forked", "_pair")

    def __init__(self, device: torch.device) -> None:
        self._device, self._forked = device, False

    def __enter__(self) -> "SideStream":
        return self

    def fork(self) -> Any:
        """Return the side stream, which from then on waits for all earlier work on the current stream.

        If the device is not the current CUDA device, return None, which stands for the current stream.
        """
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
    """A stream and its side stream, with the two events by which one waits for the other."""

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
