"""The diffusion Transformer as the paper draws it: (B, C, H, W) tensors, one layer after another.

This is the readable statement of the network (Wang et al., Fig. 2, Eqs. 6 and 7), what the tests
compare with, and what the benchmarks measure against. `DFT` computes the same function faster.
Parameter names and shapes are those of the released checkpoints.
"""

import functools
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from c2fdft_arch.network.network_options import SIZE_MULTIPLE, check_input, check_options
from c2fdft_arch.network.time_embedding import embed_timesteps

LAYER_NORM_EPS = 1e-5


class ChannelNormBody(nn.Module):
    """LN over the last dimension; `BiasFree` does not subtract the mean and has no bias."""

    def __init__(self, channels: int, kind: str) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels)) if kind == 'WithBias' else None

    def forward(self, x: Tensor) -> Tensor:
        if self.bias is not None:
            return F.layer_norm(x, self.weight.shape, self.weight, self.bias, LAYER_NORM_EPS)
        variance = x.var(dim=-1, correction=0, keepdim=True)
        return x / torch.sqrt(variance + LAYER_NORM_EPS) * self.weight


class ChannelNorm(nn.Module):
    """LN of Eqs. 6 and 7: of (B, C, H, W), over the channels of each pixel."""

    def __init__(self, channels: int, kind: str) -> None:
        super().__init__()
        self.body = ChannelNormBody(channels, kind)

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2).contiguous()


