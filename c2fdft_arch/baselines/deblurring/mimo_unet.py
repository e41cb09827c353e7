"""MIMO-UNet: one U-Net that takes and gives the image at three scales.

Cho, Ji, Hong, Jung and Ko, "Rethinking Coarse-to-Fine Approach in Single Image Deblurring" (ICCV
2021).
"""

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from c2fdft_arch.baselines.blocks.convolutions import Residual
from c2fdft_arch.baselines.blocks.restoration_network import (
    RGB,
    RestorationNetwork,
    check_at_least,
)

SCALES = 3
FLIPS: tuple[tuple[int, ...], ...] = ((), (-1,), (-2,), (-2, -1))


def conv(
    in_channels: int,
    channels: int,
    kernel_size: int,
    stride: int = 1,
    relu: bool = True,
    transposed: bool = False,
) -> nn.Sequential:
    """A convolution that keeps the size or halves it, or a transposed one that doubles it."""
    kind = nn.ConvTranspose2d if transposed else nn.Conv2d
    padding = kernel_size // 2 - transposed
    convolution = kind(in_channels, channels, kernel_size, stride=stride, padding=padding)
    layers = nn.Sequential(convolution, *([nn.ReLU()] if relu else []))
    return nn.Sequential(OrderedDict(main=layers))


def residual_block(channels: int) -> Residual:
    """Two 3x3 convolutions, and the input added."""
    layers = nn.Sequential(conv(channels, channels, 3), conv(channels, channels, 3, relu=False))
    return Residual(OrderedDict(main=layers))


def residual_blocks(channels: int, count: int) -> nn.Sequential:
    """A level of the encoder or the decoder."""
    layers = nn.Sequential(*(residual_block(channels) for _ in range(count)))
    return nn.Sequential(OrderedDict(layers=layers))


class ShallowFeatures(nn.Module):
    """Features of a smaller copy of the image, which is among them (the paper's SCM)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.main = nn.Sequential(
            conv(RGB, channels // 4, 3),
            conv(channels // 4, channels // 2, 1),
            conv(channels // 2, channels // 2, 3),
            conv(channels // 2, channels - RGB, 1),
        )
        self.conv = conv(channels, channels, 1, relu=False)

    def forward(self, image: Tensor) -> Tensor:
        """Features (B, `channels`, H, W) of (B, 3, H, W)."""
        return self.conv(torch.cat([image, self.main(image)], dim=1))


class FeatureAttention(nn.Module):
    """Lets features of the smaller image emphasise those of the encoder (the paper's FAM)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.merge = conv(channels, channels, 3, relu=False)

    def forward(self, encoded: Tensor, shallow: Tensor) -> Tensor:
        """Features of the same shape as both."""
        return encoded + self.merge(encoded * shallow)


class ScaleFusion(nn.Module):
    """Features of all encoder levels for one level of the decoder (the paper's AFF)."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            conv(in_channels, channels, 1), conv(channels, channels, 3, relu=False)
        )

    def forward(self, levels: list[Tensor], size: torch.Size) -> Tensor:
        """Features (B, `channels`, *size); the levels are brought to it by the nearest pixel."""
        return self.conv(torch.cat([_resized(level, size) for level in levels], dim=1))


class MIMOUNet(RestorationNetwork):
    """MIMO-UNet; with `num_res: 20, dropout: 0.1` MIMO-UNet+, and with `self_ensemble` besides ++.

    `self_ensemble` averages, in evaluation, the results of the image and its three flips. All
    outputs: the images at full, half and quarter size.
    """

    size_multiple = 4

    def __init__(
        self,
        num_res: int = 8,
        base_channel: int = 32,
        dropout: float = 0.0,
        self_ensemble: bool = False,
        all_outputs: bool = False,
    ) -> None:
        super().__init__(all_outputs)
        check_at_least('MIMOUNet', 1, num_res=num_res)
        check_at_least('MIMOUNet', 4, base_channel=base_channel)
        self.self_ensemble = self_ensemble
        widths = [base_channel * 2**k for k in range(SCALES)]
        narrow, middle, wide = widths
        self.Encoder = nn.ModuleList(residual_blocks(width, num_res) for width in widths)
        self.Decoder = nn.ModuleList(residual_blocks(width, num_res) for width in widths[::-1])
        self.feat_extract = nn.ModuleList(
            [
                conv(RGB, narrow, 3),
                conv(narrow, middle, 3, stride=2),
                conv(middle, wide, 3, stride=2),
                conv(wide, middle, 4, stride=2, transposed=True),
                conv(middle, narrow, 4, stride=2, transposed=True),
                conv(narrow, RGB, 3, relu=False),
            ]
        )
        self.Convs = nn.ModuleList([conv(wide, middle, 1), conv(middle, narrow, 1)])
        self.ConvsOut = nn.ModuleList(
            [conv(wide, RGB, 3, relu=False), conv(middle, RGB, 3, relu=False)]
        )
        self.AFFs = nn.ModuleList(ScaleFusion(sum(widths), width) for width in widths[:2])
        self.FAM1, self.SCM1 = FeatureAttention(wide), ShallowFeatures(wide)
        self.FAM2, self.SCM2 = FeatureAttention(middle), ShallowFeatures(middle)
        self.dropout = nn.Dropout2d(dropout)

    def restore(self, image: Tensor) -> list[Tensor]:
        """The images at full, half and quarter size."""
        if self.training or not self.self_ensemble:
            return self._restore_once(image)
        results = [self._restore_once(image.flip(dims))[0].flip(dims) for dims in FLIPS]
        return [torch.stack(results).mean(dim=0)]

    def _restore_once(self, image: Tensor) -> list[Tensor]:
        half = image[..., ::2, ::2]
        quarter = half[..., ::2, ::2]
        encoded = self._encode(image, half, quarter)
        full_skip, half_skip = (
            self.dropout(fusion(encoded, level.shape[-2:]))
            for fusion, level in zip(self.AFFs, encoded[:2], strict=True)
        )
        features = self.Decoder[0](encoded[2])
        outputs = [quarter + self.ConvsOut[0](features)]
        features = torch.cat([self.feat_extract[3](features), half_skip], dim=1)
        features = self.Decoder[1](self.Convs[0](features))
        outputs.insert(0, half + self.ConvsOut[1](features))
        features = torch.cat([self.feat_extract[4](features), full_skip], dim=1)
        features = self.Decoder[2](self.Convs[1](features))
        outputs.insert(0, image + self.feat_extract[5](features))
        return outputs

    def _encode(self, image: Tensor, half: Tensor, quarter: Tensor) -> list[Tensor]:
        """Features at full, half and quarter size."""
        full_size = self.Encoder[0](self.feat_extract[0](image))
        features = self.FAM2(self.feat_extract[1](full_size), self.SCM2(half))
        half_size = self.Encoder[1](features)
        features = self.FAM1(self.feat_extract[2](half_size), self.SCM1(quarter))
        return [full_size, half_size, self.Encoder[2](features)]


def _resized(x: Tensor, size: torch.Size) -> Tensor:
    return x if x.shape[-2:] == size else interpolate(x, size=tuple(size))
