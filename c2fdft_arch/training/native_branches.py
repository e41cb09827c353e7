"""The network's parts in training by the kernels in C++: what `training.block` does, faster.

Each half of a Transformer block is one autograd function with the arguments of its counterpart in
`training.block`; the 3x3 convolutions between the levels are another. They keep little: kernels
compute again, in passing, what would take longer to read back.

Arguments, the same in both halves, and what `backward` returns for each:

    x               (B, H, W, C) float32                              d_x
    time_embedding  T (B, C) or None                                  None: T is not trained
    native          NativeTraining                                    None
    norm_weight     (C,)                                              d_scale
    norm_bias       (C,) or None                                      d_offset, or None
    then the half's own, 1x1 kernels as (out, in, 1, 1), biases (out,) or None:
    attention    w_qkv, b_qkv (3C from C); w_dw (3C, 1, 3, 3), b_dw; temperature (heads, 1, 1);
                 w_o, b_o (C from C)
    feed-forward w_in, b_in (hidden from C); w_out, b_out (C from hidden)

The convolution takes x; skip (B, H', W', C'') or None, to be concatenated; weight (C', C, 3, 3);
bias (C',) or None; native; and the layout of its result.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from c2fdft_arch.native import arguments
from c2fdft_arch.native.arguments import Tensors, as_taken
from c2fdft_arch.native.bindings import Kernels, kernels
from c2fdft_arch.native.convolution import (
    convolve3x3,
    convolve3x3_backward,
    convolve3x3_weight_gradient,
)
from c2fdft_arch.native.layout import CHUNK_PIXELS, MAX_MR, per_image
from c2fdft_arch.native.structures import SAME, SHUFFLE, UNSHUFFLE
from c2fdft_arch.network.plain_dft import PlainDFT


class NativeTraining:
    """The kernels for a dtype."""

    def __init__(self, kernels: Kernels, dtype: torch.dtype) -> None:
        self.kernels = kernels
        self.dtype = dtype

    @staticmethod
    def of(network: PlainDFT, dtype: torch.dtype) -> NativeTraining | None:
        """For a network on a device for which there are kernels, else None."""
        found = kernels(dtype, network.output.weight.device)
        return None if found is None else NativeTraining(found, dtype)

    @property
    def branches(self) -> tuple[Any, Any]:
        """The autograd functions of a block's two halves."""
        return NativeAttentionBranch, NativeFeedForwardBranch

    def suits(self, block: nn.Module) -> bool:
        """Whether the kernels take a block: hidden and heads' channels must be whole vectors."""
        hidden, channels = block.ffn.project_in.weight.shape[:2]
        lanes = self.kernels.lanes
        return hidden % lanes == 0 and channels % (block.attn.heads * lanes) == 0

    def convolve(
        self, conv: nn.Conv2d, x: Tensor, layout: int = SAME, skip: Tensor | None = None
    ) -> Tensor:
        """A 3x3 convolution of x (B, H, W, C), in float32, and what follows it.

        `layout` is SAME, UNSHUFFLE or SHUFFLE: nothing, or pixel-unshuffle or pixel-shuffle by 2,
        before which there is no bias. `skip` is then concatenated.
        """
        if layout != SAME and conv.bias is not None:
            raise NotImplementedError('the kernels take no bias before a shuffle')
        return NativeConvolution.apply(x, skip, conv.weight, conv.bias, self, layout)


