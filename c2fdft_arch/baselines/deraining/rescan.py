"""RESCAN: rain layers removed one after the other by dilated recurrent units.

Li, Wu, Lin, Liu and Zha, "Recurrent Squeeze-and-Excitation Context Aggregation Net for Single Image
Deraining" (ECCV 2018). The gated recurrent unit and full prediction, the paper's best combination.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu

from c2fdft_arch.baselines.blocks.convolutions import conv3x3
from c2fdft_arch.baselines.blocks.restoration_network import (
    RGB,
    RestorationNetwork,
    check_at_least,
)

SLOPE = 0.2
SQUEEZED_CHANNELS = 6
UNDILATED_LAYERS = 3
"""The first recurrent unit and the two convolutions of the decoder."""


class SqueezeExcitation(nn.Module):
    """Scales each channel by a factor in (0, 1) that follows from the means of all channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc = nn.Sequential(
            nn.Linear(channels, SQUEEZED_CHANNELS),
            nn.ReLU(),
            nn.Linear(SQUEEZED_CHANNELS, channels),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W), scaled."""
        return x * self.fc(x.mean(dim=(2, 3)))[:, :, None, None]


class ConvGRU(nn.Module):
    """A gated recurrent unit of convolutions, dilated on the features of this stage."""

    def __init__(self, in_channels: int, channels: int, dilation: int) -> None:
        super().__init__()
        for gate in 'zrn':
            dilated = nn.Conv2d(in_channels, channels, 3, padding=dilation, dilation=dilation)
            self.add_module(f'conv_x{gate}', dilated)
            self.add_module(f'conv_h{gate}', conv3x3(channels, channels))
        self.se = SqueezeExcitation(channels)

    def forward(self, x: Tensor, hidden: Tensor | None) -> Tensor:
        """The new hidden state (B, C, H, W), which is also the output."""
        update, candidate = self.conv_xz(x), self.conv_xn(x)
        if hidden is None:
            hidden = torch.sigmoid(update) * torch.tanh(candidate)
        else:
            update = torch.sigmoid(update + self.conv_hz(hidden))
            reset = torch.sigmoid(self.conv_xr(x) + self.conv_hr(hidden))
            candidate = torch.tanh(candidate + self.conv_hn(reset * hidden))
            hidden = hidden + update * (candidate - hidden)
        return leaky_relu(self.se(hidden), SLOPE)


class RESCAN(RestorationNetwork):
    """Every stage predicts the whole rain layer from what the stage before left of the image.

    `depth` counts the layers of a stage, of which all but three have dilations 1, 2, 4, ...
    All outputs: the images of the `stages`, the last first.
    """

    def __init__(
        self, channels: int = 24, stages: int = 4, depth: int = 7, all_outputs: bool = False
    ) -> None:
        super().__init__(all_outputs)
        check_at_least('RESCAN', 1, channels=channels, stages=stages)
        check_at_least('RESCAN', UNDILATED_LAYERS, depth=depth)
        self.stages = stages
        dilated = [ConvGRU(channels, channels, 2**k) for k in range(depth - UNDILATED_LAYERS)]
        self.rnns = nn.ModuleList([ConvGRU(RGB, channels, 1), *dilated])
        self.dec = nn.Sequential(
            conv3x3(channels, channels),
            SqueezeExcitation(channels),
            nn.LeakyReLU(SLOPE),
            nn.Conv2d(channels, RGB, 1),
        )

    def restore(self, image: Tensor) -> list[Tensor]:
        """The images of all stages, the last first."""
        states: list[Tensor | None] = [None] * len(self.rnns)
        images = [image]
        for _ in range(self.stages):
            features = images[-1]
            for k, unit in enumerate(self.rnns):
                features = states[k] = unit(features, states[k])
            images.append(image - self.dec(features))
        return images[:0:-1]
