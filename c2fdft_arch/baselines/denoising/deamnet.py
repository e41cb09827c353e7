"""DeamNet: a prior applied in feature space four times, balanced each time with the observation.

Ren, He, Wang and Zhao, "Adaptive Consistency Prior Based Deep Network for Image Denoising" (CVPR
2021). The network for real noise (sRGB images).
"""

from collections import OrderedDict

import torch
from torch import Tensor, nn

from c2fdft_arch.baselines.blocks.convolutions import Residual
from c2fdft_arch.baselines.blocks.restoration_network import (
    RGB,
    RestorationNetwork,
    check_at_least,
)

REDUCTION = 16
LEVELS = 4
ENCODER_LAYERS = 3
DECODER_LAYERS = 2
UNUSED_KERNELS = {'conv_dila1': 3, 'conv_dila2': 5, 'conv_dila3': 7}


def conv(in_channels: int, channels: int, kernel_size: int = 3) -> nn.Sequential:
    """A convolution with Xavier initialisation that keeps the size."""
    convolution = nn.Conv2d(in_channels, channels, kernel_size, padding=kernel_size // 2)
    nn.init.xavier_normal_(convolution.weight)
    return nn.Sequential(OrderedDict(conv2d=convolution))


def conv_relu(channels: int, stride: int = 1) -> nn.Sequential:
    """The same by a 3x3 kernel, with a ReLU; stride 2 halves the size."""
    convolution = nn.Conv2d(channels, channels, 3, stride=stride, padding=1)
    nn.init.xavier_normal_(convolution.weight)
    return nn.Sequential(OrderedDict(block=nn.Sequential(convolution, nn.ReLU())))


def upsample(channels: int) -> nn.Sequential:
    """Repeats every pixel 2 x 2 times, then a convolution with ReLU."""
    return nn.Sequential(
        OrderedDict(repeat=nn.Upsample(scale_factor=2.0), conv2d=conv_relu(channels))
    )


def pixel_attention(channels: int) -> nn.Sequential:
    """A weight in (0, 1) for every pixel and channel."""
    squeezed = channels // REDUCTION
    return nn.Sequential(
        conv(channels, squeezed), nn.ReLU(), conv(squeezed, channels), nn.Sigmoid()
    )


class Encoder(nn.Module):
    """A level of the encoder."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        layers = [conv_relu(channels) for _ in range(ENCODER_LAYERS - 1)]
        self.body = nn.Sequential(*layers, conv_relu(channels, stride=2))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Features of this level, and of half the size for the next."""
        features = self.body[:-1](x)
        return features, self.body[-1](features)


class SkipAttention(nn.Module):
    """Mixes a level's features with those of the level below, pixel by pixel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv_du = pixel_attention(channels)
        self.cat = conv(2 * channels, channels, 1)
        self.C = conv(channels, channels)
        self.ConvTranspose = upsample(channels)

    def forward(self, skip: Tensor, below: Tensor) -> Tensor:
        """Features of the shape of `skip`."""
        below = self.ConvTranspose(below)
        weight = self.conv_du(self.cat(torch.cat([self.C(skip), below], dim=1)))
        return (1 - weight) * below + weight * skip


class Join(nn.Module):
    """Joins a level's features with those of the level below."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = conv_relu(channels)
        self.ConvTranspose = upsample(channels)
        self.cat = conv(2 * channels, channels, 1)

    def forward(self, skip: Tensor, below: Tensor) -> Tensor:
        """Features of the shape of `skip`."""
        return self.cat(torch.cat([self.conv1(skip), self.ConvTranspose(below)], dim=1))


class Decoder(nn.Module):
    """A level of the decoder."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.upsample = Join(channels)
        self.body = nn.Sequential(*(conv_relu(channels) for _ in range(DECODER_LAYERS)))

    def forward(self, skip: Tensor, below: Tensor) -> Tensor:
        """Features of the shape of `skip`."""
        return self.body(self.upsample(skip, below))


class NonLinearOperator(nn.Module):
    """The learned prior (the paper's NLO): a U-Net with the same channels at every level."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        for name, kernel_size in UNUSED_KERNELS.items():
            self.add_module(name, conv(channels, channels, kernel_size))
        self.cat1 = nn.Conv2d(len(UNUSED_KERNELS) * channels, channels, 1)
        # The published checkpoints have them, but the network does not use them.
        for name in (*UNUSED_KERNELS, 'cat1'):
            self.get_submodule(name).requires_grad_(False)
        for level in range(LEVELS):
            self.add_module(f'e{level}', Encoder(channels))
            self.add_module(f'attention{level}', SkipAttention(channels))
            self.add_module(f'de{level}', Decoder(channels))
        self.mid = nn.Sequential(conv_relu(channels), conv_relu(channels))
        self.final = conv(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Features of the same shape."""
        skips, features = [], x
        for level in range(LEVELS):
            skip, features = self.get_submodule(f'e{level}')(features)
            skips.append(skip)
        features = self.mid(features)
        for level in reversed(range(LEVELS)):
            attended = self.get_submodule(f'attention{level}')(skips[level], features)
            features = self.get_submodule(f'de{level}')(attended, features)
        return x + self.final(features)


class Balance(nn.Module):
    """How much of the observation to take back, for every pixel and channel (the paper's DEAM)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.cat = conv(2 * channels, channels, 1)
        self.C = conv(channels, channels)
        self.weight = nn.Sequential(OrderedDict(conv_du=pixel_attention(channels)))

    def forward(self, estimate: Tensor, observed: Tensor) -> Tensor:
        """Features of the same shape as both."""
        weight = self.weight(self.cat(torch.cat([self.C(observed), estimate], dim=1)))
        return (1 - weight) * estimate + weight * observed


class Transform(nn.Module):
    """From an image to features, or, `inverse`, from features to an image."""

    def __init__(self, channels: int, inverse: bool) -> None:
        super().__init__()
        self.inverse = inverse
        self.ext = conv(channels, RGB) if inverse else conv(RGB, channels)
        self.pre = Residual(conv(channels, channels), nn.ReLU(), conv(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        """Features (B, `channels`, H, W), or an image (B, 3, H, W)."""
        return self.ext(self.pre(x)) if self.inverse else self.pre(self.ext(x))


class DeamNet(RestorationNetwork):
    """Four applications of one prior, each with a balance of its own; 64 channels in the paper."""

    size_multiple = 2**LEVELS

    def __init__(self, channels: int = 64, all_outputs: bool = False) -> None:
        super().__init__(all_outputs)
        check_at_least('DeamNet', REDUCTION, channels=channels)
        self.transform_function = Transform(channels, inverse=False)
        self.inverse_transform_function = Transform(channels, inverse=True)
        self.balances = ('line11', 'line22', 'line33', 'line44')
        for name in self.balances:
            self.add_module(name, Balance(channels))
        self.net2 = NonLinearOperator(channels)

    def restore(self, image: Tensor) -> list[Tensor]:
        """The restored image alone."""
        observed = estimate = self.transform_function(image)
        for name in self.balances:
            estimate = self.get_submodule(name)(self.net2(estimate), observed)
        return [self.inverse_transform_function(estimate)]
