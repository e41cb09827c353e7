"""DeblurGAN: a residual generator and a discriminator of patches.

Kupyn, Budzan, Mykhailych, Mishkin and Matas, "DeblurGAN: Blind Motion Deblurring Using Conditional
Adversarial Networks" (CVPR 2018).
"""

from collections import OrderedDict

import torch
from torch import Tensor, nn

from c2fdft_arch.baselines.blocks.convolutions import Residual
from c2fdft_arch.baselines.blocks.restoration_network import (
    RGB,
    RestorationNetwork,
    check_at_least,
)
from c2fdft_arch.baselines.blocks.statistics_norm import InstanceNorm, to_signed, to_unsigned

SLOPE = 0.2
LARGEST_FACTOR = 8
"""The discriminator's channels grow no further than by it."""


def residual_block(channels: int) -> Residual:
    """Two normalised 3x3 convolutions with dropout between them, and the input added."""
    layers = nn.Sequential(
        nn.ReflectionPad2d(1),
        nn.Conv2d(channels, channels, 3),
        InstanceNorm(channels),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.ReflectionPad2d(1),
        nn.Conv2d(channels, channels, 3),
        InstanceNorm(channels),
    )
    return Residual(OrderedDict(conv_block=layers))


class DeblurGAN(RestorationNetwork):
    """The generator: `n_blocks` residual blocks at a quarter of the size, `ngf` channels at full.

    What it predicts is added to the blurred image, and the sum clamped to the range of images.
    """

    size_multiple = 4
    smallest_side = 16

    def __init__(self, ngf: int = 64, n_blocks: int = 9, all_outputs: bool = False) -> None:
        super().__init__(all_outputs)
        check_at_least('DeblurGAN', 1, ngf=ngf, n_blocks=n_blocks)
        layers: list[nn.Module] = [nn.ReflectionPad2d(3), nn.Conv2d(RGB, ngf, 7)]
        layers += [InstanceNorm(ngf), nn.ReLU()]
        for width in (ngf, 2 * ngf):
            convolution = nn.Conv2d(width, 2 * width, 3, stride=2, padding=1)
            layers += [convolution, InstanceNorm(2 * width), nn.ReLU()]
        layers += [residual_block(4 * ngf) for _ in range(n_blocks)]
        for width in (2 * ngf, ngf):
            transposed = nn.ConvTranspose2d(
                2 * width, width, 3, stride=2, padding=1, output_padding=1
            )
            layers += [transposed, InstanceNorm(width), nn.ReLU()]
        layers += [nn.ReflectionPad2d(3), nn.Conv2d(ngf, RGB, 7), nn.Tanh()]
        self.model = nn.Sequential(*layers)

    def restore(self, image: Tensor) -> list[Tensor]:
        """The restored image alone."""
        blurred = to_signed(image)
        return [to_unsigned(blurred + self.model(blurred))]


class PatchDiscriminator(nn.Module):
    """Judges overlapping patches of an image, which are the larger the more layers there are."""

    def __init__(self, ndf: int = 64, n_layers: int = 3) -> None:
        super().__init__()
        check_at_least('PatchDiscriminator', 1, ndf=ndf, n_layers=n_layers)
        widths = [ndf * min(2**k, LARGEST_FACTOR) for k in range(n_layers + 1)]
        layers: list[nn.Module] = [_judging(RGB, ndf, 2), nn.LeakyReLU(SLOPE)]
        for k, (narrow, wide) in enumerate(zip(widths, widths[1:], strict=False), start=1):
            stride = 1 if k == n_layers else 2
            layers += [_judging(narrow, wide, stride), InstanceNorm(wide), nn.LeakyReLU(SLOPE)]
        layers.append(_judging(widths[-1], 1, 1))
        self.model = nn.Sequential(*layers)

    def forward(self, image: Tensor) -> Tensor:
        """A score for each patch (B, 1, H', W') of images (B, 3, H, W) in [0, 1]."""
        return self.model(to_signed(image))


class DoubleScaleDiscriminator(nn.Module):
    """DeblurGAN-v2's: one discriminator of patches and one of (nearly) whole images.

    The scores of the second are repeated to the number of the first, so that both count alike.
    """

    def __init__(self, ndf: int = 64, patch_layers: int = 3, full_layers: int = 5) -> None:
        super().__init__()
        self.patch = PatchDiscriminator(ndf, patch_layers)
        self.full = PatchDiscriminator(ndf, full_layers)

    def forward(self, image: Tensor) -> Tensor:
        """Scores (B, 2, H', W') of images (B, 3, H, W) in [0, 1]."""
        patch, full = self.patch(image), self.full(image)
        repeated = nn.functional.interpolate(full, size=tuple(patch.shape[-2:]))
        return torch.cat([patch, repeated], dim=1)


def _judging(in_channels: int, channels: int, stride: int) -> nn.Conv2d:
    return nn.Conv2d(in_channels, channels, 4, stride=stride, padding=2)
