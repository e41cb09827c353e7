"""The network evaluated on a CPU by the kernels in C++: what `RowBandEvaluation` does, faster."""

import torch
from torch import Tensor, nn

from c2fdft_arch.inference.memory_plan import MemoryPlan
from c2fdft_arch.inference.row_band_network import RowBandEvaluation
from c2fdft_arch.inference.row_bands import Workspace
from c2fdft_arch.native import arguments
from c2fdft_arch.native.arguments import as_taken
from c2fdft_arch.native.bindings import Kernels
from c2fdft_arch.native.convolution import convolve3x3
from c2fdft_arch.native.layout import per_image
from c2fdft_arch.native.structures import JOIN_SHUFFLE, SHUFFLE, UNSHUFFLE
from c2fdft_arch.network.plain_dft import DiffusionTransformerBlock, PlainDFT


class NativeEvaluation(RowBandEvaluation):
    """The same evaluation by kernels: `kernels` of the dtype of the blocks' products.

    The first and the last convolution are always computed in float32, by `fp32_kernels`.
    """

    def __init__(
        self, network: PlainDFT, t: Tensor, plan: MemoryPlan, workspace: Workspace,
        kernels: Kernels, fp32_kernels: Kernels,
    ) -> None:  # fmt: skip
        super().__init__(network, t, plan, workspace)
        self.kernels = kernels
        self.fp32_kernels = fp32_kernels

    def apply(self, block: nn.Module, x: Tensor, values: Tensor, pixels: int) -> None:
        """Apply a block, in place; the kernels choose the pixels of their bands themselves."""
        apply_block(self.kernels, block, self.time_embeddings[x.shape[3]], x, values)

    def convolve_fp32(self, conv: nn.Module, x: Tensor, out: Tensor) -> None:
        """The first or the last convolution: (B, H, W, C) to (B, H, W, C')."""
        convolve3x3(self.fp32_kernels, x, conv.weight, conv.bias, out)

    def down(self, module: nn.Module, x: Tensor) -> Tensor:
        """(B, H, W, C) to (B, H/2, W/2, 2C): 3x3 convolution, then pixel-unshuffle."""
        b, h, w, c = x.shape
        result = self.stack.push((b, h // 2, w // 2, 2 * c), torch.float32)
        convolve3x3(self.kernels, x, module.body[0].weight, None, result, UNSHUFFLE)
        return result

    def up(self, module: nn.Module, x: Tensor, target: Tensor, reduce: nn.Module | None) -> None:
        """Double the sides of x (B, H, W, C) by a 3x3 convolution and pixel-shuffle, into `target`.

        With `reduce`, the 1x1 convolution of the concatenation with the skip: `target` holds the
        skip, and is overwritten by the result.
        """
        layout = SHUFFLE if reduce is None else JOIN_SHUFFLE
        convolve3x3(self.kernels, x, module.body[0].weight, None, target, layout, reduce)


def apply_block(
    kernels: Kernels, block: DiffusionTransformerBlock, time_embedding: Tensor | None, x: Tensor,
    values: Tensor,
) -> None:  # fmt: skip
    """Apply a block to feature maps x (B, H, W, C) in float32, in place.

    `time_embedding` is T (1, C), one for all images, or None. Pixels of x may lie apart, but rows
    follow each other. `values` (B, H * W, C), of the kernels' dtype, is memory for the values of
    all pixels.
    """
    attention, ffn, norm1, norm2 = block.attn, block.ffn, block.norm1.body, block.norm2.body
    time_embeddings = per_image(time_embedding, len(x))
    norms = [(*as_taken(n.weight, n.bias), time_embeddings) for n in (norm1, norm2)]
    of_attention = as_taken(
        attention.qkv.weight, attention.qkv.bias, attention.qkv_dwconv.weight,
        attention.qkv_dwconv.bias, attention.temperature, attention.project_out.weight,
        attention.project_out.bias,
    )  # fmt: skip
    expand, contract = ffn.project_in, ffn.project_out
    of_ffn = as_taken(expand.weight, expand.bias, contract.weight, contract.bias)
    kernels.transformer_block(
        x,
        arguments.attention(x, attention.heads, norms[0], of_attention),
        arguments.feed_forward(x, norms[1], of_ffn),
        values,
    )
