"""Seeds of the global random generators, from which Foolbox draws."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def seeded(*key: object, device: torch.device) -> Iterator[None]:
    """Seed torch's and numpy's global generators from `key`, and restore their states at the end.

    Foolbox draws from both and takes no generator as an argument.
    """
    seed = int.from_bytes(hashlib.sha256(repr(key).encode()).digest()[:4])
    state = np.random.get_state()  # noqa: NPY002
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        # Not torch.manual_seed, which seeds every device: only the states of this one are restored.
        torch.default_generator.manual_seed(seed)
        if device.type == "cuda":
            torch.cuda.default_generators[device.index].manual_seed(seed)
        elif device.type == "mps":
            torch.mps.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        try:
            yield
        finally:
            np.random.set_state(state)  # noqa: NPY002
