"""HINet: two U-Nets one after the other, half of whose features are instance-normalised.

Chen, Lu, Zhang, Chu and Chen, "HINet: Half Instance Normalization Network for Image Restoration"
(CVPR workshops 2021). Supervised attention and cross-stage fusion come from MPRNet (Zamir et al.,
2021).
"""

import torch
from torch import Tensor, nn

from c2fdft_arch.baselines.blocks.convolutions import UpBlock, conv3x3
from c2fdft_arch.baselines.blocks.restoration_network import (
    RGB,
    RestorationNetwork,
    check_at_least,
)


class ConvBlock(nn.Module):
    """Two convolutions beside a 1x1 shortcut; the first half of the first's channels normalised."""

    def __init__(
        self, in_channels: int, channels: int, slope: float, normalised: bool = False
    ) -> None:
        super().__init__()
        self.identity = nn.Conv2d(in_channels, channels, 1)
        self.conv_1 = conv3x3(in_channels, channels)
        self.conv_2 = conv3x3(channels, channels)
        self.activation = nn.LeakyReLU(slope)
        if normalised:
            self.norm = nn.InstanceNorm2d(channels // 2, affine=True)
        self.normalised = normalised

    def forward(self, x: Tensor) -> Tensor:
        """Features (B, `channels`, H, W)."""
        features = self.conv_1(x)
        if self.normalised:
            first, second = features.chunk(2, dim=1)
            features = torch.cat([self.norm(first), second], dim=1)
        return self.activation(self.conv_2(self.activation(features))) + self.identity(x)


class DownBlock(ConvBlock):
    """An encoder level: may take the features of the first U-Net, and halves the size."""

    def __init__(
        self, in_channels: int, channels: int, slope: float, normalised: bool, fuses: bool
    ) -> None:
        super().__init__(in_channels, channels, slope, normalised)
        if fuses:
            self.csff_enc = conv3x3(channels, channels)
            self.csff_dec = conv3x3(channels, channels)
        self.downsample = nn.Conv2d(channels, channels, 4, stride=2, padding=1, bias=False)

    def forward(  # type: ignore[override]
        self, x: Tensor, earlier: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Features at half the size, and those at the full one for the skip connection.

        `earlier` are the features that the first U-Net's encoder and decoder have at this level.
        """
        features = super().forward(x)
        if earlier is not None:
            features = features + self.csff_enc(earlier[0]) + self.csff_dec(earlier[1])
        return self.downsample(features), features


class SupervisedAttention(nn.Module):
    """Makes the first U-Net's image, and features for the second that the image attends to."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = conv3x3(channels, channels)
        self.conv2 = conv3x3(channels, RGB)
        self.conv3 = conv3x3(RGB, channels)

    def forward(self, features: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
        """Features of the same shape, and the restored image."""
        restored = image + self.conv2(features)
        attention = torch.sigmoid(self.conv3(restored))
        return features + attention * self.conv1(features), restored


class HINet(RestorationNetwork):
    """Two U-Nets of `depth` levels, the first with `wf` channels.

    Levels `hin_position_left` to `hin_position_right` of the encoders are half normalised: 0 to 4
    for deraining, 3 to 4 for deblurring and denoising. All outputs: the images of the second and of
    the first U-Net.
    """

    def __init__(
        self,
        wf: int = 64,
        depth: int = 5,
        relu_slope: float = 0.2,
        hin_position_left: int = 0,
        hin_position_right: int = 4,
        all_outputs: bool = False,
    ) -> None:
        super().__init__(all_outputs)
        check_at_least('HINet', 2, wf=wf, depth=depth)
        self.size_multiple = 2 ** (depth - 1)
        self.smallest_side = 2**depth  # one pixel cannot be instance-normalised
        normalised = [hin_position_left <= k <= hin_position_right for k in range(depth)]
        channels = [wf * 2**k for k in range(depth)]
        for unet in (1, 2):
            self.add_module(f'conv_0{unet}', conv3x3(RGB, wf))
            fuses = unet == 2
            down: list[nn.Module] = [
                DownBlock(channels[max(k - 1, 0)], channels[k], relu_slope, normalised[k], fuses)
                for k in range(depth - 1)
            ]
            down.append(ConvBlock(channels[-2], channels[-1], relu_slope, normalised[-1]))
            levels = range(depth - 2, -1, -1)
            widths = [(channels[k + 1], channels[k]) for k in levels]
            up = [UpBlock(ConvBlock(*pair, relu_slope), *pair) for pair in widths]
            skips = [conv3x3(channels[k], channels[k]) for k in levels]
            self.add_module(f'down_path_{unet}', nn.ModuleList(down))
            self.add_module(f'up_path_{unet}', nn.ModuleList(up))
            self.add_module(f'skip_conv_{unet}', nn.ModuleList(skips))
        self.sam12 = SupervisedAttention(wf)
        self.cat12 = nn.Conv2d(2 * wf, wf, 1)
        self.last = conv3x3(wf, RGB)

    def restore(self, image: Tensor) -> list[Tensor]:
        """The images of the second and of the first U-Net."""
        features, encoded, decoded = self._unet(1, self.conv_01(image))
        attended, first = self.sam12(features, image)
        features = self.cat12(torch.cat([self.conv_02(image), attended], dim=1))
        features, _, _ = self._unet(2, features, list(zip(encoded, decoded, strict=True)))
        return [image + self.last(features), first]

    def _unet(
        self, unet: int, x: Tensor, earlier: list[tuple[Tensor, Tensor]] | None = None
    ) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """Its features, and those of its encoder and decoder at each level, from the full size."""
        down, up, skips = (
            self.get_submodule(f'{name}_{unet}') for name in ('down_path', 'up_path', 'skip_conv')
        )
        encoded: list[Tensor] = []
        for k, block in enumerate(down[:-1]):  # type: ignore[index, arg-type]
            x, features = block(x, earlier[k] if earlier else None)
            encoded.append(features)
        x = down[-1](x)  # type: ignore[index]
        decoded: list[Tensor] = []
        for block, skip, features in zip(up, skips, reversed(encoded), strict=True):  # type: ignore[call-overload]
            x = block(x, skip(features))
            decoded.insert(0, x)
        return x, encoded, decoded
