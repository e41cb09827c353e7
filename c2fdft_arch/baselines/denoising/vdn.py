"""VDN: the clean image and the noise variance as distributions, learned together.

Yue, Yong, Zhao, Meng and Zhang, "Variational Denoising Network: Toward Blind Noise Modeling and
Removal" (NeurIPS 2019).
"""

from collections import OrderedDict

from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from c2fdft_arch.baselines.blocks.convolutions import UpBlock, conv3x3
from c2fdft_arch.baselines.blocks.restoration_network import (
    RGB,
    RestorationNetwork,
    check_at_least,
)

VARIANCE_CHANNELS = 64


def conv_block(in_channels: int, channels: int, slope: float) -> nn.Sequential:
    """Two 3x3 convolutions with leaky ReLUs."""
    layers = nn.Sequential(
        conv3x3(in_channels, channels),
        nn.LeakyReLU(slope),
        conv3x3(channels, channels),
        nn.LeakyReLU(slope),
    )
    return nn.Sequential(OrderedDict(block=layers))


class DenoisingUNet(nn.Module):
    """The noise and the logarithm of the clean image's variance (the paper's D-Net)."""

    def __init__(self, depth: int, width: int, slope: float) -> None:
        super().__init__()
        widths = [width * 2**k for k in range(depth)]
        pairs = list(zip([RGB, *widths], widths, strict=False))
        self.down_path = nn.ModuleList(conv_block(*pair, slope) for pair in pairs)
        self.up_path = nn.ModuleList(
            UpBlock(conv_block(wide, narrow, slope), wide, narrow)
            for narrow, wide in reversed(pairs[1:])
        )
        self.last = conv3x3(width, 2 * RGB)

    def forward(self, image: Tensor) -> Tensor:
        """(B, 6, H, W) of (B, 3, H, W)."""
        skips = [self.down_path[0](image)]
        for block in self.down_path[1:]:  # type: ignore[union-attr]
            skips.append(block(avg_pool2d(skips[-1], 2)))
        features = skips.pop()
        for block in self.up_path:
            features = block(features, skips.pop())
        return self.last(features)


class VarianceNet(nn.Module):
    """Logarithms of shape and scale of the noise variance's distribution (the paper's S-Net)."""

    def __init__(self, depth: int, slope: float) -> None:
        super().__init__()
        self.conv1 = conv3x3(RGB, VARIANCE_CHANNELS)
        self.activation = nn.LeakyReLU(slope)
        middle: list[nn.Module] = []
        for _ in range(depth - 2):
            middle += [conv3x3(VARIANCE_CHANNELS, VARIANCE_CHANNELS), nn.LeakyReLU(slope)]
        self.mid_layer = nn.Sequential(*middle)
        self.conv_last = conv3x3(VARIANCE_CHANNELS, 2 * RGB)

    def forward(self, image: Tensor) -> Tensor:
        """(B, 6, H, W) of (B, 3, H, W)."""
        return self.conv_last(self.mid_layer(self.activation(self.conv1(image))))


class VDN(RestorationNetwork):
    """A U-Net of `dep_U` levels for the image, a plain network of `dep_S` layers for the variance.

    All outputs: the image (the mean of its distribution), the logarithm of its variance, the
    logarithms of shape alpha and scale beta of the noise variance's inverse gamma distribution, and
    the noisy image.
    """

    def __init__(
        self,
        wf: int = 64,
        dep_S: int = 5,
        dep_U: int = 4,
        slope: float = 0.2,
        all_outputs: bool = False,
    ) -> None:
        super().__init__(all_outputs)
        check_at_least('VDN', 1, wf=wf, dep_U=dep_U)
        check_at_least('VDN', 2, dep_S=dep_S)
        self.size_multiple = 2 ** (dep_U - 1)
        self.DNet = DenoisingUNet(dep_U, wf, slope)
        self.SNet = VarianceNet(dep_S, slope)

    def restore(self, image: Tensor) -> list[Tensor]:
        """The image; in training, what the loss needs of the two distributions as well."""
        noise, log_variance = self.DNet(image).chunk(2, dim=1)
        if not self.returns_all:
            return [image - noise]
        return [image - noise, log_variance, *self.SNet(image).chunk(2, dim=1), image]
