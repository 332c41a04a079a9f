"""The accuracy of a model on the images of a data set."""

import torch

from blrobust.data.datasets import Dataset

EVALUATION_BATCH = 500


@torch.no_grad()
def accuracy(model: torch.nn.Module, dataset: Dataset, device: torch.device, *, start: int = 0) -> float:
    """Return the share of images that `model` classifies correctly, among those from index `start` on."""
    model.eval()
    correct = torch.zeros((), dtype=torch.int64, device=device)
    for first in range(start, len(dataset), EVALUATION_BATCH):
        batch = slice(first, first + EVALUATION_BATCH)
        logits = model(dataset.pixels(batch, device))
        correct += (logits.argmax(1) == dataset.labels[batch].to(device)).sum()
    return int(correct) / (len(dataset) - start)
