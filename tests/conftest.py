"""What holds for all tests."""

import os

# The tests' products are tiny: a second thread makes them slower, several times so where the cores are
# shared. Processes that the tests start inherit it, because the last bits depend on it.
os.environ["OMP_NUM_THREADS"] = "1"

import torch

torch.set_num_threads(1)
