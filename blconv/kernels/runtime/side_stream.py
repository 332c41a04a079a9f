"""A second stream beside torch's current one, so that a small kernel can run during a large one.

The side stream is used only while a CUDA graph is captured. Outside a graph, the driver's four calls that
order two streams would take longer than the kernel; a graph does not repeat these calls. Each stream has one
side stream, which exists until the process ends. Threads that share a stream share its side stream. This is
safe: a thread that waits for an event waits for all earlier work on the stream, so it may wait too long but
never too short.
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
