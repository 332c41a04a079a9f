"""What holds for all tests."""

import os

import torch

# The tests' products are tiny: a second thread makes them slower, and several times slower where the
# cores are shared. Processes that tests start must do likewise: sums depend on the number of threads.
os.environ["OMP_NUM_THREADS"] = "1"
torch.set_num_threads(1)