class DiffusionSelfAttention(nn.Module):
    """A(Q, K, V) of Eq. 6, attention among channels, and an output projection.

    Q, K, V = Split(W_d W_p x), with W_p a 1x1 and W_d a depth-wise 3x3 convolution. Queries and
    keys are normalised over the pixels, as in Zamir et al. 2022; `temperature` is the paper's
    1 / alpha, one for each head.
    """

    def __init__(self, channels: int, heads: int, bias: bool) -> None:
        super().__init__()
        self.heads = heads
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))
        self.qkv = nn.Conv2d(channels, 3 * channels, 1, bias=bias)
        self.qkv_dwconv = nn.Conv2d(
            3 * channels, 3 * channels, 3, padding=1, groups=3 * channels, bias=bias
        )
        self.project_out = nn.Conv2d(channels, channels, 1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        q, k, v = (
            self.qkv_dwconv(self.qkv(x)).view(b, 3, self.heads, c // self.heads, h * w).unbind(1)
        )
        q = F.normalize(q, dim=-1)
        k = F.normalize(k, dim=-1)
        attention = (q @ k.transpose(-2, -1) * self.temperature).softmax(dim=-1)
        return self.project_out((attention @ v).view(b, c, h, w))


class DiffusionFeedForward(nn.Module):
    """W_p phi W_p of Eq. 7: two 1x1 convolutions, with phi the GELU in its erf form."""

    def __init__(self, channels: int, ffn_factor: float, bias: bool) -> None:
        super().__init__()
        hidden = int(channels * ffn_factor)
        self.project_in = nn.Conv2d(channels, hidden, 1, bias=bias)
        self.project_out = nn.Conv2d(hidden, channels, 1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.project_out(F.gelu(self.project_in(x)))


class DiffusionTransformerBlock(nn.Module):
    """DFTB: x + DFSA(LN(x) + T) (Eq. 6), then x + DFN(LN(x) + T) (Eq. 7).

    Eq. 6 adds T behind the convolutions; the released weights were trained with T in front of
    them, which is what is computed here.
    """

    def __init__(
        self, channels: int, heads: int, ffn_factor: float, bias: bool, norm_kind: str
    ) -> None:
        super().__init__()
        self.norm1 = ChannelNorm(channels, norm_kind)
        self.attn = DiffusionSelfAttention(channels, heads, bias)
        self.norm2 = ChannelNorm(channels, norm_kind)
        self.ffn = DiffusionFeedForward(channels, ffn_factor, bias)

    def forward(self, x: Tensor, time_embedding: Tensor | None) -> Tensor:
        """Transform x (B, C, H, W) with T (B, C), or None for a network without it."""
        t = 0.0 if time_embedding is None else time_embedding[:, :, None, None]
        x = x + self.attn(self.norm1(x) + t)
        return x + self.ffn(self.norm2(x) + t)


class PatchEmbedding(nn.Module):
    """The first convolution, 3x3, from cat(y, x_t) to the features F_0."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_channels, channels, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x)


class Downsample(nn.Module):
    """(B, C, H, W) -> (B, 2C, H/2, W/2): 3x3 convolution to C/2, then pixel-unshuffle."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, channels // 2, 3, padding=1, bias=False), nn.PixelUnshuffle(2)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


class Upsample(nn.Module):
    """(B, C, H, W) -> (B, C/2, 2H, 2W): 3x3 convolution to 2C, then pixel-shuffle."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, channels * 2, 3, padding=1, bias=False), nn.PixelShuffle(2)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


def _level(channels: int, count: int, heads: int, **options: Any) -> nn.ModuleList:
    return nn.ModuleList(
        DiffusionTransformerBlock(channels, heads, **options) for _ in range(count)
    )


class PlainDFT(nn.Module):
    """Predict the noise in x_t from (degraded image y, noisy image x_t, timestep t): Fig. 2.

    Or what else it is trained to predict: the clean image or the velocity. `skip` chooses what the
    last convolution is added to: x_t suits the noise, y the clean image, nothing the velocity.

    A four-level U-shape of Transformer blocks with channels C, 2C, 4C, 8C going down and
    4C, 2C, 2C coming up: the last skip is concatenated without a reduction.
    Raises ValueError for option values that do not fit together.
    """

    size_multiple = SIZE_MULTIPLE

    def __init__(
        self,
        inp_channels: int = 6,  # channels of cat(y, x_t)
        out_channels: int = 3,  # channels of the predicted noise
        dim: int = 48,  # C, the channels of the first level
        num_blocks: Sequence[int] = (4, 6, 6, 8),  # blocks of levels 1, 2, 3 and of the latent
        heads: Sequence[int] = (1, 2, 4, 8),  # attention heads of the same
        ffn_factor: float = 4.0,  # hidden channels of the DFN per channel
        bias: bool = False,  # biases in the blocks' convolutions
        LayerNorm_type: str = 'WithBias',  # or 'BiasFree'
        dual_pixel_task: bool = False,  # skip from the embedding instead of the global residual
        time_embedding: bool = True,  # False: t is ignored (Wang et al., Table 6)
        skip: str = 'noisy',  # what the last convolution is added to: x_t, y (degraded) or none
    ) -> None:
        super().__init__()
        check_options(
            inp_channels, out_channels, dim, num_blocks, heads, ffn_factor, LayerNorm_type,
            dual_pixel_task, skip,
        )  # fmt: skip
        self.inp_channels = inp_channels
        self.out_channels = out_channels
        self.dim = dim
        self.ffn_factor = ffn_factor
        self.dual_pixel_task = dual_pixel_task
        self.time_embedding = time_embedding
        self.skip = skip
        level = functools.partial(
            _level, ffn_factor=ffn_factor, bias=bias, norm_kind=LayerNorm_type
        )

        self.patch_embed = PatchEmbedding(inp_channels, dim)
        self.encoder_level1 = level(dim, num_blocks[0], heads[0])
        self.down1_2 = Downsample(dim)
        self.encoder_level2 = level(2 * dim, num_blocks[1], heads[1])
        self.down2_3 = Downsample(2 * dim)
        self.encoder_level3 = level(4 * dim, num_blocks[2], heads[2])
        self.down3_4 = Downsample(4 * dim)
        self.latent = level(8 * dim, num_blocks[3], heads[3])
        self.up4_3 = Upsample(8 * dim)
        self.reduce_chan_level3 = nn.Conv2d(8 * dim, 4 * dim, 1, bias=bias)
        self.decoder_level3 = level(4 * dim, num_blocks[2], heads[2])
        self.up3_2 = Upsample(4 * dim)
        self.reduce_chan_level2 = nn.Conv2d(4 * dim, 2 * dim, 1, bias=bias)
        self.decoder_level2 = level(2 * dim, num_blocks[1], heads[1])
        self.up2_1 = Upsample(2 * dim)
        self.decoder_level1 = level(2 * dim, num_blocks[0], heads[0])
        if dual_pixel_task:
            self.skip_conv = nn.Conv2d(dim, 2 * dim, 1, bias=bias)
        self.output = nn.Conv2d(2 * dim, out_channels, 3, padding=1, bias=bias)

    def embeddings(self, t: Tensor) -> dict[int, Tensor | None]:
        """T for t (B,), as the channel count of each level maps to (B, channels) or None."""
        counts = (self.dim, 2 * self.dim, 4 * self.dim, 8 * self.dim)
        return {c: embed_timesteps(t, c) if self.time_embedding else None for c in counts}

    def global_skip(self, x: Tensor) -> Tensor | None:
        """The image of x = cat(y, x_t) that the last convolution is added to, or None."""
        if self.dual_pixel_task or self.skip == 'none':
            return None
        return x[:, : self.out_channels] if self.skip == 'degraded' else x[:, -self.out_channels :]

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """Predict the noise (B, 3, H, W) in x_t, or what the network is trained for.

        x (B, 6, H, W) is cat(y, x_t), both RGB in [-1, 1], H and W multiples of 8; t (B,) holds
        0-based timesteps, float or int. Raises ValueError for any other shape.
        """
        check_input(x, t, self.inp_channels)
        embeddings = self.embeddings(t)

        def run(level: nn.Module, features: Tensor) -> Tensor:
            for block in level.children():
                features = block(features, embeddings[int(features.shape[1])])
            return features

        embedded = self.patch_embed(x)
        encoded1 = run(self.encoder_level1, embedded)
        encoded2 = run(self.encoder_level2, self.down1_2(encoded1))
        encoded3 = run(self.encoder_level3, self.down2_3(encoded2))
        latent = run(self.latent, self.down3_4(encoded3))

        features = torch.cat([self.up4_3(latent), encoded3], dim=1)
        features = run(self.decoder_level3, self.reduce_chan_level3(features))
        features = torch.cat([self.up3_2(features), encoded2], dim=1)
        features = run(self.decoder_level2, self.reduce_chan_level2(features))
        features = torch.cat([self.up2_1(features), encoded1], dim=1)
        features = run(self.decoder_level1, features)

        if self.dual_pixel_task:
            features = features + self.skip_conv(embedded)
        result, skipped = self.output(features), self.global_skip(x)
        return result if skipped is None else result + skipped
