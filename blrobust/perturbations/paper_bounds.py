"""The constants of the published attack space, in a module that does not import torch."""

from typing import Final

SPACE: Final = "legacy"
BOUNDS = (-2.4290657, 2.7537313)  # the extremes of normalised CIFAR-10 over all channels
WIDTH = BOUNDS[1] - BOUNDS[0]  # 5.183; Foolbox 1 multiplied the strength by it
MEAN = (0.4914, 0.4822, 0.4465)
STD = (0.2023, 0.1994, 0.2010)
