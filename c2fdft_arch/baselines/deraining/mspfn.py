"""MSPFN: the image at three scales, whose rain features are fused from the smallest up.

Jiang, Wang, Yi, Chen, Huang, Luo, Ma and Jiang, "Multi-Scale Progressive Fusion Network for Single
Image Deraining" (CVPR 2020). Parameters are named as the variables of the TensorFlow checkpoint.
"""

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, prelu

from c2fdft_arch.baselines.blocks.restoration_network import (
    RGB,
    RestorationNetwork,
    check_at_least,
)
from c2fdft_arch.baselines.blocks.tensorflow import (
    SameConv2d,
    SameConvTranspose2d,
    load_variables,
)
from c2fdft_arch.common.option_parsing import OptionError

SCOPE = 'generator/'
REDUCTION = 4
SCALES = ('4', '2', '')
"""A quarter, half and full size, as they appear in the names."""
MEMORY = {'4': 1, '2': 2, '': 4}
"""Channels of the memory at each scale, as multiples of the network's."""


class Transposed(SameConvTranspose2d):
    """A transposed 3x3 convolution with PReLU; stride 2 doubles the size."""

    def __init__(self, in_channels: int, channels: int, stride: int = 1) -> None:
        super().__init__(in_channels, channels, 3, stride, bias=False)
        self.alpha = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        """Features (B, `channels`, ...)."""
        return prelu(super().forward(x), self.alpha)


class Conv(SameConv2d):
    """A convolution with PReLU."""

    def __init__(
        self, in_channels: int, channels: int, kernel: int, stride: int = 1, bias: bool = True
    ) -> None:
        super().__init__(in_channels, channels, kernel, stride, bias=bias)
        self.alpha = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Features (B, `channels`, ...)."""
        return prelu(super().forward(x), self.alpha)


class Memory(nn.Module):
    """A convolutional long short-term memory in its first step, as the paper uses it."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.channels = channels
        gates = SameConv2d(in_channels + channels, 4 * channels, 3)
        self.convLSTM = nn.Sequential(OrderedDict(LSTM_conv=gates))

    def forward(self, x: Tensor) -> Tensor:
        """The hidden state (B, `channels`, H, W)."""
        empty = x.new_zeros(x.shape[0], self.channels, *x.shape[-2:])
        write, new, _, read = self.convLSTM(torch.cat([x, empty], dim=1)).chunk(4, dim=1)
        return torch.tanh(torch.sigmoid(write) * torch.tanh(new)) * torch.sigmoid(read)


class ChannelAttentionBlock(nn.Module):
    """Two convolutions, their channels weighted by their means, and the input added."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv2d = Conv(channels, channels, 3)
        self.conv2d_1 = SameConv2d(channels, channels, 3)
        self.conv2d_2 = Conv(channels, channels // REDUCTION, 1)
        self.conv2d_3 = SameConv2d(channels // REDUCTION, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Features of the same shape."""
        features = self.conv2d_1(self.conv2d(x))
        weights = self.conv2d_3(self.conv2d_2(features.mean(dim=(2, 3), keepdim=True)))
        return x + features * torch.sigmoid(weights)


