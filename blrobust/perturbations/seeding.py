"""Seeds of the global random generators, from which models and Foolbox draw."""

import hashlib
import pickle
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def states(device: torch.device) -> list[bytes]:
    """Return the states of all global generators: torch's (CPU and `device`), numpy's and Python's."""
    found = [torch.get_rng_state()]
    if device.type == "cuda":
        found.append(torch.cuda.get_rng_state(device))
    others = (np.random.get_state(), random.getstate())  # noqa: NPY002
    return [*(state.numpy().tobytes() for state in found), *(pickle.dumps(state) for state in others)]


@contextmanager
def unchanged(device: torch.device) -> Iterator[None]:
    """Restore the states of torch's, numpy's and Python's global generators at the end of the context."""
    numpy_state, python_state = np.random.get_state(), random.getstate()  # noqa: NPY002
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        try:
            yield
        finally:
            np.random.set_state(numpy_state)  # noqa: NPY002
            random.setstate(python_state)


@contextmanager
def torch_seeds_kept(device: torch.device) -> Iterator[None]:
    """At the end of the context, restore those of torch's global generators that were seeded inside it.

    The generators are those of the CPU and of `device`. If numbers were drawn from a generator that was not
    seeded, it is not restored.
    """
    generators = [torch.default_generator]
    if device.type == "cuda":
        generators.append(torch.cuda.default_generators[device.index])
    before = [(generator.initial_seed(), generator.get_state()) for generator in generators]
    try:
        yield
    finally:
        for generator, (seed, state) in zip(generators, before, strict=True):
            if generator.initial_seed() != seed:
                generator.set_state(state)


@contextmanager
def seeded(*key: object, device: torch.device) -> Iterator[None]:
    """Seed torch's, numpy's and Python's global generators from `key`; restore them after the context.

    Foolbox draws from the generators of torch and numpy and accepts no generator as an argument. A model may
    draw from any of the three.
    """
    seed = int.from_bytes(hashlib.sha256(repr(key).encode()).digest()[:4])
    with unchanged(device):
        # Not torch.manual_seed, which seeds every device: only the states of this one are restored.
        torch.default_generator.manual_seed(seed)
        if device.type == "cuda":
            torch.cuda.default_generators[device.index].manual_seed(seed)
        elif device.type == "mps":
            torch.mps.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        random.seed(seed)
        yield
