"""A Transformer block evaluated by row bands, with the result of the whole image.

Everything in a block is local to a pixel or its neighbours, except the attention matrix A: it
depends on q^T k and on the norms of q and k, which are sums over all pixels. So two passes suffice:

    1. q, k, v = Split(W_d W_p (LN(x) + T)); q^T k and the squared norms are summed up, v is kept.
    2. x += W_o A v, with W_o A one (C, C) matrix per image; then x += DFN(LN(x) + T).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from c2fdft_arch.inference.row_bands import Stack, Workspace, pixel_bands, row_bands
from c2fdft_arch.network.attention_matrices import attention_matrix, project_attention
from c2fdft_arch.network.layer_norm import layer_norm
from c2fdft_arch.network.plain_dft import ChannelNorm, DiffusionTransformerBlock


@dataclass(frozen=True)
class RowBandPlan:
    """How feature maps are evaluated: how many pixels at a time, in which dtype and memory."""

    pixels: int
    dtype: torch.dtype  # of matrix products and convolutions
    device: torch.device
    workspace: Workspace
    stack: Stack  # for weights

    def take(self, name: str, *shape: int, dtype: torch.dtype | None = None) -> Tensor:
        """Memory of the workspace, by default in the dtype of matrix products."""
        return self.workspace.take(name, shape, dtype or self.dtype, self.device)

    def cast(self, parameter: Tensor) -> Tensor:
        """A parameter in the dtype of matrix products."""
        if parameter.dtype == self.dtype:
            return parameter
        return self.stack.push(parameter.shape, self.dtype).copy_(parameter)


class RowBandBlock:
    """A block made ready to be evaluated. What is called "pixels" is a matrix (n, C).

    `time_embedding` is T (1, C), one for all images, or None.
    """

    def __init__(
        self, block: DiffusionTransformerBlock, time_embedding: Tensor | None, plan: RowBandPlan
    ) -> None:
        self.plan = plan
        self.attention = block.attn
        self.norm1, self.norm2 = block.norm1, block.norm2
        self.time_embedding = time_embedding
        self.qkv, self.qkv_bias = self.cast(block.attn.qkv)
        self.depthwise, self.depthwise_bias = self.cast(block.attn.qkv_dwconv)
        self.project_in = self.cast(block.ffn.project_in)
        self.project_out = self.cast(block.ffn.project_out)

    def cast(self, conv: nn.Conv2d) -> tuple[Tensor, Tensor | None]:
        """Kernel and bias in the dtype of matrix products; a 1x1 kernel as a matrix (out, in)."""
        weight = self.plan.cast(conv.weight)
        bias = None if conv.bias is None else self.plan.cast(conv.bias)
        return weight.flatten(1) if conv.kernel_size == (1, 1) else weight, bias

    def __call__(self, x: Tensor, values: Tensor) -> None:
        """Apply the block to feature maps x (B, H, W, C) in float32, in place.

        `values` (B, H * W, C), in the plan's dtype, is memory for the values of all pixels.
        """
        projected = self.projected_attention(x, values)
        bias = self.attention.project_out.bias
        bias = None if bias is None else bias.to(self.plan.dtype)
        pixels = x.flatten(1, 2)
        for images, part in pixel_bands(len(x), pixels.shape[1], self.plan.pixels):
            for image in range(images.start, images.stop):
                attended = F.linear(values[image, part], projected[image].t(), bias)
                self.add(pixels[image, part], attended)
            self.add_feed_forward(pixels[images, part].flatten(0, 1))

    def projected_attention(self, x: Tensor, values: Tensor) -> Tensor:
        """The first pass: keep the values of x (B, H, W, C), and give (W_o A)^T (B, C, C)."""
        images, _, _, channels = x.shape
        heads = self.attention.heads
        width = channels // heads
        products = torch.zeros(images, heads, width, width, device=x.device)
        squares = torch.zeros(2, images, heads, width, device=x.device)
        for some, part, qkv in self.queries_keys_values(x):
            values[some, part] = qkv[..., 2 * channels :]
            for image, of_image in enumerate(qkv, some.start):
                q, k, _ = of_image.unflatten(1, (3, heads, width)).unbind(1)
                for head in range(heads):
                    products[image, head] += q[:, head].t() @ k[:, head]
                squares[0, image] += self.sum_of_squares(q)
                squares[1, image] += self.sum_of_squares(k)
        attention = attention_matrix(products, squares, self.attention.temperature)
        w_o = self.attention.project_out.weight
        return project_attention(attention, w_o).to(self.plan.dtype)

    def sum_of_squares(self, q: Tensor) -> Tensor:
        """The squares of q (n, heads, c) added up in float32, (heads, c)."""
        squares = self.plan.take('float32', *q.shape, dtype=torch.float32)
        return squares.copy_(q).square_().sum(0)

    def queries_keys_values(self, x: Tensor) -> Iterator[tuple[slice, slice, Tensor]]:
        """Yield (images, pixels, qkv) over all of x (B, H, W, C); qkv is (images, pixels, 3C)."""
        images, height, width, channels = x.shape
        if height * width > self.plan.pixels:
            for image in range(images):
                for part, qkv in self._of_row_bands(x[image]):
                    yield slice(image, image + 1), part, qkv
            return
        for some, part in pixel_bands(images, height * width, self.plan.pixels):
            window = self.plan.take('wide', *x[some].shape[:3], 3 * channels)
            self.project_qkv(x[some], window)
            yield some, part, self.convolve(window, pad_rows=1)

    def _of_row_bands(self, x: Tensor) -> Iterator[tuple[slice, Tensor]]:
        """Yield (pixels, qkv) of one image x (H, W, C).

        The depth-wise convolution needs the projected rows above and below a band. They are not
        computed twice: the last two of a band's window are the first two of the next.
        """
        height, width, channels = x.shape
        band_rows = max(1, self.plan.pixels // width)
        window = self.plan.take('wide', band_rows + 2, width, 3 * channels)
        window[0].zero_()  # the row above the image
        first, last = 1, 0  # rows of the window: the first that is not there, the lowest
        for rows in row_bands(height, band_rows):
            if rows.start > 0:
                window[0] = window[last - 1]
                window[1] = window[last]
                first = 2
            last = rows.stop - rows.start + 1
            new = x[rows.start - 1 + first : rows.stop + 1]
            self.project_qkv(new, window[first : first + len(new)])
            if rows.stop == height:
                window[last].zero_()  # the row below the image
            qkv = self.convolve(window[None, : last + 1], pad_rows=0)
            yield slice(rows.start * width, rows.stop * width), qkv

    def project_qkv(self, x: Tensor, out: Tensor) -> None:
        """The 1x1 convolution of LN(x) + T to queries, keys and values."""
        y, out = self.normalized(self.norm1, x.flatten(0, -2)), out.flatten(0, -2)
        if self.qkv_bias is None:
            torch.mm(y, self.qkv.t(), out=out)
        else:
            torch.addmm(self.qkv_bias, y, self.qkv.t(), out=out)

    def convolve(self, window: Tensor, pad_rows: int) -> Tensor:
        """The 3x3 depth-wise convolution of (B, H, W, 3C) to (B, H' * W, 3C)."""
        image, groups = window.permute(0, 3, 1, 2), window.shape[3]
        qkv = F.conv2d(image, self.depthwise, self.depthwise_bias, 1, (pad_rows, 1), 1, groups)
        return qkv.permute(0, 2, 3, 1).flatten(1, 2)

    def add_feed_forward(self, pixels: Tensor) -> None:
        """pixels += DFN(LN(pixels) + T)."""
        hidden = F.linear(self.normalized(self.norm2, pixels), *self.project_in)
        hidden = torch.ops.aten.gelu_(hidden)  # in place, which F.gelu does not offer
        self.add(pixels, F.linear(hidden, *self.project_out))

    def normalized(self, norm: ChannelNorm, pixels: Tensor) -> Tensor:
        """LN(pixels) + T, in the dtype of matrix products."""
        y = layer_norm(pixels, self.time_embedding, norm.body.weight, norm.body.bias)[0]
        return y if y.dtype == self.plan.dtype else self.plan.take('normalized', *y.shape).copy_(y)

    def add(self, x: Tensor, branch: Tensor) -> None:
        """x (n, C) in float32 += branch (n, C)."""
        if branch.dtype != x.dtype:
            branch = self.plan.take('float32', *x.shape, dtype=x.dtype).copy_(branch)
        x += branch
