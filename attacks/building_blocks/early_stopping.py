"""When to look at which samples are done: it spares their passes, but a GPU waits for the CPU meanwhile."""

from torch import Tensor

EVERY = 10  # steps
FEW = 256  # a pass of fewer samples takes a GPU less time than launching the next one


def should_check(step: int, rows: Tensor) -> bool:
    """Whether to look in ``step`` (from 0) at which of the samples ``rows`` (n,) are done.

    Always on a CPU, and where few samples are left; else in one step of ``EVERY``.
    """
    return step % EVERY == 0 or len(rows) < FEW or rows.device.type == "cpu"