class Fusion(nn.Module):
    """A scale of a fusion module: what rises from smaller scales, and blocks at half the size."""

    def __init__(self, channels: int, scale: str, number: int, blocks: int) -> None:
        super().__init__()
        self.ups = {'4': [], '2': ['upBCM4_2'], '': ['upBCM4to1', 'upBCM2to1']}[scale]
        self.ups = [f'{name}_{number}' for name in self.ups]
        for name in self.ups:
            self.add_module(name, Transposed(channels, channels, 2))
        self.down_name, self.up_name = f'down{scale}_{number + 1}', f'up_{number + 1}'
        self.add_module(self.down_name, Conv(channels, channels, 3, 2, bias=False))
        self.block_names = [f'group_{number + 1}_RCAB{k + 1}' for k in range(blocks)]
        for name in self.block_names:
            self.add_module(name, ChannelAttentionBlock(channels))
        self.add_module(self.up_name, Transposed(2 * channels, channels, 2))

    def forward(self, x: Tensor, smaller: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Features of the same shape, and those of smaller scales at this one's size."""
        risen = [
            self.get_submodule(name)(other) for name, other in zip(self.ups, smaller, strict=True)
        ]
        short = features = self.get_submodule(self.down_name)(sum(risen, x))
        for name in self.block_names:
            features = self.get_submodule(name)(features)
        return x + self.get_submodule(self.up_name)(torch.cat([short, features], dim=1)), risen


class MSPFN(RestorationNetwork):
    """`modules` fusion modules with `blocks` attention blocks each at 1/4, 1/2 and full size.

    The defaults are the published network (M17N1). `weights` is a file of a checkpoint's variables
    (see `load_variables`).
    """

    size_multiple = 8

    def __init__(
        self,
        modules: int = 17,
        blocks: Sequence[int] = (1, 1, 1),
        channels: int = 64,
        weights: str | None = None,
        all_outputs: bool = False,
    ) -> None:
        super().__init__(all_outputs)
        check_at_least('MSPFN', 1, modules=modules)
        check_at_least('MSPFN', REDUCTION, channels=channels)
        if len(blocks) != len(SCALES) or min(blocks) < 1:
            raise OptionError(
                f'network_g: MSPFN: blocks: {list(blocks)} must be {len(SCALES)} numbers above 0.'
            )
        self.modules_count = modules
        half = channels // 2
        for scale in SCALES:
            self.add_module(f'rnn{scale or 1}', Transposed(RGB, channels))
            self.add_module(f'rnn_recon{scale}', Transposed(2 * channels, channels))
        memory = self.residual_memory = nn.Module()
        for scale in SCALES:
            remembered = MEMORY[scale] * channels
            memory.add_module(f'rain{scale}_res1', Transposed(channels, half))
            memory.add_module(f'lstm_group{scale}', Memory(half, remembered))
            memory.add_module(f'rain{scale}_res2', Transposed(remembered, channels))
        for name in ('upRMM4_2', 'upRMM4_1', 'upRMM2_1'):
            memory.add_module(name, Transposed(channels, channels, 2))
        for number in range(modules):
            for scale, count in zip(SCALES, blocks, strict=True):
                self.add_module(f'BCM{scale}_{number}', Fusion(channels, scale, number, count))
        self.up4_2 = Transposed(channels, channels, 2)
        self.up2_1 = Transposed(2 * channels, channels, 2)
        self.rnn5 = Transposed(2 * channels, half)
        self.rnn7 = SameConvTranspose2d(half, RGB, 3, bias=False)
        if weights is not None:
            load_variables(self, weights, SCOPE)

    def restore(self, image: Tensor) -> list[Tensor]:
        """The restored image alone."""
        # The authors' images are BGR in [-1, 1].
        rainy = 2 * image.flip(1) - 1
        remembered = self._remember(rainy)
        features = list(remembered)
        for number in range(self.modules_count):
            smaller: list[Tensor] = []
            for k, scale in enumerate(SCALES):
                fusion = self.get_submodule(f'BCM{scale}_{number}')
                features[k], risen = fusion(features[k], smaller)
                smaller = [*risen, features[k]]
        quarter, half, full = (
            self.get_submodule(f'rnn_recon{scale}')(torch.cat([own, memory], dim=1))
            for scale, own, memory in zip(SCALES, features, remembered, strict=True)
        )
        half = self.up2_1(torch.cat([self.up4_2(quarter), half], dim=1))
        rain = self.rnn7(self.rnn5(torch.cat([full, half], dim=1)))
        return [((rainy - rain).flip(1) + 1) / 2]

    def _remember(self, rainy: Tensor) -> list[Tensor]:
        """Features at a quarter, half and full size, after the memory of each."""
        memory = self.residual_memory
        remembered: list[Tensor] = []
        risen: list[Tensor] = []
        for scale in SCALES:
            shrunk = avg_pool2d(rainy, int(scale)) if scale else rainy
            rain = self.get_submodule(f'rnn{scale or 1}')(shrunk)
            if scale == '2':
                risen = [memory.upRMM4_2(remembered[0])]
            elif scale == '':
                risen = [memory.upRMM2_1(remembered[1]), memory.upRMM4_1(risen[0])]
            features = getattr(memory, f'rain{scale}_res1')(sum(risen, rain))
            features = getattr(memory, f'lstm_group{scale}')(features)
            remembered.append(rain + getattr(memory, f'rain{scale}_res2')(features))
        return remembered
