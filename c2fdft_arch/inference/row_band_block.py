"""A Transformer block evaluated strip by strip, with the exact result of the whole image.

Everything in a block is local to a pixel or its neighbours, except the attention matrix: a sum
over all pixels. So two passes over the image suffice. The first computes queries, keys and values,
adds up q^T k and the squared norms of q and k, and keeps the values. Then the attention matrix A is
known, and since the output projection W_o is linear, W_o A is one C x C matrix for the image. The
second pass applies it, and the feed-forward network.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from c2fdft_arch.inference.fused_ops import PixelLinear
from c2fdft_arch.inference.row_bands import Stack, Workspace, row_bands
from c2fdft_arch.network.attention_matrices import attention_matrix, mixing_matrix
from c2fdft_arch.network.layer_norm import layer_norm
from c2fdft_arch.network.plain_dft import ChannelNorm, DiffusionTransformerBlock


@dataclass(frozen=True)
class RowBandPlan:
    """How feature maps are evaluated: how many pixels at a time, and in what number format."""

    pixels: int
    all_pixels: int  # of the feature maps
    dtype: torch.dtype
    device: torch.device
    workspace: Workspace
    stack: Stack  # for weights

    def take(self, name: str, *shape: int, dtype: torch.dtype | None = None) -> Tensor:
        """Memory of the workspace, by default in the number format of matrix products."""
        return self.workspace.take(name, shape, dtype or self.dtype, self.device)


class RowBandBlock:
    """A block made ready to be evaluated: its weights as matrices in the plan's number format.

    `shift` is T (C,), one for all images, or None. What is called "pixels" is a matrix (n, C).
    """

    def __init__(
        self, block: DiffusionTransformerBlock, shift: Tensor | None, plan: RowBandPlan
    ) -> None:
        self.plan = plan
        self.attention = block.attn
        self.norm1, self.norm2 = block.norm1, block.norm2
        self.shift = None if shift is None else shift[None]
        attention, ffn = block.attn, block.ffn
        self.qkv = self.matrix(attention.qkv.weight).t(), self.cast(attention.qkv.bias)
        self.depthwise = self.cast(attention.qkv_dwconv.weight)
        self.depthwise_bias = self.cast(attention.qkv_dwconv.bias)
        self.expand = self.linear(ffn.project_in)
        self.contract = self.linear(ffn.project_out)

    def matrix(self, weight: Tensor) -> Tensor:
        """The kernel of a 1x1 convolution (out, in, 1, 1) as a matrix (out, in)."""
        weight = weight.flatten(1)
        if weight.dtype == self.plan.dtype:
            return weight
        return self.plan.stack.push(weight.shape, self.plan.dtype).copy_(weight)

    def linear(self, convolution: nn.Conv2d) -> PixelLinear:
        """A 1x1 convolution of pixels."""
        return self.packed(self.matrix(convolution.weight), convolution.bias)

    def packed(self, weight: Tensor, bias: Tensor | None) -> PixelLinear:
        """Multiplication by a weight (out, in) in the number format of matrix products."""
        return PixelLinear(weight, self.cast(bias), self.plan.all_pixels)

    def cast(self, parameter: Tensor | None) -> Tensor | None:
        """A parameter, if there is one, in the number format of matrix products."""
        return None if parameter is None else parameter.to(self.plan.dtype)

    def __call__(self, x: Tensor, values: Tensor) -> None:
        """Apply the block to feature maps x (B, H, W, C) in float32, in place.

        `values` (B, H * W, C), in the plan's number format, is memory for the values of all pixels.
        """
        images, height, width, channels = x.shape
        pixels = height * width
        sums = AttentionSums(images, channels, self.attention.heads, self.plan)
        for some, part, qkv in self.queries_keys_values(x):
            sums.add(some, qkv)
            values[some, part] = qkv[..., 2 * channels :]
        weights = attention_matrix(sums.products, sums.squares, self.attention.temperature)
        mixing = mixing_matrix(weights, self.attention.project_out.weight).to(self.plan.dtype)
        project = [self.packed(matrix.t(), self.attention.project_out.bias) for matrix in mixing]
        flat = x.flatten(1, 2)
        for some, part in pixel_strips(images, pixels, self.plan.pixels):
            for image in range(some.start, some.stop):
                self.add(flat[image, part], project[image](values[image, part]))
            self.add_feed_forward(flat[some, part].flatten(0, 1))

    def queries_keys_values(self, x: Tensor) -> Iterator[tuple[slice, slice, Tensor]]:
        """Yield (images, pixels, qkv) over all of x (B, H, W, C); qkv is (images, pixels, 3C)."""
        images, height, width, channels = x.shape
        if height * width > self.plan.pixels:
            for image in range(images):
                for part, qkv in self._of_row_strips(x[image]):
                    yield slice(image, image + 1), part, qkv
            return
        for some, part in pixel_strips(images, height * width, self.plan.pixels):
            piece = x[some]
            window = self.plan.take('wide', *piece.shape[:3], 3 * channels)
            self.project_qkv(piece, window)
            yield some, part, self.convolve(window, pad_rows=1)

    def _of_row_strips(self, x: Tensor) -> Iterator[tuple[slice, Tensor]]:
        """Yield (pixels, qkv) of one image x (H, W, C).

        The depth-wise convolution needs a row above and below. Instead of computing these twice,
        the last two projected rows of a strip are carried over to the next: results lag one row.
        """
        height, width, channels = x.shape
        rows = max(1, self.plan.pixels // width)
        window = self.plan.take('wide', rows + 3, width, 3 * channels)
        window[0].zero_()  # the row above the image
        filled, done = 1, 0
        for first, end in row_bands(height, rows):
            self.project_qkv(x[first:end], window[filled : filled + end - first])
            filled += end - first
            if end == height:
                window[filled].zero_()  # the row below the image
                filled += 1
            if filled < 3:
                continue
            ready = filled - 2
            qkv = self.convolve(window[None, :filled], pad_rows=0)
            yield slice(done * width, (done + ready) * width), qkv
            done += ready
            window[0] = window[ready]
            window[1] = window[ready + 1]
            filled = 2

    def project_qkv(self, x: Tensor, out: Tensor) -> None:
        """The 1x1 convolution of LN(x) + T to queries, keys and values."""
        pixels = x.flatten(0, -2)
        product(self.normalized(self.norm1, pixels), *self.qkv, out.view(len(pixels), -1))

    def normalized(self, norm: ChannelNorm, pixels: Tensor) -> Tensor:
        """LN(pixels) + T, in the number format of matrix products."""
        y = layer_norm(pixels, self.shift, norm.body.weight, norm.body.bias)[0]
        return y if y.dtype == self.plan.dtype else self.plan.take('normalized', *y.shape).copy_(y)

    def convolve(self, window: Tensor, pad_rows: int) -> Tensor:
        """The 3x3 depth-wise convolution of (B, H, W, 3C) to (B, H' * W, 3C)."""
        image = window.permute(0, 3, 1, 2)
        qkv = F.conv2d(
            image, self.depthwise, self.depthwise_bias, 1, (pad_rows, 1), 1, image.shape[1]
        )
        return qkv.permute(0, 2, 3, 1).flatten(1, 2)

    def add_feed_forward(self, pixels: Tensor) -> None:
        """pixels += DFN(LN(pixels) + T)."""
        hidden = self.expand.gelu(self.normalized(self.norm2, pixels))
        self.add(pixels, self.contract(hidden))

    def add(self, x: Tensor, branch: Tensor) -> None:
        """x (n, C) in float32 += branch (n, C)."""
        if branch.dtype != x.dtype:
            branch = self.plan.take('float32', *x.shape, dtype=x.dtype).copy_(branch)
        x += branch


def pixel_strips(images: int, pixels: int, limit: int) -> Iterator[tuple[slice, slice]]:
    """Cut (images, pixels) into several whole images, or parts of one, of up to `limit` pixels."""
    if pixels <= limit:
        for first, end in row_bands(images, limit // pixels):
            yield slice(first, end), slice(0, pixels)
        return
    for image in range(images):
        for first, end in row_bands(pixels, limit):
            yield slice(image, image + 1), slice(first, end)


class AttentionSums:
    """Running float32 sums over pixels: q^T k of each head, and the squares of q and k."""

    def __init__(self, images: int, channels: int, heads: int, plan: RowBandPlan) -> None:
        width = channels // heads
        self.plan = plan
        self.products = torch.zeros(images, heads, width, width, device=plan.device)
        self.squares = torch.zeros(2, images, heads, width, device=plan.device)

    def add(self, some: slice, qkv: Tensor) -> None:
        """Add the pixels of qkv (B, n, 3C), which belong to the images `some`."""
        heads, width = self.products.shape[1:3]
        for image, of_image in enumerate(qkv, some.start):
            both = of_image[:, : 2 * heads * width]
            self.add_products(self.products[image], both.view(-1, 2, heads, width))
            for total, part in zip(self.squares[:, image], both.chunk(2, dim=1), strict=True):
                total += self.sum_of_squares(part).view(heads, width)

    def add_products(self, products: Tensor, both: Tensor) -> None:
        """products (heads, c, c) += q^T k of both (n, 2, heads, c)."""
        q, k = both.unbind(1)
        if both.dtype == products.dtype:
            torch.baddbmm(products, q.permute(1, 2, 0), k.transpose(0, 1), out=products)
            return
        for total, q_h, k_h in zip(products, q.unbind(1), k.unbind(1), strict=True):
            total += torch.mm(q_h.t(), k_h)

    def sum_of_squares(self, pixels: Tensor) -> Tensor:
        """The squares of pixels (n, C) added up, (C,)."""
        squares = self.plan.take('float32', *pixels.shape, dtype=torch.float32)
        if pixels.dtype == squares.dtype:
            return torch.mul(pixels, pixels, out=squares).sum(0)
        return squares.copy_(pixels).mul_(squares).sum(0)


def product(pixels: Tensor, weight: Tensor, bias: Tensor | None, out: Tensor) -> Tensor:
    """pixels (n, in) times weight (in, out), plus bias, into `out`."""
    if bias is None:
        return torch.mm(pixels, weight, out=out)
    return torch.addmm(bias, pixels, weight, out=out)
