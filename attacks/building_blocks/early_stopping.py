"""When to check which samples are finished: the check saves passes, but synchronises the GPU."""

from torch import Tensor

EVERY = 10  # steps
FEW = 256  # a pass of fewer samples takes a GPU less time than launching the next one


def should_check(step: int, rows: Tensor) -> bool:
    """Return whether to check in `step` (from 0) which of the samples `rows` (n,) are finished.

    Always on a CPU or with few samples left, otherwise every `EVERY` steps.
    """
    return step % EVERY == 0 or len(rows) < FEW or rows.device.type == "cpu"
