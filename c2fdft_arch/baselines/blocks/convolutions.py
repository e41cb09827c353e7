"""Convolutions with the padding and activations that the systems share."""

import torch
from torch import Tensor, nn


def conv3x3(in_channels: int, out_channels: int, bias: bool = True) -> nn.Conv2d:
    """A 3x3 convolution that keeps the size."""
    return nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=bias)


def conv_relu(in_channels: int, out_channels: int) -> nn.Sequential:
    """A 3x3 convolution and a ReLU."""
    return nn.Sequential(conv3x3(in_channels, out_channels), nn.ReLU())


class Residual(nn.Sequential):
    """Its layers one after the other, and their input added to what they give."""

    def forward(self, x: Tensor) -> Tensor:
        """`x` plus its residual, of the same shape."""
        return x + super().forward(x)


class UpBlock(nn.Module):
    """A decoder level of a U-Net: doubles the size and joins the skip connection's features.

    `conv_block` makes `channels` features of those of both, which are `in_channels`.
    """

    def __init__(self, conv_block: nn.Module, in_channels: int, channels: int) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(in_channels, channels, 2, stride=2)
        self.conv_block = conv_block

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """Features (B, `channels`, 2H, 2W)."""
        return self.conv_block(torch.cat([self.up(x), skip], dim=1))
