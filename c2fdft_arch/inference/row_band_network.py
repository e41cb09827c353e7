"""The network evaluated by row bands: without gradients, in bounded memory."""

import itertools
import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from c2fdft_arch.inference.memory_plan import MemoryPlan
from c2fdft_arch.inference.row_band_block import RowBandBlock, RowBandPlan
from c2fdft_arch.inference.row_bands import Stack, Workspace, conv3x3, row_bands
from c2fdft_arch.network.plain_dft import PlainDFT


class RowBandEvaluation:
    """One evaluation of a network, for images that share their timestep.

    Feature maps are (B, H, W, C) in float32, whatever the dtype of matrix products: what the blocks
    add to them is small beside what they hold, and would be rounded away.
    """

    def __init__(
        self, network: PlainDFT, t: Tensor, plan: MemoryPlan, workspace: Workspace
    ) -> None:
        self.network = network
        self.plan = plan
        self.dtype = plan.dtype
        self.workspace = workspace
        self.time_embeddings = network.embeddings(t)

    def __call__(self, x: Tensor) -> Tensor:
        """Predict the noise in x (B, 6, H, W)."""
        net, c = self.network, self.network.dim
        # The last level works on the concatenation of the upsampled features and of the first
        # level's. Both are computed in their half of `joined`: nothing is moved, and the largest
        # feature maps exist once.
        shape = len(x), *x.shape[2:], 2 * c
        joined = self.workspace.take('joined', shape, torch.float32, x.device)
        values = math.prod(shape) * self.dtype.itemsize
        self.stack = Stack(self.workspace.take('values', (values,), torch.uint8, x.device))
        upsampled, encoded1 = joined.split(c, dim=3)
        self.convolve_fp32(net.patch_embed.proj, x.permute(0, 2, 3, 1), out=encoded1)
        self.level(net.encoder_level1, encoded1)
        with self.stack.frame():
            encoded2 = self.level(net.encoder_level2, self.down(net.down1_2, encoded1))
            with self.stack.frame():
                encoded3 = self.level(net.encoder_level3, self.down(net.down2_3, encoded2))
                with self.stack.frame():
                    latent = self.level(net.latent, self.down(net.down3_4, encoded3))
                    self.up(net.up4_3, latent, encoded3, net.reduce_chan_level3)
                decoded3 = self.level(net.decoder_level3, encoded3)
                self.up(net.up3_2, decoded3, encoded2, net.reduce_chan_level2)
            decoded2 = self.level(net.decoder_level2, encoded2)
            self.up(net.up2_1, decoded2, upsampled, None)
        self.level(net.decoder_level1, joined)
        return self.output(joined, x)

    def level(self, blocks: nn.Module, x: Tensor) -> Tensor:
        """Apply the blocks of a level, in place."""
        b, h, w, channels = x.shape
        pixels = self.plan.band_pixels(channels, b)
        with self.stack.frame():
            values = self.stack.push((b, h * w, channels), self.dtype)
            for block in blocks.children():
                self.apply(block, x, values, pixels)
        return x

    def apply(self, block: nn.Module, x: Tensor, values: Tensor, pixels: int) -> None:
        """Apply a block by bands of so many pixels, in place; `values` as for `RowBandBlock`."""
        plan = RowBandPlan(pixels, self.dtype, x.device, self.workspace, self.stack)
        with self.stack.frame():
            RowBandBlock(block, self.time_embeddings[x.shape[3]], plan)(x, values)

    def bands(self, x: Tensor, multiple: int = 1) -> Iterator[slice]:
        """The rows of each band in which feature maps (B, H, W, C) pass a 3x3 convolution."""
        images, height, width, channels = x.shape
        rows = self.plan.band_pixels(channels, images) // (images * width)
        return row_bands(height, rows, multiple)

    def convolve_fp32(self, conv: nn.Module, x: Tensor, out: Tensor) -> None:
        """The first or the last convolution, always in float32: (B, H, W, C) to (B, H, W, C')."""
        bands = self.bands(max(x, out, key=lambda features: features.shape[3]))
        for rows, band in conv3x3(x, conv.weight, conv.bias, bands):
            out[:, rows] = band

    def down(self, module: nn.Module, x: Tensor) -> Tensor:
        """(B, H, W, C) to (B, H/2, W/2, 2C): 3x3 convolution, then pixel-unshuffle."""
        b, h, w, c = x.shape
        result = self.stack.push((b, h // 2, w // 2, c // 2, 2, 2), torch.float32)
        unshuffled = result.permute(0, 1, 4, 2, 5, 3)  # (B, H/2, 2, W/2, 2, C/2)
        with self.stack.frame():
            kernel = self.kernel(module.body[0].weight)
            for rows, band in conv3x3(x, kernel, None, self.bands(x, multiple=2)):
                half = slice(rows.start // 2, rows.stop // 2)
                unshuffled[:, half] = band.reshape(b, -1, 2, w // 2, 2, c // 2)
        return result.flatten(3)

    def up(self, module: nn.Module, x: Tensor, target: Tensor, reduce: nn.Module | None) -> None:
        """Double the sides of x (B, H, W, C) by a 3x3 convolution and pixel-shuffle, into `target`.

        With `reduce`, the 1x1 convolution of the concatenation with the skip: `target` holds the
        skip, and is overwritten by the result. The concatenation never exists as a whole.
        """
        # One corner of each 2 x 2 square at a time: a quarter of the kernel, and no shuffling.
        for number, (row, column) in enumerate(itertools.product(range(2), repeat=2)):
            corner = target[:, row::2, column::2]
            with self.stack.frame():
                kernel = self.kernel(module.body[0].weight[number::4])
                for rows, band in conv3x3(x, kernel, None, self.bands(x)):
                    skip = corner[:, rows]
                    skip.copy_(band if reduce is None else self.reduced(reduce, band, skip))

    def reduced(self, reduce: nn.Module, band: Tensor, skip: Tensor) -> Tensor:
        """The 1x1 convolution `reduce` of the concatenation of a band and the skip."""
        joined = torch.cat([band, skip.to(self.dtype)], dim=3)
        result = F.linear(joined, reduce.weight.flatten(1).to(self.dtype))
        return result if reduce.bias is None else result + reduce.bias

    def kernel(self, weight: Tensor) -> Tensor:
        """A kernel (C', C, 3, 3) in the dtype and memory layout of the convolutions."""
        channels_last = weight.permute(0, 2, 3, 1)
        kernel = self.stack.push(channels_last.shape, self.dtype).copy_(channels_last)
        return kernel.permute(0, 3, 1, 2)

    def output(self, features: Tensor, x: Tensor) -> Tensor:
        """The last convolution and the global residual: (B, 3, H, W)."""
        net = self.network
        if net.dual_pixel_task:
            self.add_embedding(features, x)
        result = torch.empty(x.shape[0], net.out_channels, *x.shape[2:], device=x.device)
        self.convolve_fp32(net.output, features, out=result.permute(0, 2, 3, 1))
        skipped = net.global_skip(x)
        return result if skipped is None else result.add_(skipped)

    def add_embedding(self, features: Tensor, x: Tensor) -> None:
        """features (B, H, W, 2C) += the 1x1 convolution of the first one, computed once more."""
        skip, weight = self.network.skip_conv, self.network.patch_embed.proj.weight
        for rows, band in conv3x3(x.permute(0, 2, 3, 1), weight, None, self.bands(features)):
            features[:, rows] += F.linear(band, skip.weight.flatten(1), skip.bias)
