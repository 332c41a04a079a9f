"""The steps at which an attack checks which samples are finished.

An attack that leaves out finished samples saves passes, but each check synchronises the CPU with the GPU.
"""

from torch import Tensor

EVERY = 10  # steps
FEW = 256  # a pass of fewer samples takes a GPU less time than launching the next one


def should_check(step: int, rows: Tensor) -> bool:
    """Return whether to check, in `step` (from 0), which of the samples `rows` (n,) are finished.

    This is true in every step on a CPU or with fewer than `FEW` samples, otherwise once in `EVERY` steps.
    """
    return step % EVERY == 0 or len(rows) < FEW or rows.device.type == "cpu"
