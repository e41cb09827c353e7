"""Convolutions with the padding and activations that the systems share."""

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
