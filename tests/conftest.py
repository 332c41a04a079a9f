"""What holds for all tests."""

import torch

# The tests' products are tiny: a second thread makes them slower, and several times slower where the
# cores are shared.
torch.set_num_threads(1)
