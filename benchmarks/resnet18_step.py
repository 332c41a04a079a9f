"""The measured training step of the paper's ResNet-18: forward pass, loss, backward pass and SGD."""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from blconv import band_limit
from blrobust.models.resnet import resnet18

PRECISIONS = {"tf32": False, "bf16 autocast": True}
Change = Callable[[nn.Module], nn.Module]
ORDINARY = "ordinary"
# fft50 and fft85 are nominal compressions; the 1x1 shortcuts stay ordinary.
NETWORKS: dict[str, Change] = {
    "fft50": partial(band_limit, compression=0.48, fft_size="compact"),
    "fft50, fused": partial(band_limit, compression=0.48, fft_size="compact", fuse=True),
    "fft85": partial(band_limit, compression=0.84, fft_size="compact"),
    "fft85, fused": partial(band_limit, compression=0.84, fft_size="compact", fuse=True),
}


def training_step(
    change: Change, batch: int, autocast: bool, device: torch.device, compile_model: Callable[..., object]
) -> Callable[[], Tensor]:
    """Return a function that makes one training step on random 32 x 32 images, channels_last.

    `change` makes the network from an ordinary ResNet-18. `compile_model` takes the network and a batch, and
    returns the function that the step calls in place of the network. SGD has momentum.
    """
    model = change(resnet18().to(device).to(memory_format=torch.channels_last))
    optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9, weight_decay=5e-4)
    images = torch.randn(batch, 3, 32, 32, device=device).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(0, 10, (batch,), device=device)
    called = compile_model(model, images)
    assert callable(called)

    def step() -> Tensor:
        optimizer.zero_grad()
        with torch.autocast(device.type, torch.bfloat16, enabled=autocast):
            loss = F.cross_entropy(called(images), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return loss.detach()

    return step
