"""PReNet: one shallow residual network applied again and again, with a memory between stages.

Ren, Zuo, Hu, Zhu and Meng, "Progressive Image Deraining Networks: A Better and Simpler Baseline"
(CVPR 2019).
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import relu

from c2fdft_arch.baselines.blocks.convolutions import conv3x3, conv_relu
from c2fdft_arch.baselines.blocks.restoration_network import (
    RGB,
    RestorationNetwork,
    check_at_least,
)

CHANNELS = 32
RESIDUAL_BLOCKS = 5


class PReNet(RestorationNetwork):
    """Each of `recurrent_iter` stages sees the rainy image and the result of the stage before.

    `shared_blocks` is the paper's PReNet_r: one residual block, applied five times in a stage.
    All outputs: the images of the stages, the last first.
    """

    def __init__(
        self, recurrent_iter: int = 6, shared_blocks: bool = False, all_outputs: bool = False
    ) -> None:
        super().__init__(all_outputs)
        check_at_least('PReNet', 1, recurrent_iter=recurrent_iter)
        self.recurrent_iter = recurrent_iter
        self.conv0 = conv_relu(2 * RGB, CHANNELS)
        self.block_names = [f'res_conv{k + 1}' for k in range(RESIDUAL_BLOCKS)]
        if shared_blocks:
            self.block_names = self.block_names[:1] * RESIDUAL_BLOCKS
        for name in dict.fromkeys(self.block_names):
            block = nn.Sequential(*conv_relu(CHANNELS, CHANNELS), *conv_relu(CHANNELS, CHANNELS))
            self.add_module(name, block)
        for gate in 'ifgo':
            activation = nn.Tanh() if gate == 'g' else nn.Sigmoid()
            convolution = conv3x3(2 * CHANNELS, CHANNELS)
            self.add_module(f'conv_{gate}', nn.Sequential(convolution, activation))
        self.conv = nn.Sequential(conv3x3(CHANNELS, RGB))

    def restore(self, image: Tensor) -> list[Tensor]:
        """The images of all stages, the last first."""
        hidden = cell = image.new_zeros(image.shape[0], CHANNELS, *image.shape[-2:])
        stages = [image]
        for _ in range(self.recurrent_iter):
            features = self.conv0(torch.cat([image, stages[-1]], dim=1))
            hidden, cell = self._remember(features, hidden, cell)
            features = hidden
            for name in self.block_names:
                features = relu(features + self.get_submodule(name)(features))
            stages.append(image + self.conv(features))
        return stages[:0:-1]

    def _remember(self, features: Tensor, hidden: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
        """The new hidden and cell state of the convolutional LSTM."""
        seen = torch.cat([features, hidden], dim=1)
        cell = self.conv_f(seen) * cell + self.conv_i(seen) * self.conv_g(seen)
        return self.conv_o(seen) * torch.tanh(cell), cell
