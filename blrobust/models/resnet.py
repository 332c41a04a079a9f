"""ResNet-20 for small images, and ResNet-18 as the paper's authors used it."""

from typing import cast

from torch import Tensor, nn
from torchvision.models import resnet18 as torchvision_resnet18


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut, which is a 1x1 convolution if the shape changes.

    Input (batch, in_channels, H, W), output (batch, channels, H / stride, W / stride). He et al. 2015,
    section 4.2.
    """

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU()  # a module: `band_limit` can make it keep less for the backward pass
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Return relu(shortcut(x) + residual(x)), where residual has the two 3x3 convolutions."""
        y = self.relu(self.bn1(self.conv1(x)))
        return cast(Tensor, self.relu(self.bn2(self.conv2(y)) + self.shortcut(x)))


def resnet20(*, classes: int = 10, channels: int = 3, width: int = 16) -> nn.Module:
    """Return ResNet-20 (He et al. 2015, 4.2) with projection shortcuts: 272,474 parameters for 10 classes.

    `width` is the number of channels of the first of three stages; each further stage has twice as many as
    the one before. The network computes logits (batch, classes) from normalised images (batch, channels, H,
    W). It is made for 32 x 32 pixels.
    """
    stem = nn.Conv2d(channels, width, 3, 1, 1, bias=False)
    layers: list[nn.Module] = [stem, nn.BatchNorm2d(width), nn.ReLU()]
    have = width
    for stage in (width, 2 * width, 4 * width):
        for block in range(3):
            layers.append(ResidualBlock(have, stage, 2 if block == 0 and stage > width else 1))
            have = stage
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(have, classes))
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return model


def resnet18(*, classes: int = 10, channels: int = 3) -> nn.Module:
    """Return the ResNet-18 of the paper's authors: torchvision's, but the first convolution is 3x3, stride 1.

    The max-pool is kept. The network computes logits (batch, classes) from normalised images (batch,
    channels, H, W). For images of 32 x 32 pixels, the inputs of its four stages have 16, 16, 8 and 4 pixels
    on each side, and the output of the last stage has 2.
    """
    model: nn.Module = torchvision_resnet18(num_classes=classes)
    stem = nn.Conv2d(channels, 64, 3, 1, 1, bias=False)
    nn.init.kaiming_normal_(stem.weight, mode="fan_out", nonlinearity="relu")
    model.conv1 = stem
    return model