class NativeAttentionBranch(torch.autograd.Function):
    """x + DFSA(LN(x) + T); see the module for the arguments."""

    @staticmethod
    def forward(
        ctx, x, time_embedding, native, norm_weight, norm_bias, w_qkv, b_qkv, w_dw, b_dw,
        temperature, w_o, b_o,
    ):  # fmt: skip
        x, time_embedding = x.contiguous(), per_image(time_embedding, len(x))
        (b, h, w, c), heads = x.shape, len(temperature)
        values = x.new_empty(b, h * w, c, dtype=native.dtype)
        # The gradient's kernel reads whole microkernels of rows.
        queries_keys = x.new_empty(b * h * w + MAX_MR, 2 * c, dtype=native.dtype)
        matrices = (
            x.new_empty(b, heads, c // heads, c // heads),  # q^T k
            x.new_empty(2, b, c),  # the squares of q and k
            x.new_empty(b, heads, c // heads, c // heads),  # A
            x.new_empty(b, c, c),  # W_o A
        )
        parameters = as_taken(w_qkv, b_qkv, w_dw, b_dw, temperature, w_o, b_o)
        norm = as_taken(norm_weight, norm_bias, time_embedding)
        out = torch.empty_like(x)
        attention = arguments.attention(x, heads, norm, parameters, matrices)
        native.kernels.attention(x, attention, queries_keys, values, out)
        ctx.save_for_backward(x, queries_keys, values, *matrices, *norm, *parameters)
        ctx.native = native
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        x, queries_keys, values, *kept = ctx.saved_tensors
        matrices, norm, parameters = kept[:4], kept[4:7], kept[7:]
        *projections, b_dw, temperature, w_o, b_o = parameters
        grad, c = grad.contiguous(), x.shape[3]
        d_temperature, d_w_o = torch.empty_like(temperature), torch.empty_like(w_o)
        d_x, d_scale, d_offset, *d_qkv = gradients_like(x, norm, projections[:2])
        d_dw = x.new_empty(10, 3 * c)  # of the taps and the bias
        heads = len(temperature)
        gradient = arguments.attention_gradient(
            x, heads, (d_x, d_scale, d_offset, *d_qkv, d_dw, d_temperature, d_w_o)
        )
        attention = arguments.attention(x, heads, norm, parameters, matrices)
        ctx.native.kernels.attention_gradient(x, attention, gradient, queries_keys, values, grad)
        return (
            d_x, None, None, d_scale, None if norm[1] is None else d_offset, *d_qkv,
            d_dw[:9].t().reshape(3 * c, 1, 3, 3), None if b_dw is None else d_dw[9],
            d_temperature, d_w_o, None if b_o is None else grad.sum((0, 1, 2)),
        )  # fmt: skip


class NativeFeedForwardBranch(torch.autograd.Function):
    """x + DFN(LN(x) + T); see the module for the arguments."""

    @staticmethod
    def forward(ctx, x, time_embedding, native, norm_weight, norm_bias, w_in, b_in, w_out, b_out):
        x, time_embedding = x.contiguous(), per_image(time_embedding, len(x))
        chunks = -(-x[..., 0].numel() // CHUNK_PIXELS)
        before_gelu = x.new_empty(chunks, CHUNK_PIXELS, len(w_in), dtype=native.dtype)
        norm = as_taken(norm_weight, norm_bias, time_embedding)
        parameters = as_taken(w_in, b_in, w_out, b_out)
        out = torch.empty_like(x)
        ffn = arguments.feed_forward(x, norm, parameters)
        native.kernels.feed_forward(x, ffn, before_gelu, out)
        ctx.save_for_backward(x, before_gelu, *norm, *parameters)
        ctx.native = native
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        x, before_gelu, *kept = ctx.saved_tensors
        norm, parameters = kept[:3], kept[3:]
        grad = grad.contiguous()
        d_x, d_scale, d_offset, *d_parameters = gradients_like(x, norm, parameters[:-1])
        gradient = arguments.feed_forward_gradient(
            x, before_gelu.shape[2], (d_x, d_scale, d_offset, *d_parameters)
        )
        ffn = arguments.feed_forward(x, norm, parameters)
        ctx.native.kernels.feed_forward_gradient(x, ffn, gradient, before_gelu, grad)
        return (
            d_x, None, None, d_scale, None if norm[1] is None else d_offset, *d_parameters,
            None if parameters[-1] is None else grad.sum((0, 1, 2)),
        )  # fmt: skip


class NativeConvolution(torch.autograd.Function):
    """See NativeTraining.convolve."""

    @staticmethod
    def forward(ctx, x, skip, weight, bias, native, layout):
        b, h, w, _ = x.shape
        outputs = len(weight)
        height, width, own = {
            SAME: (h, w, outputs), UNSHUFFLE: (h // 2, w // 2, 4 * outputs),
            SHUFFLE: (2 * h, 2 * w, outputs // 4),
        }[layout]  # fmt: skip
        out = x.new_empty(b, height, width, own + (0 if skip is None else skip.shape[3]))
        if skip is not None:
            out[..., own:] = skip
        convolve3x3(native.kernels, x, weight, bias, out[..., :own], layout)
        ctx.save_for_backward(x, weight)
        ctx.native, ctx.layout, ctx.own = native, layout, own
        ctx.has_skip, ctx.has_bias = skip is not None, bias is not None
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        x, weight = ctx.saved_tensors
        needs_d_x, _, needs_d_weight, *_ = ctx.needs_input_grad
        kernels = ctx.native.kernels
        own, skip = grad.tensor_split([ctx.own], dim=3)
        d_x = d_weight = d_bias = None
        if needs_d_x:
            d_x = x.new_empty(x.shape)
            convolve3x3_backward(kernels, own, weight, d_x, ctx.layout)
        if needs_d_weight:
            d_weight = weight.new_empty(weight.shape)
            convolve3x3_weight_gradient(kernels, x, own, d_weight, ctx.layout)
        if ctx.has_bias:
            d_bias = own.sum((0, 1, 2))
        return d_x, skip if ctx.has_skip else None, d_weight, d_bias, None, None


def gradients_like(x: Tensor, norm: Tensors, parameters: Tensors) -> list[Tensor | None]:
    """Memory for the gradients of x, of a norm's weight, of its bias plus T, of parameters."""
    of = (x, norm[0], norm[0], *parameters)
    return [None if tensor is None else torch.empty_like(tensor) for tensor in of]
