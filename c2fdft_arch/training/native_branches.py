"""The network's parts in training by the kernels in C++: what `train_network` does, faster.

Each half of a Transformer block is one autograd function with the arguments of its counterpart in
`blocks`, and so are the 3x3 convolutions between the levels. Little is kept of a forward pass: the
kernels compute again, while they are at it, what costs less than to read back.
"""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from c2fdft_arch.native import Kernels, kernels
from c2fdft_arch.native.layout import TILE_ROWS, address, image_of, pieces
from c2fdft_arch.native.structures import (
    SAME,
    SHUFFLE,
    UNSHUFFLE,
    Arranged,
    Attention,
    AttentionGradient,
    Features,
    FeedForward,
    FeedForwardGradient,
    Matrices,
    Pixels,
    ShiftedNorm,
    TrainedConvolution,
)
from c2fdft_arch.network.plain_dft import PlainDFT

TILE_PIXELS = 64  # as in products.h

reference = ctypes.byref


class NativeTraining:
    """The kernels for a number format."""

    def __init__(self, kernels: Kernels, dtype: torch.dtype) -> None:
        self.kernels = kernels
        self.dtype = dtype

    @staticmethod
    def of(network: PlainDFT, dtype: torch.dtype) -> NativeTraining | None:
        """For a network on a device for which there are kernels, else None."""
        found = kernels(dtype, network.output.weight.device)
        return None if found is None else NativeTraining(found, dtype)

    def suits(self, block: nn.Module) -> bool:
        """Whether the kernels take a block: hidden and heads' channels must be whole vectors."""
        hidden, channels = block.ffn.project_in.weight.shape[:2]
        lanes = self.kernels.lanes
        return hidden % lanes == 0 and channels % (block.attn.heads * lanes) == 0

    def convolve(
        self, conv: nn.Conv2d, x: Tensor, target: int = SAME, skip: Tensor | None = None
    ) -> Tensor:
        """A 3x3 convolution of x (B, H, W, C), in float32, and what follows it.

        `target` is SAME, UNSHUFFLE or SHUFFLE: nothing, or pixel-unshuffle or pixel-shuffle by 2,
        before which there is no bias. `skip` is then concatenated.
        """
        if target != SAME and conv.bias is not None:
            raise NotImplementedError('the kernels take no bias before a shuffle')
        return NativeConvolution.apply(x, skip, conv.weight, conv.bias, self, target)


