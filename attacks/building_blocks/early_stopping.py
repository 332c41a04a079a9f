"""The steps at which an attack checks whether samples are finished.

An attack that leaves out finished samples saves passes, but in each check the CPU waits for the GPU.
"""

from torch import Tensor

EVERY = 10  # steps
FEW = 256  # samples; a pass of fewer takes a GPU less time than the CPU takes to launch the next pass


def should_check(step: int, rows: Tensor) -> bool:
    """Return whether an attack should check, in step number `step` (from 0), which samples are finished.

    `rows` (n,) are the indices of the samples that are still attacked. The result is true in every step if
    `rows` is on a CPU or has fewer than `FEW` entries, and otherwise in one of `EVERY` steps.
    """
    return step % EVERY == 0 or len(rows) < FEW or rows.device.type == "cpu"
