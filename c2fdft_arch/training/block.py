"""A Transformer block for training: few, large operations that keep little for the backward pass.

Each half of a block is one autograd function. Feature maps are (B, H, W, C), so that 1x1
convolutions are matrix products over all pixels. With n = H W, c = C / heads, F = ffn_factor C and
T the time embedding (B, C) or None; steps marked * are in float32, the others in the dtype of
`CastCache`, and d_name is the gradient of name:

    AttentionBranch                                FeedForwardBranch
    x         (B, H, W, C)  *                      x       (B, H, W, C)  *
      | LN(x) + T: norm_weight, norm_bias            | LN(x) + T: norm_weight, norm_bias
    y         (B, H, W, C)                         y       (B, H, W, C)
      | 1x1 convolution: w_qkv, b_qkv                | 1x1 convolution: w_in, b_in
    z         (B, H, W, 3C)                        hidden  (B, H, W, F)
      | 3x3 depth-wise: w_dw, b_dw                   | GELU
    qk        (2, B heads, n, c), v (B, n, C)      active  (B, H, W, F), not kept
      | sums over pixels                             | 1x1 convolution: w_out, b_out
    products  (B, heads, c, c), squares            out     = x + that    *
              (2, B, heads, c)  *
      | normalise, temperature, softmax
    attention A (B, heads, c, c)  *
      | output projection w_o
    projected (W_o A)^T (B, C, C)
      | v @ projected + b_o
    out       = x + that    *

Both take x, T, the cast cache and then the parameters from top to bottom, and give the gradients in
that order. The kernels in C++ have functions of the same arguments (`native_branches`).
"""

from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from c2fdft_arch.network.attention_matrices import (
    attention_matrix,
    attention_matrix_backward,
    project_attention,
    project_attention_backward,
)
from c2fdft_arch.network.layer_norm import layer_norm, layer_norm_backward
from c2fdft_arch.network.plain_dft import DiffusionTransformerBlock
from c2fdft_arch.training.cast_cache import CastCache


class Backend(Protocol):
    """What computes blocks: the autograd functions of a block's two halves, which are given it."""

    @property
    def branches(self) -> tuple[Any, Any]: ...


def apply_block(
    block: DiffusionTransformerBlock,
    x: Tensor,
    time_embedding: Tensor | None,
    backend: Backend,
) -> Tensor:
    """DFTB of feature maps x (B, H, W, C) in float32; `time_embedding` is T (B, C) or None.

    `backend` is NativeTraining for the kernels in C++, TritonTraining for those in Triton, and
    TorchTraining for PyTorch's operations.
    """
    attention, ffn = block.attn, block.ffn
    norm1, norm2 = block.norm1.body, block.norm2.body
    attention_branch, feed_forward_branch = backend.branches
    x = attention_branch.apply(
        x, time_embedding, backend, norm1.weight, norm1.bias, attention.qkv.weight,
        attention.qkv.bias, attention.qkv_dwconv.weight, attention.qkv_dwconv.bias,
        attention.temperature, attention.project_out.weight, attention.project_out.bias,
    )  # fmt: skip
    return feed_forward_branch.apply(
        x, time_embedding, backend, norm2.weight, norm2.bias, ffn.project_in.weight,
        ffn.project_in.bias, ffn.project_out.weight, ffn.project_out.bias,
    )  # fmt: skip


class AttentionBranch(torch.autograd.Function):
    """x + DFSA(LN(x) + T): the left column of the drawing."""

    @staticmethod
    def forward(
        ctx, x, time_embedding, casts, norm_weight, norm_bias, w_qkv, b_qkv, w_dw, b_dw,
        temperature, w_o, b_o,
    ):  # fmt: skip
        (b, h, w, c), heads = x.shape, len(temperature)
        y, mean, rstd = layer_norm(x, time_embedding, norm_weight, norm_bias)
        y = y.to(casts.dtype)
        z = convolve(y, casts(w_qkv), casts(b_qkv))
        qkv = convolve(z, casts(w_dw), casts(b_dw)).reshape(b, h * w, 3 * c)
        qk, v = by_head(qkv, heads)
        products = torch.bmm(qk[0].transpose(1, 2), qk[1]).float().unflatten(0, (b, heads))
        squares = (qk * qk).sum(2).float().unflatten(1, (b, heads))
        attention = attention_matrix(products, squares, temperature)
        projected = project_attention(attention, w_o).to(casts.dtype)
        if casts.dtype == x.dtype:
            out = torch.baddbmm(x.view(b, h * w, c), v, projected).view(x.shape)
        else:
            out = x + torch.bmm(v, projected).view(x.shape)
        if b_o is not None:
            out += b_o
        ctx.save_for_backward(
            x, y, mean, rstd, z, qk, v, products, squares, attention, projected, norm_weight,
            norm_bias, w_qkv, w_dw, temperature, w_o,
        )  # fmt: skip
        ctx.casts = casts
        ctx.has_b_qkv, ctx.has_b_dw, ctx.has_b_o = (bias is not None for bias in (b_qkv, b_dw, b_o))
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        (x, y, mean, rstd, z, qk, v, products, squares, attention, projected, norm_weight,
         norm_bias, w_qkv, w_dw, temperature, w_o) = ctx.saved_tensors  # fmt: skip
        casts, (b, h, w, c) = ctx.casts, x.shape
        grad = grad.contiguous()
        d_out = grad.to(casts.dtype).view(b, h * w, c)

        d_projected = torch.bmm(v.transpose(1, 2), d_out).float()
        d_attention, d_w_o = project_attention_backward(d_projected, attention, w_o)
        d_products, d_squares, d_temperature = attention_matrix_backward(
            d_attention, attention, products, squares, temperature
        )
        d_products = d_products.to(casts.dtype).flatten(0, 1)
        d_qk = qk * (2 * d_squares).to(casts.dtype).flatten(1, 2)[:, :, None]
        d_qk[0].baddbmm_(qk[1], d_products.transpose(1, 2))
        d_qk[1].baddbmm_(qk[0], d_products)
        d_qkv = by_pixel(d_qk, torch.bmm(d_out, projected.transpose(1, 2))).view(b, h, w, 3 * c)
        d_z, d_w_dw, d_b_dw = convolve_backward(d_qkv, z, casts(w_dw), ctx.has_b_dw)
        d_y, d_w_qkv, d_b_qkv = convolve_backward(d_z, y, casts(w_qkv), ctx.has_b_qkv)
        d_x, d_norm_weight, d_norm_bias = layer_norm_backward(
            d_y.to(x.dtype), x, mean, rstd, norm_weight, norm_bias
        )
        return (
            d_x.add_(grad), None, None, d_norm_weight, d_norm_bias, d_w_qkv, d_b_qkv, d_w_dw,
            d_b_dw, d_temperature, d_w_o, grad.sum((0, 1, 2)) if ctx.has_b_o else None,
        )  # fmt: skip