class NativeAttentionBranch(torch.autograd.Function):
    """x + DFSA(LN(x) + T)."""

    @staticmethod
    def forward(
        ctx, x, shift, native, norm_weight, norm_bias, w_qkv, b_qkv, w_dw, b_dw, temperature, w_o,
        b_o,
    ):  # fmt: skip
        x, shift = x.contiguous(), of_images(shift, len(x))
        (b, h, w, c), heads = x.shape, len(temperature)
        values, queries_keys = (
            x.new_empty(b * h * w + spare, size, dtype=native.dtype)
            for size, spare in ((c, 0), (2 * c, TILE_ROWS))
        )
        matrices = (
            x.new_empty(b, heads, c // heads, c // heads),  # q^T k
            x.new_empty(2, b, c),  # the squares of q and k
            x.new_empty(b, heads, c // heads, c // heads),  # A
            x.new_empty(b, c, c),  # W_o A
        )
        out = torch.empty_like(x)
        pass_ = Attention(
            heads, ShiftedNorm(*addresses(norm_weight, norm_bias, shift)),
            *addresses(w_qkv, b_qkv, w_dw, b_dw),
            Matrices(*addresses(temperature, w_o, *matrices)), address(b_o),
        )  # fmt: skip
        native.kernels.attention(
            reference(features(x)), reference(pass_), *pieces(b, h, w),
            *addresses(queries_keys, values, out),
        )  # fmt: skip
        ctx.save_for_backward(
            x, queries_keys, values, *matrices, norm_weight, norm_bias, w_qkv, b_qkv, w_dw,
            temperature, w_o,
        )  # fmt: skip
        ctx.native, ctx.shift = native, shift
        ctx.biases = b_dw is not None, b_o is not None
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        (x, queries_keys, values, *matrices, norm_weight, norm_bias, w_qkv, b_qkv, w_dw,
         temperature, w_o) = ctx.saved_tensors  # fmt: skip
        grad = grad.contiguous()
        d_x, d_scale, d_w_qkv, d_w_dw, d_temperature, d_w_o = (
            torch.empty_like(of) for of in (x, norm_weight, w_qkv, w_dw, temperature, w_o)
        )
        d_offset = torch.empty_like(norm_weight)
        d_b_qkv = None if b_qkv is None else torch.empty_like(b_qkv)
        d_b_dw = x.new_empty(len(w_dw)) if ctx.biases[0] else None
        pass_ = Attention(
            len(temperature), ShiftedNorm(*addresses(norm_weight, norm_bias, ctx.shift)),
            *addresses(w_qkv, b_qkv, w_dw, None),
            Matrices(*addresses(temperature, w_o, *matrices)), None,
        )  # fmt: skip
        gradient = AttentionGradient(
            *addresses(d_x, d_scale, d_offset, d_w_qkv, d_b_qkv, d_w_dw, d_b_dw, d_temperature),
            address(d_w_o),
        )
        ctx.native.kernels.attention_gradient(
            reference(features(x)), reference(pass_), reference(gradient),
            *addresses(queries_keys, values, grad),
        )  # fmt: skip
        return (
            d_x, None, None, d_scale, None if norm_bias is None else d_offset, d_w_qkv, d_b_qkv,
            d_w_dw, d_b_dw, d_temperature, d_w_o, grad.sum((0, 1, 2)) if ctx.biases[1] else None,
        )  # fmt: skip


class NativeFeedForwardBranch(torch.autograd.Function):
    """x + DFN(LN(x) + T)."""

    @staticmethod
    def forward(ctx, x, shift, native, norm_weight, norm_bias, w_in, b_in, w_out, b_out):
        x, shift = x.contiguous(), of_images(shift, len(x))
        b, h, w, _ = x.shape
        hidden = len(w_in)
        out = torch.empty_like(x)
        tiles = -(-b * h * w // TILE_PIXELS)
        before_gelu = x.new_empty(tiles, TILE_PIXELS, hidden, dtype=native.dtype)
        pass_ = FeedForward(
            hidden, ShiftedNorm(*addresses(norm_weight, norm_bias, shift)),
            *addresses(w_in, b_in, w_out, b_out),
        )  # fmt: skip
        native.kernels.feed_forward(
            reference(pixels(x)), reference(pass_), *addresses(x, before_gelu, out)
        )
        ctx.save_for_backward(x, before_gelu, norm_weight, norm_bias, w_in, w_out)
        ctx.native, ctx.shift = native, shift
        ctx.biases = b_in is not None, b_out is not None
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        x, before_gelu, norm_weight, norm_bias, w_in, w_out = ctx.saved_tensors
        grad = grad.contiguous()
        d_x, d_scale, d_offset, d_w_in, d_w_out = (
            torch.empty_like(of) for of in (x, norm_weight, norm_weight, w_in, w_out)
        )
        d_b_in = x.new_empty(len(w_in)) if ctx.biases[0] else None
        pass_ = FeedForward(
            len(w_in), ShiftedNorm(*addresses(norm_weight, norm_bias, ctx.shift)),
            *addresses(w_in, None, w_out, None),
        )  # fmt: skip
        gradient = FeedForwardGradient(*addresses(d_x, d_scale, d_offset, d_w_in, d_b_in, d_w_out))
        ctx.native.kernels.feed_forward_gradient(
            reference(pixels(x)), reference(pass_), reference(gradient),
            *addresses(x, before_gelu, grad),
        )  # fmt: skip
        return (
            d_x, None, None, d_scale, None if norm_bias is None else d_offset, d_w_in, d_b_in,
            d_w_out, grad.sum((0, 1, 2)) if ctx.biases[1] else None,
        )  # fmt: skip


class NativeConvolution(torch.autograd.Function):
    """See NativeTraining.convolve."""

    @staticmethod
    def forward(ctx, x, skip, weight, bias, native, target):
        weight = weight.contiguous()  # that of a channels-last network is not
        (b, h, w, c), outputs = x.shape, len(weight)
        shape = {
            SAME: (h, w, outputs), UNSHUFFLE: (h // 2, w // 2, 4 * outputs),
            SHUFFLE: (2 * h, 2 * w, outputs // 4),
        }[target]  # fmt: skip
        own = shape[2]
        out = x.new_empty(b, *shape[:2], own + (0 if skip is None else skip.shape[3]))
        if skip is not None:
            out[..., own:] = skip
        pass_ = TrainedConvolution(b, h, w, c, outputs, *addresses(weight, bias))
        native.kernels.trained_convolution(
            reference(pass_), reference(image_of(x)),
            reference(Arranged(image_of(out[..., :own]), target)), *pieces(b, h, w),
        )  # fmt: skip
        ctx.save_for_backward(x, weight)
        ctx.native, ctx.target, ctx.own = native, target, own
        ctx.has_skip, ctx.has_bias = skip is not None, bias is not None
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        x, weight = ctx.saved_tensors
        needs_d_x, _, needs_d_weight, *_ = ctx.needs_input_grad
        d_x = x.new_empty(x.shape) if needs_d_x else None
        d_weight = weight.new_empty(weight.shape) if needs_d_weight else None
        own, skip = grad.tensor_split([ctx.own], dim=3)
        pass_ = TrainedConvolution(*x.shape, len(weight), address(weight), None)
        ctx.native.kernels.trained_convolution_gradient(
            reference(pass_), reference(image_of(x)),
            reference(Arranged(image_of(own), ctx.target)), reference(image_of(d_x)),
            address(d_weight), *pieces(*x.shape[:3]),
        )  # fmt: skip
        d_bias = own.sum((0, 1, 2)) if ctx.has_bias else None
        return d_x, skip if ctx.has_skip else None, d_weight, d_bias, None, None


def addresses(*tensors: Tensor | None) -> list[int | None]:
    """Where tensors' numbers begin; parameters are contiguous, as 1x1 kernels always are."""
    return [address(tensor) for tensor in tensors]


def of_images(shift: Tensor | None, images: int) -> Tensor | None:
    """T (B, C), contiguous."""
    return None if shift is None else shift.expand(images, -1).contiguous()


def features(x: Tensor) -> Features:
    """Contiguous feature maps (B, H, W, C) as the kernels take them."""
    return Features(address(x), x.stride(0), x.stride(2), *x.shape)


def pixels(x: Tensor) -> Pixels:
    """The pixels of contiguous feature maps (B, H, W, C) as the kernels take them."""
    b, h, w, c = x.shape
    return Pixels(b * h * w, h * w, c)
