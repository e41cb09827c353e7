"""The halves of a Transformer block in training, by the kernels in Triton.

The functions have the arguments of their counterparts in `training.block`, where the names are
explained, and give the gradients in the same order. What they keep is x, z, q, k, v and the hidden
features before the GELU; LN(x) + T is computed again.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from c2fdft_arch.network.attention_matrices import (
    attention_matrix_backward,
    project_attention_backward,
)
from c2fdft_arch.training.cast_cache import CastCache
from c2fdft_arch.triton_kernels.attention import project_attention, qkv_gradient
from c2fdft_arch.triton_kernels.depthwise import (
    Rows,
    attention_products,
    depthwise,
    depthwise_weight_gradient,
    product_tiling,
)
from c2fdft_arch.triton_kernels.launching import WHOLE_PIXEL_CHANNELS
from c2fdft_arch.triton_kernels.normalisation import Norm, layer_norm_backward, norm_project
from c2fdft_arch.triton_kernels.products import add_product, gelu_backward


class TritonAttentionBranch(torch.autograd.Function):
    """x + DFSA(LN(x) + T)."""

    @staticmethod
    def forward(
        ctx, x, time_embedding, casts, norm_weight, norm_bias, w_qkv, b_qkv, w_dw, b_dw,
        temperature, w_o, b_o,
    ):  # fmt: skip
        (b, h, w, c), heads = x.shape, len(temperature)
        x = x.contiguous()
        norm = norm_weight, norm_bias, time_embedding
        z, mean, rstd = project(x.view(b, h * w, c), norm, w_qkv, b_qkv, casts)
        rows, taps = Rows(h, w), by_tap(w_dw)
        qkv = torch.empty_like(z)
        parts = product_tiling(rows.pixels, c // heads)[2]
        sums = x.new_empty(parts, b * heads, c // heads + 2, c // heads)
        attention_products(z, taps, b_dw, heads, rows, sums, 0, qkv)
        depthwise(z, taps, b_dw, rows, qkv, first=2 * c, out_first=2 * c)
        sums = sums.sum(0)
        projected, attention = project_attention(sums, temperature, w_o, casts.dtype, keep=True)
        out = torch.empty_like(x)
        flat = x.view(b, h * w, c)
        add_product(flat, qkv[:, :, 2 * c :], projected, b_o, out.view(b, h * w, c))
        ctx.save_for_backward(
            x, mean, rstd, z, qkv, sums, attention, projected, *norm, w_qkv, w_dw, temperature, w_o
        )
        ctx.casts = casts
        ctx.has_b_qkv, ctx.has_b_dw, ctx.has_b_o = (bias is not None for bias in (b_qkv, b_dw, b_o))
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        (x, mean, rstd, z, qkv, sums, attention, projected, norm_weight, norm_bias, time_embedding,
         w_qkv, w_dw, temperature, w_o) = ctx.saved_tensors  # fmt: skip
        casts, (b, h, w, c), heads = ctx.casts, x.shape, len(temperature)
        grad = grad.contiguous()
        d_out = grad.to(casts.dtype).view(b, h * w, c)

        d_projected = torch.bmm(qkv[:, :, 2 * c :].transpose(1, 2), d_out).float()
        d_attention, d_w_o = project_attention_backward(d_projected, attention, w_o)
        by_head = sums.unflatten(0, (b, heads))
        products = by_head[:, :, :-2]
        squares = by_head[:, :, -2:].permute(2, 0, 1, 3)
        d_products, d_squares, d_temperature = attention_matrix_backward(
            d_attention, attention, products, squares, temperature
        )
        d_qkv = qkv_gradient(qkv, d_out, d_products.contiguous(), d_squares.contiguous(), projected)
        rows = Rows(h, w)
        d_z = torch.empty_like(d_qkv)
        depthwise(d_qkv, by_tap(w_dw), None, rows, d_z, flip=True)
        d_w_dw, d_b_dw = depthwise_weight_gradient(d_qkv, z, rows, ctx.has_b_dw)
        norm = norm_weight, norm_bias, time_embedding
        y, _, _ = norm_project(x.view(b, h * w, c), norm, None, None, casts.dtype)
        d_y, d_w_qkv, d_b_qkv = product_backward(d_z, y, w_qkv, ctx.has_b_qkv, casts)
        d_x, d_norm_weight, d_norm_bias = layer_norm_backward(
            d_y, x, mean, rstd, norm_weight, norm_bias, grad
        )
        return (
            d_x, None, None, d_norm_weight, d_norm_bias, d_w_qkv, d_b_qkv, d_w_dw, d_b_dw,
            d_temperature, d_w_o, grad.sum((0, 1, 2)) if ctx.has_b_o else None,
        )  # fmt: skip


class TritonFeedForwardBranch(torch.autograd.Function):
    """x + DFN(LN(x) + T)."""

    @staticmethod
    def forward(ctx, x, time_embedding, casts, norm_weight, norm_bias, w_in, b_in, w_out, b_out):
        b, h, w, c = x.shape
        x = x.contiguous()
        flat, norm = x.view(b, h * w, c), (norm_weight, norm_bias, time_embedding)
        hidden, mean, rstd = project(flat, norm, w_in, b_in, casts)
        out = torch.empty_like(x)
        add_product(flat, hidden, casts(w_out), b_out, out.view(b, h * w, c), gelu=True)
        ctx.save_for_backward(x, mean, rstd, hidden, *norm, w_in, w_out)
        ctx.casts = casts
        ctx.has_b_in, ctx.has_b_out = b_in is not None, b_out is not None
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        (x, mean, rstd, hidden, norm_weight, norm_bias, time_embedding, w_in,
         w_out) = ctx.saved_tensors  # fmt: skip
        casts, (b, h, w, c) = ctx.casts, x.shape
        grad = grad.contiguous()
        d_out = grad.to(casts.dtype).view(b, h * w, c)
        d_active = d_out @ casts(w_out).flatten(1)
        active, d_hidden = gelu_backward(hidden, d_active)
        d_w_out = weight_gradient(d_out, active, w_out)
        norm = norm_weight, norm_bias, time_embedding
        y, _, _ = norm_project(x.view(b, h * w, c), norm, None, None, casts.dtype)
        d_y, d_w_in, d_b_in = product_backward(d_hidden, y, w_in, ctx.has_b_in, casts)
        d_x, d_norm_weight, d_norm_bias = layer_norm_backward(
            d_y, x, mean, rstd, norm_weight, norm_bias, grad
        )
        d_b_out = grad.sum((0, 1, 2)) if ctx.has_b_out else None
        return (
            d_x, None, None, d_norm_weight, d_norm_bias, d_w_in, d_b_in, d_w_out, d_b_out,
        )  # fmt: skip


def by_tap(w_dw: Tensor) -> Tensor:
    """A depth-wise kernel (C, 1, 3, 3) as (9, C)."""
    return w_dw.view(len(w_dw), 9).t().contiguous()


def project(
    x: Tensor, norm: Norm, weight: Tensor, bias: Tensor | None, casts: CastCache
) -> tuple[Tensor, Tensor, Tensor]:
    """The 1x1 convolution of LN(x) + T for x (B, n, C), and the norm's statistics (B, n)."""
    kernel: Any = casts(weight)
    if x.shape[2] <= WHOLE_PIXEL_CHANNELS:
        return norm_project(x, norm, kernel, bias, casts.dtype, statistics=True)
    y, mean, rstd = norm_project(x, norm, None, None, casts.dtype, statistics=True)
    return torch.nn.functional.linear(y, kernel.flatten(1), casts(bias)), mean, rstd


def product_backward(
    d_result: Tensor, y: Tensor, weight: Tensor, has_bias: bool, casts: CastCache
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Gradients of y (B, n, C), of the 1x1 convolution's kernel, and of its bias if it has one."""
    d_bias = d_result.float().sum((0, 1)) if has_bias else None
    kernel: Any = casts(weight)
    d_y = d_result @ kernel.flatten(1)
    return d_y, weight_gradient(d_result, y, weight), d_bias


def weight_gradient(d_result: Tensor, y: Tensor, weight: Tensor) -> Tensor:
    """The gradient of a 1x1 convolution's kernel (N, C, 1, 1), in float32."""
    return (d_result.flatten(0, 1).t() @ y.flatten(0, 1)).float().view(weight.shape)


class TritonTraining(CastCache):
    """The kernels for a dtype, and the weights converted to it."""

    branches = TritonAttentionBranch, TritonFeedForwardBranch
