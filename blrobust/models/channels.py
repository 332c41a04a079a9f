"""Input channels: transforms of the image in front of a network, differentiable for attacks.

A model name puts them before `+`: `lowpass0.48+fp32`, `depth5+blur0.6+fp32`, applied from left to right.
"""

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torchvision.transforms.v2.functional import gaussian_blur

from blconv.band import AxisBand, Band
from blconv.methods.lowpass import low_pass
from blrobust.errors import UserError


class LowPass(nn.Module):
    """Keep the low corner of the image's one-sided 2D spectrum (the paper's FC): A_rows x A_columns^T.

    The transform has the image's own size, nothing is padded, and the result is not clipped: it may
    go beyond [0, 1] a little. ``compression`` is the nominal share that is dropped, in [0, 1).
    """

    def __init__(self, compression: float) -> None:
        if not 0 <= compression < 1:
            raise UserError(f"compression {compression:g} of an input low-pass must be in [0, 1)")
        super().__init__()
        self.compression = compression

    def extra_repr(self) -> str:
        """Return the setting, for `repr` and for a model's checksum."""
        return f"compression={self.compression!r}"

    def band(self, height: int, width: int) -> Band:
        """The band of images of this size."""
        return Band(tuple(self._axis(length) for length in (height, width)))

    def forward(self, pixels: Tensor) -> Tensor:
        """Images (m, C, H, W) without their high frequencies."""
        return low_pass(pixels, self.band(*pixels.shape[-2:]))

    def _axis(self, length: int) -> AxisBand:
        return AxisBand.of(
            length,
            1,
            padding=(0, 0),
            dilation=1,
            compression=self.compression,
            fft_size="compact",
        )


class ColourDepth(nn.Module):
    """Round every value to one of 2^bits levels between 0 and 1 (CD): round(x (2^bits - 1)) / (2^bits - 1).

    Rounding has no gradient, so the backward pass takes it for the identity: an adversary who knows
    of the rounding would do so too (Athalye et al. 2018, BPDA).
    """

    def __init__(self, bits: int) -> None:
        if not 1 <= bits <= 16:
            raise UserError(f"colour depth {bits} must be from 1 to 16 bits")
        super().__init__()
        self.steps = 2**bits - 1

    def extra_repr(self) -> str:
        """Return the setting."""
        return f"steps={self.steps}"

    def forward(self, pixels: Tensor) -> Tensor:
        """Images (m, C, H, W), rounded."""
        rounded: Tensor = (pixels.detach().clamp(0, 1) * self.steps).round() / self.steps
        if pixels.requires_grad and torch.is_grad_enabled():
            rounded = pixels + (rounded - pixels.detach())
        return rounded


class GaussianBlur(nn.Module):
    """Convolve with a Gaussian of standard deviation `sigma` pixels, cut off at 4 sigma, edges reflected."""

    def __init__(self, sigma: float) -> None:
        if not 0 < sigma <= MOST_SIGMA:
            raise UserError(f"got a blur of sigma {sigma:g} pixels; legal: above 0, up to {MOST_SIGMA:g}")
        super().__init__()
        self.sigma = sigma

    def extra_repr(self) -> str:
        """Return the setting."""
        return f"sigma={self.sigma!r}"

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the blurred images (m, C, H, W). Raises `ValueError` for images smaller than the blur."""
        reach = math.ceil(4 * self.sigma)
        if reach >= min(pixels.shape[-2:]):
            size = " x ".join(map(str, pixels.shape[-2:]))
            raise ValueError(f"a blur of {self.sigma:g} pixels reaches over images of {size}")
        blurred: Tensor = gaussian_blur(pixels, [2 * reach + 1] * 2, [self.sigma] * 2)
        return blurred


MOST_SIGMA = 20.0
CUTS = Path(__file__).parents[1] / "weights" / "low_pass_cuts.json"
GRAMMAR = {
    "lowpassC": "the layer's low-pass on the image, nominal compression C, as lowpass0.48",
    "lowpass-fftNN": "the low-pass at which fp32 comes nearest to the clean accuracy of fftNN",
    "depthB": "colours rounded to B bits, as depth5",
    "blurS": "Gaussian blur of S pixels, as blur0.6",
}
_CHANNEL = re.compile(r"(?P<word>lowpass|depth|blur)(?P<value>[-.\d][^+]*)")


def split_channels(target: str) -> tuple[tuple[str, ...], str]:
    """Return the channels in front of a model, from left to right, and the model: CHANNEL+...+MODEL.

    Raises `UserError` for a channel without a model behind it.
    """
    words: list[str] = []
    while _CHANNEL.match(target):
        word, plus, rest = target.partition("+")
        if not plus or not rest:
            raise UserError(f"got the channel {word!r} without a model; legal: {word}+fp32, for example")
        words.append(word)
        target = rest
    return tuple(words), target


def build_channel(word: str, *, trained: str) -> nn.Module:
    """Return the channel that a name such as "lowpass0.48" stands for.

    `trained` is the data set and the architecture of "lowpass-fft85", such as "cifar10-resnet20". Raises
    `UserError` for another word or value.
    """
    match = _CHANNEL.fullmatch(word)
    legal = f"got the channel {word!r}; legal: {', '.join(GRAMMAR)}"
    if match is None:
        raise UserError(legal)
    kind, value = match["word"], match["value"]
    if kind == "lowpass" and value.startswith("-"):
        return LowPass(_matched_cut(value.removeprefix("-"), trained))
    try:
        number = int(value) if kind == "depth" else float(value)
    except ValueError:
        raise UserError(legal) from None
    if kind == "depth":
        return ColourDepth(int(number))
    return LowPass(number) if kind == "lowpass" else GaussianBlur(number)


def _matched_cut(name: str, trained: str) -> float:
    """Return the recorded cut of the low-pass that matches the clean accuracy of the model `name`."""
    recorded = json.loads(CUTS.read_text("utf-8"))
    cuts = recorded.get(trained, {})
    if name not in cuts:
        legal = [f"lowpass-{n} ({t})" for t, found in recorded.items() for n in found]
        raise UserError(
            f"got lowpass-{name} for {trained}, for which no cut is recorded; legal: {', '.join(legal)}, "
            "or a cut of your own such as lowpass0.48"
        )
    return float(cuts[name]["cut"])


@dataclass(frozen=True)
class Channel:
    """One way to the answer: a transform of the image, then a network."""

    name: str
    kind: str  # "low-pass", "colour depth" or "network"
    transform: nn.Module
    network: nn.Module
    effective_compression: float | None = None

    @property
    def whole(self) -> nn.Module:
        """Transform and network as one model, as an adversary who knows sees it."""
        return nn.Sequential(self.transform, self.network).eval()


def low_passes(compressions: list[float], network: nn.Module, *, height: int, width: int) -> list[Channel]:
    """One low-pass in front of ``network`` for each compression."""
    made = [LowPass(compression) for compression in compressions]
    return [
        Channel(
            f"low-pass {m.compression:g}",
            "low-pass",
            m,
            network,
            m.band(height, width).effective_compression,
        )
        for m in made
    ]


def colour_depths(bits: list[int], network: nn.Module) -> list[Channel]:
    """One rounding in front of ``network`` for each number of bits."""
    return [Channel(f"{b} bits", "colour depth", ColourDepth(b), network) for b in bits]
