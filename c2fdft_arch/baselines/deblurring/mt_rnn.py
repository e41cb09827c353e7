"""MT-RNN: a small U-Net applied again and again, each time to a less blurred image.

Park, Kang, Kim and Chun, "Multi-Temporal Recurrent Neural Networks For Progressive Non-Uniform
Single Image Deblurring With Incremental Temporal Training" (ECCV 2020).
"""

from collections import OrderedDict

import torch
from torch import Tensor, nn

from c2fdft_arch.baselines.blocks.convolutions import Residual, conv3x3
from c2fdft_arch.baselines.blocks.restoration_network import (
    RGB,
    RestorationNetwork,
    check_at_least,
)

SLOPE = 0.1
LARGEST_VALUE = 255.0
MEAN_COLOUR = (0.4488, 0.4371, 0.4040)
"""Of DIV2K's images, as a share of the largest value."""
BLOCKS = 3


class ColourShift(nn.Conv2d):
    """Adds `sign` times the mean colour to images in [0, 255]; its parameters are not trained."""

    def __init__(self, sign: int) -> None:
        super().__init__(RGB, RGB, 1)
        with torch.no_grad():
            self.weight.copy_(torch.eye(RGB)[:, :, None, None])
            assert self.bias is not None
            self.bias.copy_(sign * LARGEST_VALUE * torch.tensor(MEAN_COLOUR))
        self.requires_grad_(False)


def residual_block(channels: int) -> Residual:
    """Two 3x3 convolutions, and the input added."""
    layers = conv3x3(channels, channels), nn.LeakyReLU(SLOPE), conv3x3(channels, channels)
    return Residual(OrderedDict(stem=nn.Sequential(*layers)))


class MTRNN(RestorationNetwork):
    """`iterations` of a U-Net that sees the blurred image, the last result and its own features.

    All outputs: the images of the iterations, the last first.
    """

    size_multiple = 4

    def __init__(self, iterations: int = 6, channels: int = 32, all_outputs: bool = False) -> None:
        super().__init__(all_outputs)
        check_at_least('MTRNN', 2, iterations=iterations)
        check_at_least('MTRNN', 1, channels=channels)
        self.iterations = iterations
        full, half, quarter = channels, 2 * channels, 4 * channels
        self.sub_mean, self.add_mean = ColourShift(-1), ColourShift(1)
        self.conv1_1 = nn.Sequential(conv3x3(2 * RGB, full))
        for level, (above, width) in {2: (full, half), 3: (half, quarter)}.items():
            down = nn.Conv2d(above, width, 3, stride=2, padding=1)
            up = nn.ConvTranspose2d(width, above, 4, stride=2, padding=1)
            self.add_module(f'conv{level}_1', nn.Sequential(down, nn.LeakyReLU(SLOPE)))
            self.add_module(f'conv{level}_c', nn.Sequential(nn.Conv2d(2 * width, width, 1)))
            self.add_module(f'conv{8 - level}_1', nn.Sequential(up, nn.LeakyReLU(SLOPE)))
            self.add_module(f'conv{8 - level}_c', nn.Sequential(nn.Conv2d(2 * above, above, 1)))
        for level, width in enumerate((full, half, quarter, quarter, half, full), start=1):
            first = 1 if level == 4 else 2
            for k in range(first, first + BLOCKS):
                self.add_module(f'conv{level}_{k}', residual_block(width))
        self.img_prd = nn.Sequential(conv3x3(full, RGB))

    def restore(self, image: Tensor) -> list[Tensor]:
        """The images of all iterations, the last first."""
        results = [image * LARGEST_VALUE]
        blurred = self.sub_mean(results[0])
        memory: tuple[Tensor, Tensor] | None = None
        for _ in range(self.iterations):
            images = torch.cat([blurred, self.sub_mean(results[-1])], dim=1)
            change, memory = self._iterate(images, memory)
            results.append(self.add_mean(blurred + change))
        return [result / LARGEST_VALUE for result in results[:0:-1]]

    def _iterate(
        self, images: Tensor, memory: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """What to add to the blurred image, and features at half and quarter size to remember."""
        full = self._blocks(1, self.conv1_1(images))
        half = self.conv2_1(full)
        half = self._blocks(2, self._join('conv2_c', half, half if memory is None else memory[0]))
        quarter = self.conv3_1(half)
        remembered = quarter if memory is None else memory[1]
        quarter = self._blocks(4, self._blocks(3, self._join('conv3_c', quarter, remembered)))
        decoded = self._blocks(5, self._join('conv5_c', self.conv5_1(quarter), half))
        features = self._blocks(6, self._join('conv6_c', self.conv6_1(decoded), full))
        return self.img_prd(features), (decoded, quarter)

    def _join(self, name: str, features: Tensor, others: Tensor) -> Tensor:
        return self.get_submodule(name)(torch.cat([features, others], dim=1))

    def _blocks(self, level: int, features: Tensor) -> Tensor:
        first = 1 if level == 4 else 2
        for k in range(first, first + BLOCKS):
            features = self.get_submodule(f'conv{level}_{k}')(features)
        return features
