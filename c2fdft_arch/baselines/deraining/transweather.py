"""TransWeather: a Transformer whose decoder asks with learned queries for the weather.

Valanarasu, Yasarla and Patel, "TransWeather: Transformer-based Restoration of Images Degraded by
Adverse Weather Conditions" (CVPR 2022).
"""

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from c2fdft_arch.baselines.blocks.convolutions import conv3x3
from c2fdft_arch.baselines.blocks.restoration_network import (
    RGB,
    RestorationNetwork,
)
from c2fdft_arch.baselines.blocks.statistics_norm import to_signed
from c2fdft_arch.common.option_parsing import OptionError

STAGES = 4
HEADS = (1, 2, 4, 4)
REDUCTIONS = (4, 2, 2, 1)
"""Keys and values of a stage are at this part of its size."""
PATCH_HEADS = (1, 2, 2)
"""Heads of the blocks that work on smaller patches, of the first three stages."""
BLOCKS_OF_A_STAGE = 2
EXPANSION = 2
DECODER_HEADS, DECODER_BLOCKS, DECODER_EXPANSION = 8, 3, 4
QUERIES = 48
LARGEST_DROP = 0.1
DECODER_DROPS = [LARGEST_DROP * k / 15 for k in range(DECODER_BLOCKS)]
HEAD_CHANNELS = 16, 8


