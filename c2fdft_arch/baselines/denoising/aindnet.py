"""AINDNet: the estimated noise of every pixel scales and shifts the features of a U-Net.

Kim, Soh, Park and Cho, "Transfer Learning from Synthetic to Real-Noise Denoising with Adaptive
Instance Normalization" (CVPR 2020). Parameters are named as the variables of the TensorFlow
checkpoints.
"""

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, leaky_relu

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

SLOPE = 0.02
ESTIMATOR_CHANNELS = 32
COARSE_SHARE = 0.8
"""Of the noise map at an eighth of the size in the one that is used."""
DOWN_BLOCKS = (2, 2, 5)
UP_BLOCKS = {4: 3, 5: 2}


class Estimator(nn.Module):
    """The noise level of every pixel, coarse and fine."""

    def __init__(self) -> None:
        super().__init__()
        widths = [RGB, *[ESTIMATOR_CHANNELS] * 4, RGB, RGB, RGB]
        for k in range(1, 8):
            self.add_module(f'conv{k}', SameConv2d(widths[k - 1], widths[k], 3))

    def forward(self, image: Tensor) -> Tensor:
        """(B, 3, H, W), zero or more, of a noisy image of the same shape."""
        features = avg_pool2d(self._layers(image, 1, 2), 4)
        coarse = self._layers(avg_pool2d(self._layers(features, 3, 4), 2), 5, 5)
        resized = resize_corners(coarse, image.shape[-2:])
        return COARSE_SHARE * resized + (1 - COARSE_SHARE) * self._layers(resized, 6, 7)

    def _layers(self, x: Tensor, first: int, last: int) -> Tensor:
        for k in range(first, last + 1):
            x = torch.relu(self.get_submodule(f'conv{k}')(x))
        return x


class AdaptiveInstanceNorm(nn.Module):
    """Normalises each image and channel, then scales and shifts every pixel by its noise."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.conv1 = SameConv2d(RGB, hidden, 5)
        self.conv_gamma = SameConv2d(hidden, channels, 3)
        self.conv_beta = SameConv2d(hidden, channels, 3)

    def forward(self, x: Tensor, noise_map: Tensor) -> Tensor:
        """Features of the same shape."""
        variance, mean = torch.var_mean(x, dim=(2, 3), correction=0, keepdim=True)
        noise = torch.relu(self.conv1(resize_corners(noise_map, x.shape[-2:])))
        normalised = (x - mean) / torch.sqrt(variance + 1e-5)
        return normalised * (1 + self.conv_gamma(noise)) + self.conv_beta(noise)


class AdaptiveBlock(nn.Module):
    """Two convolutions, each after an adaptive norm and a leaky ReLU, and the input added."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        for k in (1, 2):
            self.add_module(f'AIN_{k}', AdaptiveInstanceNorm(channels, hidden))
            self.add_module(f'conv{k}', SameConv2d(channels, channels, 3))

    def forward(self, x: Tensor, noise_map: Tensor) -> Tensor:
        """Features of the same shape."""
        features = self.conv1(leaky_relu(self.AIN_1(x, noise_map), SLOPE))
        return x + self.conv2(leaky_relu(self.AIN_2(features, noise_map), SLOPE))


def skip_block(channels: int) -> Residual:
    """Two convolutions with a ReLU between them on a skip connection, and the input added."""
    layers = OrderedDict(
        Conv=SameConv2d(channels, channels, 3),
        relu=nn.ReLU(),
        Conv_1=SameConv2d(channels, channels, 3),
    )
    return Residual(layers)


class Denoiser(nn.Module):
    """A U-Net of three levels that gives the negative noise."""

    def __init__(self, width: int) -> None:
        super().__init__()
        widths = [RGB, width, 2 * width, 4 * width]
        for level, count in enumerate(DOWN_BLOCKS, start=1):
            self.add_module(f'conv{level}_1', SameConv2d(widths[level - 1], widths[level], 3))
            self._add_blocks(level, count, widths[level], width)
        for level, count in UP_BLOCKS.items():
            above = widths[6 - level]
            up = SameConvTranspose2d(2 * above, above, 2, 2, bias=False)
            self.add_module(f'deconv{level}', skip_block(above))
            self.add_module(f'deconv{level}_1', up)
            self._add_blocks(level, count, above, width)
        self.conv6 = SameConv2d(width, RGB, 1)

    def forward(self, image: Tensor, noise_map: Tensor) -> Tensor:
        """(B, 3, H, W) of an image and its noise map of that shape."""
        skips, features = [], image
        for level, count in enumerate(DOWN_BLOCKS, start=1):
            features = torch.relu(self.get_submodule(f'conv{level}_1')(features))
            features = self._blocks(level, count, features, noise_map)
            skips.append(features)
            features = avg_pool2d(features, 2)
        features = skips[-1]
        for level, count in UP_BLOCKS.items():
            skip = self.get_submodule(f'deconv{level}')(skips[5 - level])
            features = self.get_submodule(f'deconv{level}_1')(features) + skip
            features = self._blocks(level, count, features, noise_map)
        return self.conv6(features)

    def _add_blocks(self, level: int, count: int, channels: int, hidden: int) -> None:
        for k in range(1, count + 1):
            self.add_module(f'AINRes{level}_{k}', AdaptiveBlock(channels, hidden))

    def _blocks(self, level: int, count: int, x: Tensor, noise_map: Tensor) -> Tensor:
        for k in range(1, count + 1):
            x = self.get_submodule(f'AINRes{level}_{k}')(x, noise_map)
        return x


class AINDNet(RestorationNetwork):
    """The denoiser sees the image and, at every block, the estimated noise.

    `weights` is a file of a checkpoint's variables (see `load_variables`). All outputs: the image,
    the noise map and the noisy image.
    """

    size_multiple = 8

    def __init__(
        self, width: int = 64, weights: str | None = None, all_outputs: bool = False
    ) -> None:
        super().__init__(all_outputs)
        check_at_least('AINDNet', 1, width=width)
        self.fcn_avg = Estimator()
        self.AINDNet = Denoiser(width)
        if weights is not None:
            load_variables(self, weights, '')

    def restore(self, image: Tensor) -> list[Tensor]:
        """The image, the noise map and the noisy image."""
        noise_map = self.fcn_avg(image)
        return [image + self.AINDNet(image, noise_map), noise_map, image]
