"""A second stream beside torch's current one, so that a small kernel can run during a large one.

It is used only while a CUDA graph is captured: the driver's four calls that order two streams take longer
than the kernel, and a graph does not repeat them. Each stream has one side stream, which is kept until the
process ends. Threads that share a stream share its side stream. This is safe, because an event of a stream
also covers all earlier work on it.
"""

from functools import lru_cache

from blconv.kernels.runtime.driver import check, driver


@lru_cache(maxsize=1024)
def side_stream(index: int, stream: int) -> tuple[int, int, int]:
    """Return three handles: the side stream of `stream`, an event to fork and an event to join.

    `stream` belongs to device `index`, which must be the current one.
    """
    cuda = driver()
    made = [
        cuda.cuStreamCreate(cuda.CUstream_flags.CU_STREAM_NON_BLOCKING),
        *[cuda.cuEventCreate(cuda.CUevent_flags.CU_EVENT_DISABLE_TIMING) for _ in range(2)],
    ]
    for status, _ in made:
        check(status)
    side, forked, joined = (int(handle) for _, handle in made)
    return side, forked, joined