class PatchEmbedding(nn.Module):
    """Overlapping patches as tokens, by a convolution and a layer norm."""

    def __init__(self, in_channels: int, channels: int, kernel_size: int, stride: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(
            in_channels, channels, kernel_size, stride=stride, padding=kernel_size // 2
        )
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Features (B, `channels`, H / stride, W / stride)."""
        features = self.proj(x)
        return to_image(self.norm(to_tokens(features)), features.shape[-2:])


class Attention(nn.Module):
    """Attention of all tokens to those of a smaller copy of the features.

    With `queries`, learned tokens ask instead of the features' own.
    """

    def __init__(self, channels: int, heads: int, reduction: int, queries: int = 0) -> None:
        super().__init__()
        self.heads = heads
        self.q = nn.Linear(channels, channels)
        self.kv = nn.Linear(channels, 2 * channels)
        self.proj = nn.Linear(channels, channels)
        self.task_query = nn.Parameter(torch.randn(1, queries, channels)) if queries else None
        self.reduces = reduction > 1
        if self.reduces:
            self.sr = nn.Conv2d(channels, channels, reduction, stride=reduction)
            self.norm = nn.LayerNorm(channels)

    def forward(self, tokens: Tensor, size: Sequence[int]) -> Tensor:
        """Tokens (B, N, C) of features of that size."""
        asking = tokens if self.task_query is None else self.task_query.expand(len(tokens), -1, -1)
        query = self._split(self.q(asking))
        if self.reduces:
            tokens_of = to_tokens(self.sr(to_image(tokens, size)))
            key, value = self.kv(self.norm(tokens_of)).chunk(2, dim=-1)
        else:
            key, value = self.kv(tokens).chunk(2, dim=-1)
        if self.task_query is not None:
            query = interpolate(query, size=(tokens.shape[1], query.shape[-1]))
        scores = query @ self._split(key).transpose(-2, -1) * query.shape[-1] ** -0.5
        attended = scores.softmax(dim=-1) @ self._split(value)
        return self.proj(attended.transpose(1, 2).flatten(2))

    def _split(self, tokens: Tensor) -> Tensor:
        """(B, heads, N, C / heads) of (B, N, C)."""
        return tokens.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class FeedForward(nn.Module):
    """Two linear layers with a depth-wise convolution and GELU between them."""

    def __init__(self, channels: int, expansion: int) -> None:
        super().__init__()
        hidden = channels * expansion
        self.fc1 = nn.Linear(channels, hidden)
        depthwise = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden)
        self.dwconv = nn.Sequential(OrderedDict(dwconv=depthwise))
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden, channels)

    def forward(self, tokens: Tensor, size: Sequence[int]) -> Tensor:
        """Tokens (B, N, C) of features of that size."""
        features = self.dwconv(to_image(self.fc1(tokens), size))
        return self.fc2(self.act(to_tokens(features)))


class Block(nn.Module):
    """Attention and feed-forward network, each normalised before and added to its input.

    In training, each is left out for a share `drop` of the images (stochastic depth).
    """

    def __init__(
        self,
        channels: int,
        heads: int,
        reduction: int,
        expansion: int,
        drop: float,
        queries: int = 0,
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels, eps=1e-6)
        self.attn = Attention(channels, heads, reduction, queries)
        self.norm2 = nn.LayerNorm(channels, eps=1e-6)
        self.mlp = FeedForward(channels, expansion)
        self.drop = drop

    def forward(self, tokens: Tensor, size: Sequence[int]) -> Tensor:
        """Tokens (B, N, C) of features of that size."""
        tokens = tokens + self._kept(self.attn(self.norm1(tokens), size))
        return tokens + self._kept(self.mlp(self.norm2(tokens), size))

    def _kept(self, branch: Tensor) -> Tensor:
        if not self.training or self.drop == 0:
            return branch
        kept = torch.rand(len(branch), 1, 1, device=branch.device) >= self.drop
        return branch * kept / (1 - self.drop)


class Encoder(nn.Module):
    """Four stages; the first three also look at patches of half the size, for small streaks."""

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        last = STAGES * BLOCKS_OF_A_STAGE - 1
        drops = [LARGEST_DROP * k / last for k in range(last + 1)]
        above = [RGB, *widths]
        for k, width in enumerate(widths):
            stage, first = k + 1, k * BLOCKS_OF_A_STAGE
            kernel_size, stride = (3, 2) if k else (7, 4)
            embedding = PatchEmbedding(above[k], width, kernel_size, stride)
            blocks = [
                Block(width, HEADS[k], REDUCTIONS[k], EXPANSION, drop)
                for drop in drops[first : first + BLOCKS_OF_A_STAGE]
            ]
            self.add_module(f'patch_embed{stage}', embedding)
            self.add_module(f'block{stage}', nn.ModuleList(blocks))
            self.add_module(f'norm{stage}', nn.LayerNorm(width, eps=1e-6))
            if stage < STAGES:
                wide = widths[k + 1]
                block = Block(wide, PATCH_HEADS[k], REDUCTIONS[k], EXPANSION, drops[first])
                self.add_module(f'mini_patch_embed{stage}', PatchEmbedding(width, wide, 3, 2))
                self.add_module(f'patch_block{stage}', nn.ModuleList([block]))
                self.add_module(f'pnorm{stage}', nn.LayerNorm(wide, eps=1e-6))
        # The published checkpoints have it, but the network does not use it.
        self.mini_patch_embed4 = PatchEmbedding(widths[0], widths[-1], 3, 2)
        self.mini_patch_embed4.requires_grad_(False)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Features at 1/4, 1/8, 1/16 and 1/32 of the size."""
        features, levels = image, []
        fine: Tensor | None = None
        for stage in range(1, STAGES + 1):
            embedded = getattr(self, f'patch_embed{stage}')(features)
            if fine is not None:
                embedded = embedded + fine
            if stage < STAGES:
                fine = getattr(self, f'mini_patch_embed{stage}')(embedded)
                blocks = getattr(self, f'patch_block{stage}')
                fine = transformed(fine, blocks, getattr(self, f'pnorm{stage}'))
            blocks = getattr(self, f'block{stage}')
            features = transformed(embedded, blocks, getattr(self, f'norm{stage}'))
            levels.append(features)
        return levels


class Decoder(nn.Module):
    """Blocks with learned queries at 1/64 of the size."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.patch_embed1 = PatchEmbedding(channels, channels, 3, 2)
        self.block1 = nn.ModuleList(
            Block(channels, DECODER_HEADS, 1, DECODER_EXPANSION, drop, QUERIES)
            for drop in DECODER_DROPS
        )
        self.norm1 = nn.LayerNorm(channels, eps=1e-6)

    def forward(self, features: Tensor) -> Tensor:
        """Features (B, C, H / 2, W / 2), rounded up."""
        return transformed(self.patch_embed1(features), self.block1, self.norm1)


def conv(in_channels: int, channels: int, doubling: bool = False) -> nn.Sequential:
    """A 3x3 convolution that keeps the size, or a transposed one that doubles it."""
    convolution = (
        nn.ConvTranspose2d(in_channels, channels, 4, stride=2, padding=1)
        if doubling
        else conv3x3(in_channels, channels)
    )
    return nn.Sequential(OrderedDict(conv2d=convolution))


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions, a tenth of which is added to the input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = conv(channels, channels)
        self.conv2 = conv(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Features of the same shape."""
        return x + 0.1 * self.conv2(torch.relu(self.conv1(x)))


class Projection(nn.Module):
    """From the decoder's features and the encoder's levels to features at full size."""

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        first, second, third, fourth = widths
        half, full = HEAD_CHANNELS
        self.convd32x = conv(fourth, fourth, doubling=True)
        self.convd16x = conv(fourth, third, doubling=True)
        self.dense_4 = nn.Sequential(ResidualBlock(third))
        self.convd8x = conv(third, second, doubling=True)
        self.dense_3 = nn.Sequential(ResidualBlock(second))
        self.convd4x = conv(second, first, doubling=True)
        self.dense_2 = nn.Sequential(ResidualBlock(first))
        self.convd2x = conv(first, half, doubling=True)
        self.dense_1 = nn.Sequential(ResidualBlock(half))
        self.convd1x = conv(half, full, doubling=True)
        # The published checkpoints have it, but the network does not use it.
        self.conv_output = conv(full, RGB).requires_grad_(False)

    def forward(self, levels: Sequence[Tensor], decoded: Tensor) -> Tensor:
        """Features (B, 8, H, W) of an image (H, W)."""
        first, second, third, fourth = levels
        height, width = fourth.shape[-2:]
        x = self.convd16x(self.convd32x(decoded)[..., :height, :width] + fourth)
        x = self.convd8x(self.dense_4(x) + third)
        x = self.convd4x(self.dense_3(x) + second)
        x = self.convd2x(self.dense_2(x) + first)
        return self.convd1x(self.dense_1(x))


class TransWeather(RestorationNetwork):
    """The network for all kinds of weather; `widths` are the channels of the encoder's stages."""

    size_multiple = 32
    smallest_side = 64

    def __init__(
        self, widths: Sequence[int] = (64, 128, 320, 512), all_outputs: bool = False
    ) -> None:
        super().__init__(all_outputs)
        if len(widths) != STAGES or any(w < 1 or w % DECODER_HEADS for w in widths):
            raise OptionError(
                f'network_g: TransWeather: widths: {list(widths)} must be {STAGES} multiples of '
                f'{DECODER_HEADS}.'
            )
        self.Tenc = Encoder(widths)
        self.Tdec = Decoder(widths[-1])
        self.convtail = Projection(widths)
        self.clean = conv(HEAD_CHANNELS[-1], RGB)
        self.apply(_initialise)

    def restore(self, image: Tensor) -> list[Tensor]:
        """The restored image alone."""
        levels = self.Tenc(to_signed(image))
        features = self.convtail(levels, self.Tdec(levels[-1]))
        return [torch.tanh(self.clean(features))]


def transformed(x: Tensor, blocks: nn.ModuleList, norm: nn.Module) -> Tensor:
    """Features (B, C, H, W) through blocks on tokens and a layer norm."""
    size = x.shape[-2:]
    tokens = to_tokens(x)
    for block in blocks:
        tokens = block(tokens, size)
    return to_image(norm(tokens), size)


def to_tokens(x: Tensor) -> Tensor:
    """(B, H W, C) of (B, C, H, W)."""
    return x.flatten(2).transpose(1, 2)


def to_image(tokens: Tensor, size: Sequence[int]) -> Tensor:
    """(B, C, H, W) of (B, H W, C)."""
    return tokens.transpose(1, 2).unflatten(2, tuple(size))


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)
