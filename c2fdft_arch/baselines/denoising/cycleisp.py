"""The denoiser of CycleISP: groups of blocks with attention over channels and over pixels.

Zamir, Arora, Khan, Hayat, Khan, Yang and Shao, "CycleISP: Real Image Restoration Via Improved Data
Synthesis" (CVPR 2020). The network for sRGB images; the cycle that makes training data is no part.
"""

from collections import OrderedDict

import torch
from torch import Tensor, nn

from c2fdft_arch.baselines.blocks.convolutions import Residual, conv3x3
from c2fdft_arch.baselines.blocks.restoration_network import (
    RGB,
    RestorationNetwork,
    check_at_least,
)

REDUCTION = 16


class ChannelAttention(nn.Module):
    """Scales each channel by a factor in (0, 1) that follows from the means of all."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        squeezed = channels // REDUCTION
        self.conv_du = nn.Sequential(
            nn.Conv2d(channels, squeezed, 1),
            nn.ReLU(),
            nn.Conv2d(squeezed, channels, 1),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W), scaled."""
        return x * self.conv_du(x.mean(dim=(2, 3), keepdim=True))


class SpatialAttention(nn.Module):
    """Scales each pixel by a factor in (0, 1) that follows from its channels' maximum and mean."""

    def __init__(self) -> None:
        super().__init__()
        self.spatial = nn.Sequential(OrderedDict(conv=conv3x3(2, 1, bias=False)))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W), scaled."""
        summary = torch.cat([x.amax(dim=1, keepdim=True), x.mean(dim=1, keepdim=True)], dim=1)
        return x * torch.sigmoid(self.spatial(summary))


class DualAttentionBlock(nn.Module):
    """Two convolutions, both kinds of attention side by side, and the input added."""

    def __init__(self, channels: int, activation: nn.Module) -> None:
        super().__init__()
        self.SA = SpatialAttention()
        self.CA = ChannelAttention(channels)
        self.body = nn.Sequential(
            conv3x3(channels, channels), activation, conv3x3(channels, channels)
        )
        self.conv1x1 = nn.Conv2d(2 * channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Features of the same shape."""
        features = self.body(x)
        return x + self.conv1x1(torch.cat([self.SA(features), self.CA(features)], dim=1))


def group(channels: int, blocks: int, activation: nn.Module) -> nn.Sequential:
    """`blocks` dual attention blocks and a convolution, and the input added."""
    layers = [DualAttentionBlock(channels, activation) for _ in range(blocks)]
    return nn.Sequential(OrderedDict(body=Residual(*layers, conv3x3(channels, channels))))


class CycleISPDenoiser(RestorationNetwork):
    """`groups` of `blocks`; all activations are one PReLU, whose slopes they share."""

    def __init__(
        self, groups: int = 4, blocks: int = 8, channels: int = 64, all_outputs: bool = False
    ) -> None:
        super().__init__(all_outputs)
        check_at_least('CycleISPDenoiser', 1, groups=groups, blocks=blocks)
        check_at_least('CycleISPDenoiser', REDUCTION, channels=channels)
        activation = nn.PReLU(channels)
        layers = [group(channels, blocks, activation) for _ in range(groups)]
        self.head = nn.Sequential(conv3x3(RGB, channels))
        self.body = nn.Sequential(*layers, conv3x3(channels, channels), activation)
        self.tail = nn.Sequential(conv3x3(channels, RGB))

    def restore(self, image: Tensor) -> list[Tensor]:
        """The restored image alone."""
        return [image + self.tail(self.body(self.head(image)))]
