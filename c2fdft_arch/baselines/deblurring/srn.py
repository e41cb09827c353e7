"""SRN: one network on the image at a quarter, half and full size, each starting from the last.

Tao, Gao, Shen, Wang and Jia, "Scale-recurrent Network for Deep Image Deblurring" (CVPR 2018).
Parameters are named as the variables of the TensorFlow checkpoints.
"""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from c2fdft_arch.baselines.blocks.convolutions import Residual
from c2fdft_arch.baselines.blocks.restoration_network import (
    RGB,
    RestorationNetwork,
    check_at_least,
)
from c2fdft_arch.baselines.blocks.tensorflow import (
    SameConv2d,
    SameConvTranspose2d,
    load_variables,
    resize_corners,
)
from c2fdft_arch.common.messages import nearest
from c2fdft_arch.common.option_parsing import OptionError

Variant = Literal['color', 'gray', 'lstm']
SCALES = (4, 2, 1)
BLOCKS = 3
FORGET_BIAS = 1.0
SCOPE = 'g_net/'


def residual_block(channels: int) -> Residual:
    """Two 5x5 convolutions with a ReLU between them, and the input added."""
    layers = OrderedDict(
        conv1=SameConv2d(channels, channels, 5),
        relu=nn.ReLU(),
        conv2=SameConv2d(channels, channels, 5),
    )
    return Residual(layers)


class ConvLSTM(nn.Module):
    """A long short-term memory of 3x3 convolutions."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.LSTM_conv = SameConv2d(in_channels + channels, 4 * channels, 3)

    def forward(self, x: Tensor, cell: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """The new cell and hidden state, which is also the output."""
        gates = self.LSTM_conv(torch.cat([x, hidden], dim=1))
        write, new, forget, read = gates.chunk(4, dim=1)
        kept = cell * torch.sigmoid(forget + FORGET_BIAS)
        cell = kept + torch.sigmoid(write) * torch.tanh(new)
        return cell, torch.tanh(cell) * torch.sigmoid(read)


class SRN(RestorationNetwork):
    """`variant: lstm` remembers features between scales, `gray` and `color` do not.

    `color` sees the three channels together; the others restore each on its own. `weights` is a
    file of a checkpoint's variables (see `load_variables`). All outputs: the images at full, half
    and quarter size.
    """

    size_multiple = 16

    def __init__(
        self,
        variant: Variant = 'color',
        channels: int = 32,
        weights: str | None = None,
        all_outputs: bool = False,
    ) -> None:
        super().__init__(all_outputs)
        allowed = get_args(Variant)
        if variant not in allowed:
            raise OptionError(
                f'network_g: SRN: variant: {variant} is not allowed{nearest(str(variant), allowed)}'
                f'. Allowed: {", ".join(allowed)}.'
            )
        check_at_least('SRN', 1, channels=channels)
        self.colours = RGB if variant == 'color' else 1
        widths = [2 * self.colours, channels, 2 * channels, 4 * channels]
        for level in (1, 2, 3):
            width = widths[level]
            stride = 1 if level == 1 else 2
            self.add_module(f'enc{level}_1', SameConv2d(widths[level - 1], width, 5, stride))
            for k in range(1, BLOCKS + 1):
                self.add_module(f'enc{level}_{k + 1}', residual_block(width))
                self.add_module(f'dec{level}_{k}', residual_block(width))
            if level > 1:
                up = SameConvTranspose2d(width, widths[level - 1], 4, 2)
                self.add_module(f'dec{level - 1}_4', up)
        self.dec1_0 = SameConv2d(channels, self.colours, 5)
        self.convLSTM = ConvLSTM(widths[-1], widths[-1]) if variant == 'lstm' else None
        if weights is not None:
            load_variables(self, weights, SCOPE)

    def restore(self, image: Tensor) -> list[Tensor]:
        """The images at full, half and quarter size."""
        batch, _, height, width = image.shape
        blurred = image.reshape(-1, self.colours, height, width)
        result = blurred
        state: list[Tensor] | None = None
        results: list[Tensor] = []
        for scale in SCALES:
            size = height // scale, width // scale
            start = resize_corners(result, size).detach()
            result, state = self._restore(resize_corners(blurred, size), start, state)
            results.insert(0, result.reshape(batch, RGB, *size))
        return results

    def _restore(
        self, blurred: Tensor, start: Tensor, state: list[Tensor] | None
    ) -> tuple[Tensor, list[Tensor] | None]:
        """The image at one scale, and the state of the memory, if there is one."""
        features = torch.cat([blurred, start], dim=1)
        skips = []
        for level in (1, 2, 3):
            first = self.get_submodule(f'enc{level}_1')
            features = self._blocks(f'enc{level}', torch.relu(first(features)), (2, 3, 4))
            skips.append(features)
        if self.convLSTM is not None:
            size = features.shape[-2:]
            state = state or [torch.zeros_like(features)] * 2
            cell, hidden = (resize_corners(part, size) for part in state)
            state = list(self.convLSTM(features, cell, hidden))
            features = state[1]
        for level in (3, 2, 1):
            if level < 3:
                up = self.get_submodule(f'dec{level}_4')
                features = torch.relu(up(features)) + skips[level - 1]
            features = self._blocks(f'dec{level}', features, (3, 2, 1))
        return self.dec1_0(features), state

    def _blocks(self, part: str, features: Tensor, numbers: Sequence[int]) -> Tensor:
        for number in numbers:
            features = self.get_submodule(f'{part}_{number}')(features)
        return features
