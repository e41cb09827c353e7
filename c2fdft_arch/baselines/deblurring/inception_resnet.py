"""Inception-ResNet-v2, the backbone of DeblurGAN-v2.

Szegedy, Ioffe, Vanhoucke and Alemi, "Inception-v4, Inception-ResNet and the Impact of Residual
Connections on Learning" (2017). Parameters are named as in the ImageNet checkpoint of the
package pretrainedmodels.
"""

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import relu

from c2fdft_arch.baselines.blocks.restoration_network import RGB
from c2fdft_arch.baselines.blocks.statistics_norm import BatchNorm

Kernel = int | tuple[int, int]
CLASSES = 1000


def conv(
    in_channels: int, channels: int, kernel: Kernel, stride: int = 1, same: bool = True
) -> nn.Sequential:
    """A convolution without bias, batch-normalised, with a ReLU; `same` keeps the size."""
    sides = (kernel, kernel) if isinstance(kernel, int) else kernel
    padding = tuple(side // 2 for side in sides) if same else 0
    layers = OrderedDict(
        conv=nn.Conv2d(in_channels, channels, sides, stride=stride, padding=padding, bias=False),
        bn=BatchNorm(channels, eps=1e-3),
        relu=nn.ReLU(),
    )
    return nn.Sequential(layers)


def chain(in_channels: int, *layers: tuple[int, Kernel], halving: bool = False) -> nn.Sequential:
    """Convolutions one after the other, (channels, kernel) each; one alone is not numbered.

    With `halving` the last one halves the size.
    """
    convolutions = []
    for k, (channels, kernel) in enumerate(layers, start=1):
        halves = halving and k == len(layers)
        stride = 2 if halves else 1
        convolutions.append(conv(in_channels, channels, kernel, stride, same=not halves))
        in_channels = channels
    return convolutions[0] if len(convolutions) == 1 else nn.Sequential(*convolutions)


class Branches(nn.Module):
    """Branches side by side, whose features are stacked."""

    def __init__(self, branches: Sequence[nn.Module]) -> None:
        super().__init__()
        self.count = len(branches)
        for k, branch in enumerate(branches):
            self.add_module(f'branch{k}', branch)

    def forward(self, x: Tensor) -> Tensor:
        """The features of all branches."""
        return torch.cat([getattr(self, f'branch{k}')(x) for k in range(self.count)], dim=1)


class ResidualBranches(Branches):
    """Branches, a 1x1 convolution of what they give, and `scale` times that added to the input."""

    def __init__(
        self, channels: int, scale: float, branches: Sequence[nn.Module], stacked: int
    ) -> None:
        super().__init__(branches)
        self.scale = scale
        self.conv2d = nn.Conv2d(stacked, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Features of the same shape."""
        return relu(x + self.scale * self.conv2d(super().forward(x)))


class InceptionResNet(nn.Module):
    """The layers of the network, by name; `repeats` of the two kinds of block that are used.

    The layers behind them (and the classifier) are in the checkpoints, and are not trained.
    """

    def __init__(self, repeats: tuple[int, int] = (10, 20), unused_repeats: int = 9) -> None:
        super().__init__()
        self.conv2d_1a = conv(RGB, 32, 3, stride=2, same=False)
        self.conv2d_2a = conv(32, 32, 3, same=False)
        self.conv2d_2b = conv(32, 64, 3)
        self.maxpool_3a = nn.MaxPool2d(3, stride=2)
        self.conv2d_3b = conv(64, 80, 1)
        self.conv2d_4a = conv(80, 192, 3, same=False)
        self.maxpool_5a = nn.MaxPool2d(3, stride=2)
        pooled = nn.Sequential(
            nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False), conv(192, 64, 1)
        )
        self.mixed_5b = Branches(
            [
                chain(192, (96, 1)),
                chain(192, (48, 1), (64, 5)),
                chain(192, (64, 1), (96, 3), (96, 3)),
                pooled,
            ]
        )
        self.repeat = nn.Sequential(*(block_35() for _ in range(repeats[0])))
        self.mixed_6a = Branches(
            [
                chain(320, (384, 3), halving=True),
                chain(320, (256, 1), (256, 3), (384, 3), halving=True),
                nn.MaxPool2d(3, stride=2),
            ]
        )
        self.repeat_1 = nn.Sequential(*(block_17() for _ in range(repeats[1])))
        self.mixed_7a = Branches(
            [
                chain(1088, (256, 1), (384, 3), halving=True),
                chain(1088, (256, 1), (288, 3), halving=True),
                chain(1088, (256, 1), (288, 3), (320, 3), halving=True),
                nn.MaxPool2d(3, stride=2),
            ]
        )
        self.repeat_2 = nn.Sequential(*(block_8() for _ in range(unused_repeats)))
        self.block8 = block_8()
        self.conv2d_7b = conv(2080, 1536, 1)
        self.last_linear = nn.Linear(1536, CLASSES)
        for unused in (self.repeat_2, self.block8, self.conv2d_7b, self.last_linear):
            unused.requires_grad_(False)


def block_35() -> ResidualBranches:
    """A block at 1/8 of the size."""
    branches = [chain(320, (32, 1)), chain(320, (32, 1), (32, 3))]
    branches.append(chain(320, (32, 1), (48, 3), (64, 3)))
    return ResidualBranches(320, 0.17, branches, 128)


def block_17() -> ResidualBranches:
    """A block at 1/16 of the size."""
    branches = [chain(1088, (192, 1)), chain(1088, (128, 1), (160, (1, 7)), (192, (7, 1)))]
    return ResidualBranches(1088, 0.1, branches, 384)


def block_8() -> ResidualBranches:
    """A block at 1/32 of the size."""
    branches = [chain(2080, (192, 1)), chain(2080, (192, 1), (224, (1, 3)), (256, (3, 1)))]
    return ResidualBranches(2080, 0.2, branches, 448)
