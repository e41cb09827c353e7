"""The network evaluated on a GPU by the kernels in Triton, with CUDA graphs for repeated calls."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from c2fdft_arch.inference.row_band_network import RowBandEvaluation
from c2fdft_arch.inference.row_bands import row_bands
from c2fdft_arch.network.plain_dft import DiffusionTransformerBlock
from c2fdft_arch.triton_kernels.attention import project_attention
from c2fdft_arch.triton_kernels.depthwise import (
    Rows,
    attention_products,
    depthwise,
    product_tiling,
)
from c2fdft_arch.triton_kernels.launching import WHOLE_PIXEL_CHANNELS
from c2fdft_arch.triton_kernels.normalisation import Norm, norm_project
from c2fdft_arch.triton_kernels.products import add_product, finish_block


class TritonEvaluation(RowBandEvaluation):
    """The same evaluation; a block is evaluated by row bands only where it would not fit else."""

    def apply(self, block: nn.Module, x: Tensor, values: Tensor, pixels: int) -> None:
        """Apply a block to x (B, H, W, C) in place; `values` (B, H * W, C) is memory for v."""
        with self.stack.frame():
            self._apply(block, x, values, pixels)

    def _apply(
        self, block: DiffusionTransformerBlock, x: Tensor, values: Tensor, pixels: int
    ) -> None:
        attention, ffn = block.attn, block.ffn
        time_embedding = self.time_embeddings[x.shape[3]]
        norm1, norm2 = (
            (norm.body.weight, norm.body.bias, time_embedding)
            for norm in (block.norm1, block.norm2)
        )
        sums = self.attention_sums(block, x, norm1, values, pixels)
        w_o, b_o = attention.project_out.weight, attention.project_out.bias
        projected, _ = project_attention(sums, attention.temperature, w_o, self.dtype)
        w_in, b_in = self.cast(ffn.project_in.weight), ffn.project_in.bias
        w_out, b_out = self.cast(ffn.project_out.weight), ffn.project_out.bias
        flat = x.flatten(1, 2)
        if x.shape[3] <= WHOLE_PIXEL_CHANNELS:
            finish_block(flat, values, projected, b_o, norm2, w_in, b_in, w_out, b_out)
            return
        add_product(flat, values, projected, b_o, flat)
        for part in row_bands(flat.shape[1], pixels):
            band = flat[:, part]
            hidden = F.linear(
                norm_project(band, norm2, None, None, self.dtype)[0],
                w_in.flatten(1), None if b_in is None else b_in.to(self.dtype),
            )  # fmt: skip
            add_product(band, hidden, w_out, b_out, band, gelu=True)

    def attention_sums(
        self, block: DiffusionTransformerBlock, x: Tensor, norm: Norm, values: Tensor, pixels: int
    ) -> Tensor:
        """q^T k and the squares of q and k (B * heads, c + 2, c); v goes to `values`."""
        (b, height, width, c), heads = x.shape, block.attn.heads
        weight, bias = self.cast(block.attn.qkv.weight), block.attn.qkv.bias
        taps = block.attn.qkv_dwconv.weight.view(3 * c, 9).t().contiguous()
        bands = [
            Rows(height, width, rows.start, rows.stop)
            for rows in row_bands(height, pixels // (b * width))
        ]
        parts = [product_tiling(rows.pixels, c // heads)[2] for rows in bands]
        sums = x.new_empty(sum(parts), b * heads, c // heads + 2, c // heads)
        part = 0
        for rows, count in zip(bands, parts, strict=True):
            band = x[:, rows.top : rows.bottom].flatten(1, 2)
            if c <= WHOLE_PIXEL_CHANNELS:
                z, _, _ = norm_project(band, norm, weight, bias, self.dtype)
            else:
                y, _, _ = norm_project(band, norm, None, None, self.dtype)
                z = F.linear(y, weight.flatten(1), None if bias is None else bias.to(self.dtype))
            dw_bias = block.attn.qkv_dwconv.bias
            attention_products(z, taps, dw_bias, heads, rows, sums, part)
            depthwise(z, taps, dw_bias, rows, values, first=2 * c)
            part += count
        return sums.sum(0)

    def up(self, module: nn.Module, x: Tensor, target: Tensor, reduce: nn.Module | None) -> None:
        """Double the sides of x (B, H, W, C) by a 3x3 convolution and pixel-shuffle, into `target`.

        With `reduce`, the 1x1 convolution of the concatenation with the skip: `target` holds the
        skip, and is overwritten by the result.
        """
        b, h, w, _ = x.shape
        kernel = self.cast(module.body[0].weight, torch.channels_last)
        for rows in self.bands(x):
            top, bottom = max(rows.start - 1, 0), min(rows.stop + 1, h)
            window = x[:, top:bottom].to(self.dtype).permute(0, 3, 1, 2)
            y = F.conv2d(window, kernel, padding=1).permute(0, 2, 3, 1)
            y = y[:, rows.start - top : rows.stop - top]
            shuffled = y.reshape(b, -1, w, y.shape[3] // 4, 2, 2).permute(0, 1, 4, 2, 5, 3)
            shuffled = shuffled.reshape(b, -1, 2 * w, y.shape[3] // 4)
            skip = target[:, 2 * rows.start : 2 * rows.stop]
            skip.copy_(shuffled if reduce is None else self.reduced(reduce, shuffled, skip))

    def reduced(self, reduce: nn.Module, band: Tensor, skip: Tensor) -> Tensor:
        """The 1x1 convolution `reduce` of the concatenation of a band and the skip."""
        weight, bias = self.cast(reduce.weight).flatten(1), reduce.bias
        result = F.linear(torch.cat([band, skip.to(self.dtype)], dim=3), weight)
        return result if bias is None else result + bias

    def cast(
        self, weight: Tensor, memory_format: torch.memory_format = torch.contiguous_format
    ) -> Tensor:
        """A weight in the dtype of matrix products."""
        return weight.to(self.dtype, memory_format=memory_format)
