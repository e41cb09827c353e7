"""DeblurGAN-v2: a pyramid of features of an image classifier.

Kupyn, Martyniuk, Wu and Wang, "DeblurGAN-v2: Deblurring (Orders-of-Magnitude) Faster and Better"
(ICCV 2019). The generator with Inception-ResNet-v2.
"""

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad

from c2fdft_arch.baselines.blocks.convolutions import conv3x3
from c2fdft_arch.baselines.blocks.restoration_network import (
    RGB,
    RestorationNetwork,
    check_at_least,
)
from c2fdft_arch.baselines.blocks.statistics_norm import InstanceNorm, to_signed, to_unsigned
from c2fdft_arch.baselines.deblurring.inception_resnet import InceptionResNet

LEVEL_CHANNELS = (32, 64, 192, 1088, 2080)
LEVEL_PADDING = ((0, 1, 0, 1), (1, 1, 1, 1), (1, 2, 1, 2), (1, 1, 1, 1), (1, 1, 1, 1))
"""What the backbone's convolutions without padding have taken from each level, to reflect back."""


class Pyramid(nn.Module):
    """Features at 1/2, 1/4, 1/8, 1/16 and 1/32 of the size, each knowing of the smaller ones."""

    def __init__(self, channels: int, repeats: tuple[int, int], unused_repeats: int) -> None:
        super().__init__()
        backbone = self.inception = InceptionResNet(repeats, unused_repeats)
        # The checkpoints have these layers twice, under both names.
        self.enc0 = backbone.conv2d_1a
        self.enc1 = nn.Sequential(backbone.conv2d_2a, backbone.conv2d_2b, backbone.maxpool_3a)
        self.enc2 = nn.Sequential(backbone.conv2d_3b, backbone.conv2d_4a, backbone.maxpool_5a)
        self.enc3 = nn.Sequential(backbone.mixed_5b, backbone.repeat, backbone.mixed_6a)
        self.enc4 = nn.Sequential(backbone.repeat_1, backbone.mixed_7a)
        for k in (1, 2, 3):
            self.add_module(f'td{k}', normalised(channels, channels))
        for k, width in enumerate(LEVEL_CHANNELS):
            narrower = channels if k else channels // 2
            self.add_module(f'lateral{k}', nn.Conv2d(width, narrower, 1, bias=False))

    def forward(self, image: Tensor) -> list[Tensor]:
        """The five levels, from 1/2 of the size on."""
        features, levels = image, []
        for k, padding in enumerate(LEVEL_PADDING):
            features = getattr(self, f'enc{k}')(features)
            levels.append(pad(getattr(self, f'lateral{k}')(features), padding, mode='reflect'))
        for k, td in ((3, self.td1), (2, self.td2), (1, self.td3)):
            levels[k] = td(levels[k] + interpolate(levels[k + 1], scale_factor=2.0))
        return levels


def head(in_channels: int, channels: int) -> nn.Sequential:
    """Two convolutions with ReLU on a level of the pyramid."""
    layers = OrderedDict(
        block0=conv3x3(in_channels, channels, bias=False),
        relu0=nn.ReLU(),
        block1=conv3x3(channels, channels, bias=False),
        relu1=nn.ReLU(),
    )
    return nn.Sequential(layers)


def normalised(in_channels: int, channels: int) -> nn.Sequential:
    """A 3x3 convolution, instance-normalised, with a ReLU."""
    return nn.Sequential(conv3x3(in_channels, channels), InstanceNorm(channels), nn.ReLU())


class DeblurGANv2(RestorationNetwork):
    """The generator; `num_filters` channels in the heads, `num_filters_fpn` in the pyramid.

    Layers of the backbone that the generator does not use are in the published checkpoints, and so
    among its parameters; they are not trained.
    """

    size_multiple = 32
    smallest_side = 128

    def __init__(
        self,
        num_filters: int = 128,
        num_filters_fpn: int = 256,
        repeats: tuple[int, int] = (10, 20),
        unused_repeats: int = 9,
        all_outputs: bool = False,
    ) -> None:
        super().__init__(all_outputs)
        check_at_least('DeblurGANv2', 2, num_filters=num_filters, num_filters_fpn=num_filters_fpn)
        self.fpn = Pyramid(num_filters_fpn, repeats, unused_repeats)
        for k in range(1, 5):
            self.add_module(f'head{k}', head(num_filters_fpn, num_filters))
        self.smooth = normalised(4 * num_filters, num_filters)
        self.smooth2 = normalised(num_filters, num_filters // 2)
        self.final = conv3x3(num_filters // 2, RGB)

    def restore(self, image: Tensor) -> list[Tensor]:
        """The restored image alone."""
        blurred = to_signed(image)
        largest, *levels = self.fpn(blurred)
        heads = [
            interpolate(getattr(self, f'head{k}')(level), scale_factor=float(2 ** (k - 1)))
            for k, level in enumerate(levels, start=1)
        ]
        features = interpolate(self.smooth(torch.cat(heads[::-1], dim=1)), scale_factor=2.0)
        features = interpolate(self.smooth2(features + largest), scale_factor=2.0)
        return [to_unsigned(blurred + torch.tanh(self.final(features)))]
