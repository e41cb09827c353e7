"""The network evaluated on a CPU by the kernels in C++: what `strip_network` does, faster."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor, nn

from c2fdft_arch.inference.memory_plan import MemoryPlan
from c2fdft_arch.inference.native_block import NativeBlock, NativeWeights
from c2fdft_arch.inference.row_band_network import RowBandEvaluation
from c2fdft_arch.inference.row_bands import Workspace
from c2fdft_arch.native import Kernels
from c2fdft_arch.native.layout import address, image_of, pieces, round_up
from c2fdft_arch.native.structures import (
    JOIN_SHUFFLE,
    SAME,
    SHUFFLE,
    UNSHUFFLE,
    Arranged,
    Convolution,
)
from c2fdft_arch.network.plain_dft import PlainDFT


class NativeEvaluation(RowBandEvaluation):
    """The same evaluation, with what takes time done by the kernels for two number formats.

    `kernels` are those for the blocks' products, `exact` those for float32: the opening and the
    closing convolution are always computed in it.
    """

    def __init__(
        self, network: PlainDFT, t: Tensor, plan: MemoryPlan, workspace: Workspace,
        kernels: Kernels, exact: Kernels,
    ) -> None:  # fmt: skip
        super().__init__(network, t, plan, workspace)
        self.kernels = kernels
        self.exact = exact

    def level(self, blocks: nn.Module, x: Tensor) -> Tensor:
        """Apply the blocks of a level, in place."""
        b, h, w, channels = x.shape
        self.plan.band_pixels(channels, b)  # raises if the memory budget does not suffice
        with self.stack.frame():
            values = self.stack.push((b, h * w, channels), self.dtype)
            for block in blocks.children():
                with self.stack.frame():
                    weights = self.weights(self.kernels)
                    NativeBlock(block, self.time_embeddings[channels], weights)(x, values)
        return x

    def embed(self, x: Tensor, out: Tensor) -> None:
        """The opening convolution, always in float32: (B, 6, H, W) to (B, H, W, C)."""
        weight = self.network.patch_embed.proj.weight
        convolve3x3(self.weights(self.exact), x.permute(0, 2, 3, 1), weight, None, out)

    def down(self, module: nn.Module, x: Tensor) -> Tensor:
        """(B, H, W, C) to (B, H/2, W/2, 2C): 3x3 convolution, then pixel-unshuffle."""
        b, h, w, c = x.shape
        result = self.stack.push((b, h // 2, w // 2, 2 * c), torch.float32)
        weight = module.body[0].weight
        convolve3x3(self.weights(self.kernels), x, weight, None, result, UNSHUFFLE)
        return result

    def up(self, module: nn.Module, x: Tensor, target: Tensor, reduce: nn.Module | None) -> None:
        """Double the sides of x (B, H, W, C) by a 3x3 convolution and pixel-shuffle, into `target`.

        With `reduce`, the 1x1 convolution of the concatenation with the skip: `target` holds the
        skip, and is overwritten by the result.
        """
        then = SHUFFLE if reduce is None else JOIN_SHUFFLE
        weight = module.body[0].weight
        convolve3x3(self.weights(self.kernels), x, weight, None, target, then, reduce)

    def output(self, features: Tensor, x: Tensor) -> Tensor:
        """The closing convolution, in float32, and the global residual: (B, 3, H, W)."""
        net = self.network
        if net.dual_pixel_task:
            self.add_embedding(features, x)
        result = torch.empty(x.shape[0], net.out_channels, *x.shape[2:])
        out = result.permute(0, 2, 3, 1)
        conv = net.output
        convolve3x3(self.weights(self.exact), features, conv.weight, conv.bias, out)
        return result if net.dual_pixel_task else result.add_(x[:, -net.out_channels :])

    def weights(self, kernels: Kernels) -> NativeWeights:
        return NativeWeights(kernels, self.stack)


def convolve3x3(
    weights: NativeWeights,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    out: Tensor,
    target: int = SAME,
    reduce: nn.Module | None = None,
) -> None:
    """Convolve x (B, H, W, C) with a kernel (C', C, 3, 3) into `out`, both float32.

    `target` is what becomes of the result (B, H, W, C'): SAME, it is `out`; UNSHUFFLE or SHUFFLE,
    pixel-unshuffle or pixel-shuffle by 2 makes it `out`; JOIN_SHUFFLE, it is shuffled,
    concatenated with what `out` holds, and reduced to `out` by the 1x1 convolution `reduce`.
    """
    groups = 4 if target in (SHUFFLE, JOIN_SHUFFLE) else 1
    outputs = len(weight)
    with weights.stack.frame():
        # With a shuffle, channel 4 c + g belongs to corner g.
        by_group = weight.detach().flatten(2).unflatten(0, (-1, groups)).transpose(0, 1)
        if bias is not None:
            bias = bias.view(-1, groups).t().flatten()
        kept: list[Tensor] = [
            weights.packed(by_group),
            weights.padded(bias, outputs, groups),
        ]
        if reduce is not None:
            own = outputs // groups
            both = reduce.weight.detach().view(own, 2, own)
            apart = both.new_zeros(own, 2, round_up(own, weights.kernels.lanes))
            apart[:, :, :own] = both
            kept += [weights.packed(apart.flatten(1)), weights.padded(reduce.bias, own)]
        convolution = Convolution(
            *x.shape, outputs, *(address(tensor) for tensor in kept)
        )  # fmt: skip
        columns, bands = pieces(*x.shape[:3])
        weights.kernels.convolution(
            ctypes.byref(convolution), ctypes.byref(image_of(x)),
            ctypes.byref(Arranged(image_of(out), target)), columns, bands,
        )  # fmt: skip
