"""Half precision of models: native on GPUs, emulated in fp32 with rounding on the CPU."""

from typing import cast

import torch
from torch import Tensor, nn

PRECISIONS: dict[str, torch.dtype] = {
    "fp32": torch.float32,
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
}


class NativeHalf(nn.Module):
    """A model with fp32 input and output, whose convolutions and linear layers run in `dtype` (autocast)."""

    def __init__(self, model: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.model = model
        self.dtype = dtype

    def forward(self, pixels: Tensor) -> Tensor:
        """Return logits in fp32, (m, classes), of pixels in fp32, (m, C, H, W)."""
        with torch.autocast(pixels.device.type, dtype=self.dtype, cache_enabled=False):
            logits = self.model(pixels)
        return cast(Tensor, logits.float())


def round_layers(model: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Round the weights, inputs and outputs of all convolutions and linear layers of `model` to `dtype`.

    The arithmetic stays fp32, because CPUs without native half-precision arithmetic compute very slowly in
    half precision. On CPUs with native half precision the arithmetic is fp32 too, so that all CPUs get the
    same results.
    """

    def round_input(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (inputs[0].to(dtype).float(), *inputs[1:])

    def round_output(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        return output.to(dtype).float()

    for module in model.modules():
        if isinstance(module, nn.modules.conv._ConvNd | nn.Linear):
            with torch.no_grad():
                for parameter in module.parameters(recurse=False):
                    parameter.copy_(parameter.to(dtype))
            module.register_forward_pre_hook(round_input)
            module.register_forward_hook(round_output)
    return model


def reduce_precision(model: nn.Module, precision: str, device: torch.device) -> tuple[nn.Module, str | None]:
    """Return `model` on `device` in the named `precision`, and a note if that is emulated, else None."""
    model = model.to(device)
    if precision == "fp32":
        return model, None
    dtype = PRECISIONS[precision]
    if device.type == "cpu":
        note = (
            f"{precision} on the CPU: weights and every convolution's and linear layer's input and "
            f"output are rounded to {precision}, arithmetic is fp32"
        )
        return round_layers(model, dtype), note
    return NativeHalf(model, dtype), None