class FeedForwardBranch(torch.autograd.Function):
    """x + DFN(LN(x) + T): the right column; the backward pass computes the GELU again."""

    @staticmethod
    def forward(ctx, x, time_embedding, casts, norm_weight, norm_bias, w_in, b_in, w_out, b_out):
        y, mean, rstd = layer_norm(x, time_embedding, norm_weight, norm_bias)
        y = y.to(casts.dtype)
        hidden = convolve(y, casts(w_in), casts(b_in))
        out = x + convolve(F.gelu(hidden), casts(w_out), None)
        if b_out is not None:
            out += b_out
        ctx.save_for_backward(x, y, mean, rstd, hidden, norm_weight, norm_bias, w_in, w_out)
        ctx.casts = casts
        ctx.has_b_in, ctx.has_b_out = b_in is not None, b_out is not None
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        x, y, mean, rstd, hidden, norm_weight, norm_bias, w_in, w_out = ctx.saved_tensors
        casts, grad = ctx.casts, grad.contiguous()
        d_out = grad.to(casts.dtype)
        d_active, d_w_out, _ = convolve_backward(d_out, F.gelu(hidden), casts(w_out), False)
        d_hidden = torch.ops.aten.gelu_backward(d_active, hidden)
        d_y, d_w_in, d_b_in = convolve_backward(d_hidden, y, casts(w_in), ctx.has_b_in)
        d_x, d_norm_weight, d_norm_bias = layer_norm_backward(
            d_y.to(x.dtype), x, mean, rstd, norm_weight, norm_bias
        )
        d_b_out = grad.sum((0, 1, 2)) if ctx.has_b_out else None
        return (
            d_x.add_(grad), None, None, d_norm_weight, d_norm_bias, d_w_in, d_b_in, d_w_out,
            d_b_out,
        )  # fmt: skip


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """A convolution of x (B, H, W, C): by a 1x1 kernel, or depth-wise by a 3x3 one."""
    groups = weight.shape[0] // weight.shape[1] if weight.shape[2] == 3 else 1
    y = F.conv2d(x.permute(0, 3, 1, 2), weight, bias, 1, weight.shape[2] // 2, 1, groups)
    return y.permute(0, 2, 3, 1)


def convolve_backward(
    d_y: Tensor, x: Tensor, weight: Tensor, has_bias: bool
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Gradients of x, and in float32 of weight and, if there is one, bias of `convolve`."""
    groups = weight.shape[0] // weight.shape[1] if weight.shape[2] == 3 else 1
    d_x, d_weight, d_bias = torch.ops.aten.convolution_backward(
        d_y.permute(0, 3, 1, 2), x.permute(0, 3, 1, 2), weight, [weight.shape[0]], [1, 1],
        [weight.shape[2] // 2] * 2, [1, 1], False, [0, 0], groups, [True, True, has_bias],
    )  # fmt: skip
    return d_x.permute(0, 2, 3, 1), d_weight.float(), d_bias.float() if has_bias else None


def by_head(qkv: Tensor, heads: int) -> tuple[Tensor, Tensor]:
    """(B, n, 3C) as contiguous queries and keys (2, B * heads, n, c), and values (B, n, C)."""
    b, n, channels = qkv.shape
    c = channels // 3
    qk = qkv[:, :, : 2 * c].view(b, n, 2, heads, c // heads).permute(2, 0, 3, 1, 4)
    return qk.contiguous().flatten(1, 2), qkv[:, :, 2 * c :].contiguous()


def by_pixel(qk: Tensor, v: Tensor) -> Tensor:
    """The inverse of `by_head`."""
    b, n, c = v.shape
    qkv = v.new_empty(b, n, 3 * c)
    qk = qk.unflatten(1, (b, -1))
    heads = qk.shape[2]
    qkv[:, :, : 2 * c].view(b, n, 2, heads, c // heads).copy_(qk.permute(1, 3, 0, 2, 4))
    qkv[:, :, 2 * c :] = v
    return qkv


class TorchTraining(CastCache):
    """PyTorch's operations for a dtype, and the weights converted to it."""

    branches = AttentionBranch, FeedForwardBranch
