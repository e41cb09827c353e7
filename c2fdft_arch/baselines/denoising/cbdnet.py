"""CBDNet: one network estimates the noise of every pixel, a U-Net removes it.

Guo, Yan, Zhang, Zuo and Zhang, "Toward Convolutional Blind Denoising of Real Photographs" (CVPR
2019). Parameters are named as in the PyTorch checkpoints; the paper's own are for MATLAB.
"""

from collections import OrderedDict

import torch
from torch import Tensor, nn

from c2fdft_arch.baselines.blocks.convolutions import conv_relu
from c2fdft_arch.baselines.blocks.restoration_network import (
    RGB,
    RestorationNetwork,
    check_at_least,
)

ESTIMATOR_CHANNELS = 32


def estimator() -> nn.Sequential:
    """The standard deviation of the noise (B, 3, H, W) at every pixel and channel of an image."""
    widths = [RGB, *[ESTIMATOR_CHANNELS] * 4, RGB]
    pairs = zip(widths, widths[1:], strict=False)
    layers = nn.Sequential(*(layer for pair in pairs for layer in conv_relu(*pair)))
    return nn.Sequential(OrderedDict(fcn=layers))


class UpAdd(nn.Module):
    """Doubles the size, halves the channels and adds the features of the skip connection."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(in_channels, in_channels // 2, 2, stride=2)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """Features of the shape of `skip`."""
        return skip + self.up(x)


class Denoiser(nn.Module):
    """A U-Net of three levels that gives the negative noise."""

    def __init__(self, width: int) -> None:
        super().__init__()
        wider, widest = 2 * width, 4 * width
        self.inc = conv_layers(2 * RGB, width, 2)
        self.conv1 = conv_layers(width, wider, 3)
        self.conv2 = conv_layers(wider, widest, 6)
        self.up1 = UpAdd(widest)
        self.conv3 = conv_layers(wider, wider, 3)
        self.up2 = UpAdd(wider)
        self.conv4 = conv_layers(width, width, 2)
        self.outc = nn.Sequential(OrderedDict(conv=nn.Conv2d(width, RGB, 1)))
        self.down = nn.AvgPool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) of the image and its noise map together, (B, 6, H, W)."""
        full = self.inc(x)
        half = self.conv1(self.down(full))
        quarter = self.conv2(self.down(half))
        half = self.conv3(self.up1(quarter, half))
        return self.outc(self.conv4(self.up2(half, full)))


def conv_layers(in_channels: int, channels: int, count: int) -> nn.Sequential:
    """`count` convolutions with ReLU, the first of which changes the number of channels."""
    widths = [in_channels, *[channels] * count]
    pairs = zip(widths, widths[1:], strict=False)
    return nn.Sequential(*(nn.Sequential(OrderedDict(conv=conv_relu(*pair))) for pair in pairs))


class CBDNet(RestorationNetwork):
    """The denoiser sees the image and the estimated noise; `width` is 64 in the paper.

    All outputs: the image, the noise map (standard deviations) and the noisy image.
    """

    size_multiple = 4

    def __init__(self, width: int = 64, all_outputs: bool = False) -> None:
        super().__init__(all_outputs)
        check_at_least('CBDNet', 2, width=width)
        self.fcn = estimator()
        self.unet = Denoiser(width)

    def restore(self, image: Tensor) -> list[Tensor]:
        """The image, the noise map and the noisy image."""
        noise_map = self.fcn(image)
        return [image + self.unet(torch.cat([image, noise_map], dim=1)), noise_map, image]
