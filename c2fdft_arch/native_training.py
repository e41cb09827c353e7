"""The halves of a Transformer block in training by the kernels in C++: what `blocks` does, faster.

Each half is one autograd function with the arguments of its counterpart there. Little is kept of a
forward pass: the kernels compute again, while they are at it, what costs less than to read back.
"""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from c2fdft_arch.native import Kernels, kernels
from c2fdft_arch.native.structures import (
    Attention,
    AttentionGradient,
    Features,
    FeedForward,
    FeedForwardGradient,
    FirstPass,
    Matrices,
    Norm,
    Pixels,
)
from c2fdft_arch.native_block import NativeWeights, address, pieces
from c2fdft_arch.plain_dft import PlainDFT
from c2fdft_arch.strips import Stack

TILE_PIXELS = 64  # as in products.h
SPARE_BYTES = 2**16

reference = ctypes.byref


class NativeTraining:
    """The kernels for a number format, and memory for the weights as they lay them out."""

    def __init__(self, kernels: Kernels, dtype: torch.dtype, network: PlainDFT) -> None:
        widest = (8 * network.dim) ** 2 * dtype.itemsize
        size = int(max(6, 2 * network.ffn_factor) * widest) + SPARE_BYTES
        self.kernels = kernels
        self.dtype = dtype
        self.stack = Stack(torch.empty(size, dtype=torch.uint8))

    @staticmethod
    def of(network: PlainDFT, dtype: torch.dtype) -> NativeTraining | None:
        """For a network on a device for which there are kernels, else None."""
        found = kernels(dtype, network.output.weight.device)
        return None if found is None else NativeTraining(found, dtype, network)

    def suits(self, block: nn.Module) -> bool:
        """Whether the kernels take a block: hidden and heads' channels must be whole vectors."""
        hidden, channels = block.ffn.project_in.weight.shape[:2]
        lanes = self.kernels.lanes
        return hidden % lanes == 0 and channels % (block.attn.heads * lanes) == 0


class NativeNorm:
    """A norm with T added, as the kernels take it: one offset for each image, or one for all."""

    def __init__(self, weight: Tensor, bias: Tensor | None, shift: Tensor | None) -> None:
        parts = [part for part in (bias, shift) if part is not None]
        offset = sum(parts[1:], parts[0]) if parts else torch.zeros_like(weight)
        self.offset = offset.reshape(-1, len(weight)).contiguous()
        self.next_offset = len(weight) if len(self.offset) > 1 else 0
        self.structure = Norm(address(weight), address(self.offset), bias is not None)


