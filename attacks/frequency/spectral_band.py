"""A band of spatial frequencies, and the projection of images onto it."""

from dataclasses import dataclass

import torch
from torch import Tensor

from blconv.band import transform_size


@dataclass(frozen=True)
class SpectralBand:
    """The frequencies whose larger component (vertical or horizontal) is from `low` to below `high`.

    `low` and `high` are fractions of the one-sided spectrum. A network that drops the share c of the
    coefficients keeps the fraction sqrt(1 - c) of the frequencies in each direction (section 3.1 of the paper
    on band-limited networks). So its first layer, a 3 x 3 convolution with padding 1, keeps `SpectralBand(0,
    sqrt(1 - c))` and drops `SpectralBand(sqrt(1 - c), 1)`. Raises `ValueError` unless 0 <= low < high <= 1.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        if not 0 <= self.low < self.high <= 1:
            raise ValueError(f"got low={self.low}, high={self.high}; legal: 0 <= low < high <= 1")

    @property
    def is_full(self) -> bool:
        """Whether every frequency is in the band."""
        return self.low == 0 and self.high == 1

    def mask(self, height: int, width: int, *, device: torch.device) -> Tensor:
        """Return bool (height, width // 2 + 1): which coefficients of `rfft2` are in the band.

        In the band, the vertical and the horizontal frequency are both below `high`, and at least one of the
        two is not below `low`. Raises `ValueError` if images of this size have no coefficient in the band.
        """
        below = [
            _below(height, edge, device)[:, None] & _below(width, edge, device)[: width // 2 + 1]
            for edge in (self.low, self.high)
        ]
        mask = below[1] & ~below[0]
        if not mask.any():
            raise ValueError(
                f"got low={self.low:g}, high={self.high:g}, between which images of {height} x {width} have "
                "no frequency; legal: a wider band"
            )
        return mask


def project(images: Tensor, mask: Tensor) -> Tensor:
    """Return the nearest images (m, C, H, W) whose `rfft2` is 0 where `mask` (H, W // 2 + 1) is false."""
    projected: Tensor = torch.fft.irfft2(torch.fft.rfft2(images) * mask, s=images.shape[-2:])
    return projected


def _below(length: int, edge: float, device: torch.device) -> Tensor:
    """Return bool (length,): which frequencies, in the order of `torch.fft.fft`, are below the share `edge`.

    The shares are those of a band-limited layer. The layer pads the image, so its transform has more points,
    n, than the `length` points of the image. Frequency k of the layer is frequency k * length / n of the
    image.
    """
    size = transform_size(length + 2, 3, fft_size="paper")
    kept = max(1, int((size // 2 + 1) * edge)) if edge > 0 else 0
    frequency = torch.arange(length, device=device)
    below: Tensor = torch.minimum(frequency, length - frequency) * size < kept * length
    return below
