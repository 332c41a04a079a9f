"""Seeds of the global random generators, from which models and Foolbox draw."""

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def seeded(*key: object, device: torch.device) -> Iterator[None]:
    """Seed torch's, numpy's and Python's global generators from `key`, and restore them at the end.

    Foolbox draws from the first two and takes no generator as an argument; a model draws from any.
    """
    seed = int.from_bytes(hashlib.sha256(repr(key).encode()).digest()[:4])
    numpy_state, python_state = np.random.get_state(), random.getstate()  # noqa: NPY002
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        # Not torch.manual_seed, which seeds every device: only the states of this one are restored.
        torch.default_generator.manual_seed(seed)
        if device.type == "cuda":
            torch.cuda.default_generators[device.index].manual_seed(seed)
        elif device.type == "mps":
            torch.mps.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        random.seed(seed)
        try:
            yield
        finally:
            np.random.set_state(numpy_state)  # noqa: NPY002
            random.setstate(python_state)