class NativeAttentionBranch(torch.autograd.Function):
    """x + DFSA(LN(x) + T)."""

    @staticmethod
    def forward(
        ctx, x, shift, native, norm_weight, norm_bias, w_qkv, b_qkv, w_dw, b_dw, temperature, w_o,
        b_o,
    ):  # fmt: skip
        x = x.contiguous()
        (b, h, w, c), heads = x.shape, len(temperature)
        values, queries_keys = (
            x.new_empty(b, h * w, size, dtype=native.dtype) for size in (c, 2 * c)
        )
        matrices = (
            x.new_empty(b, heads, c // heads, c // heads),  # q^T k
            x.new_empty(2, b, c),  # the squares of q and k
            x.new_empty(b, heads, c // heads, c // heads),  # A
            x.new_empty(b, c, c),  # W_o A
        )
        out = torch.empty_like(x)
        norm = NativeNorm(norm_weight, norm_bias, shift)
        with native.stack.frame():
            weights = NativeWeights(native.kernels, native.stack)
            kept = [
                weights.packed(w_qkv.flatten(1)), weights.padded(b_qkv, 3 * c),
                w_dw.view(3 * c, 9).t().contiguous(), weights.padded(b_dw, 3 * c), queries_keys,
            ]  # fmt: skip
            bias = weights.padded(b_o, c)
            pass_ = Attention(
                FirstPass(heads, norm.structure, norm.next_offset, *map(address, kept)),
                Matrices(*map(address, (temperature, w_o, *matrices))), address(bias),
            )  # fmt: skip
            native.kernels.attention(
                reference(features(x)), reference(pass_), *pieces(b, h, w), address(values),
                address(out),
            )  # fmt: skip
        ctx.save_for_backward(
            x, queries_keys, values, *matrices, norm_weight, norm_bias, w_qkv, b_qkv, w_dw,
            temperature, w_o,
        )  # fmt: skip
        ctx.native, ctx.shift = native, shift
        ctx.biases = b_qkv is not None, b_dw is not None, b_o is not None
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        (x, queries_keys, values, *matrices, norm_weight, norm_bias, w_qkv, b_qkv, w_dw,
         temperature, w_o) = ctx.saved_tensors  # fmt: skip
        native, grad = ctx.native, grad.contiguous()
        b, h, w, c = x.shape
        bands = native.kernels.bands(reference(features(x)))
        d_x, d_norm, d_dw = (
            torch.empty_like(x),
            x.new_empty(2, bands, c),
            x.new_empty(bands, 10, 3 * c),
        )
        d_w_qkv, d_w_o = torch.empty_like(w_qkv), torch.empty_like(w_o)
        d_b_qkv = x.new_empty(3 * c) if ctx.biases[0] else None
        d_temperature = x.new_empty(b, len(temperature))
        norm = NativeNorm(norm_weight, norm_bias, ctx.shift)
        with native.stack.frame():
            weights = NativeWeights(native.kernels, native.stack)
            kept = [
                weights.packed(w_qkv.flatten(1)), weights.padded(b_qkv, 3 * c),
                weights.packed(w_qkv.flatten(1).t()),
                w_dw.view(3 * c, 9).t().flip(0).contiguous(),
            ]  # fmt: skip
            gradient = AttentionGradient(
                len(temperature), norm.structure, norm.next_offset, *map(address, kept),
                Matrices(*map(address, (temperature, w_o, *matrices))),
                *map(address, (d_x, *d_norm, d_dw, d_w_qkv)), address(d_b_qkv),
                address(d_temperature), address(d_w_o),
            )  # fmt: skip
            native.kernels.attention_gradient(
                reference(features(x)), reference(gradient), address(queries_keys),
                address(values), address(grad),
            )  # fmt: skip
        d_norm_weight, d_norm_bias = d_norm.sum(1)
        d_dw = d_dw.sum(0)
        return (
            d_x, None, None, d_norm_weight, None if norm_bias is None else d_norm_bias, d_w_qkv,
            d_b_qkv, d_dw[:9].t().reshape(w_dw.shape), d_dw[9] if ctx.biases[1] else None,
            d_temperature.sum(0).view_as(temperature), d_w_o,
            grad.sum((0, 1, 2)) if ctx.biases[2] else None,
        )  # fmt: skip


class NativeFeedForwardBranch(torch.autograd.Function):
    """x + DFN(LN(x) + T)."""

    @staticmethod
    def forward(ctx, x, shift, native, norm_weight, norm_bias, w_in, b_in, w_out, b_out):
        x = x.contiguous()
        hidden, c = w_in.shape[:2]
        out = torch.empty_like(x)
        tiles = native.kernels.tiles(pixels(x).count)
        before_gelu = x.new_empty(tiles, TILE_PIXELS, hidden, dtype=native.dtype)
        norm = NativeNorm(norm_weight, norm_bias, shift)
        with native.stack.frame():
            weights = NativeWeights(native.kernels, native.stack)
            kept = [
                weights.packed(w_in.flatten(1)), weights.padded(b_in, hidden),
                weights.packed(w_out.flatten(1)), weights.padded(b_out, c),
            ]  # fmt: skip
            pass_ = FeedForward(hidden, norm.structure, norm.next_offset, *map(address, kept))
            native.kernels.feed_forward(
                reference(pixels(x)), reference(pass_), address(x), address(before_gelu),
                address(out),
            )  # fmt: skip
        ctx.save_for_backward(x, before_gelu, norm_weight, norm_bias, w_in, w_out)
        ctx.native, ctx.shift = native, shift
        ctx.biases = b_in is not None, b_out is not None
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        x, before_gelu, norm_weight, norm_bias, w_in, w_out = ctx.saved_tensors
        native, grad = ctx.native, grad.contiguous()
        d_x, d_w_in, d_w_out = torch.empty_like(x), torch.empty_like(w_in), torch.empty_like(w_out)
        d_b_in = x.new_empty(len(w_in)) if ctx.biases[0] else None
        d_norm = x.new_empty(2, len(before_gelu), len(norm_weight))
        norm = NativeNorm(norm_weight, norm_bias, ctx.shift)
        with native.stack.frame():
            weights = NativeWeights(native.kernels, native.stack)
            back = [weights.packed(w.flatten(1).t()) for w in (w_out, w_in)]
            gradient = FeedForwardGradient(
                len(w_in), norm.structure, norm.next_offset, *map(address, back), address(d_x),
                *map(address, d_norm), address(d_w_in), address(d_b_in), address(d_w_out),
            )  # fmt: skip
            native.kernels.feed_forward_gradient(
                reference(pixels(x)), reference(gradient), address(x), address(before_gelu),
                address(grad),
            )  # fmt: skip
        d_norm_weight, d_norm_bias = d_norm.sum(1)
        return (
            d_x, None, None, d_norm_weight, None if norm_bias is None else d_norm_bias, d_w_in,
            d_b_in, d_w_out, grad.sum((0, 1, 2)) if ctx.biases[1] else None,
        )  # fmt: skip


def features(x: Tensor) -> Features:
    """Contiguous feature maps (B, H, W, C) as the kernels take them."""
    return Features(address(x), x.stride(0), x.stride(2), *x.shape)


def pixels(x: Tensor) -> Pixels:
    """The pixels of contiguous feature maps (B, H, W, C) as the kernels take them."""
    b, h, w, c = x.shape
    return Pixels(b * h * w, h * w, c)
