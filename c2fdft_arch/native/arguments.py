"""Tensors as the kernels take them: each is checked before its address is.

Sizes are those of the drawing in `training.block`: B images of (H, W), C channels in `heads` heads,
`hidden` channels of the feed-forward half. Everything raises KernelCallError for a tensor of
another dtype, device, shape or memory layout. The caller keeps the tensors until the call is over.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from c2fdft_arch.native.errors import KernelCallError
from c2fdft_arch.native.layout import MAX_MR
from c2fdft_arch.native.structures import (
    JOIN_SHUFFLE,
    SAME,
    SHUFFLE,
    UNSHUFFLE,
    Attention,
    AttentionGradient,
    AttentionMatrices,
    Convolution,
    Features,
    FeedForward,
    FeedForwardGradient,
    NormParameters,
    ShuffledView,
)

Tensors = Sequence[Tensor | None]


def as_taken(*tensors: Tensor | None) -> tuple[Tensor | None, ...]:
    """Parameters as the kernels take them: float32, contiguous; others are copied.

    Whoever calls keeps them until the kernel has returned.
    """
    return tuple(None if tensor is None else tensor.float().contiguous() for tensor in tensors)


def address(name: str, x: Tensor, *shape: int, dtype: torch.dtype = torch.float32) -> int:
    """Where the numbers of a contiguous tensor begin."""
    if x.dtype is not dtype or x.shape != shape or not (x.is_cpu and x.is_contiguous()):
        refuse(name, x, f'{dtype} {shape}, contiguous')
    return x.data_ptr()


def optional(name: str, x: Tensor | None, *shape: int) -> int | None:
    """The same, for a tensor that may be left out."""
    return None if x is None else address(name, x, *shape)


def refuse(name: str, x: Tensor, needed: str) -> None:
    """Raise the error of a wrong call."""
    layout = 'contiguous' if x.is_contiguous() else f'strides {x.stride()}'
    raise KernelCallError(
        f'kernels: {name}: {x.dtype} {tuple(x.shape)}, {layout}, on {x.device} given; '
        f'{needed}, on the CPU is needed'
    )


def features(x: Tensor) -> Features:
    """Feature maps (B, H, W, C) whose pixels may lie apart, but whose rows follow each other."""
    sizes('x', x)
    images, rows, pixels, channels = x.stride()
    if channels != 1 or rows != x.shape[2] * pixels:
        refuse('x', x, 'torch.float32 (B, H, W, C), whose channels and rows follow each other')
    return Features(x.data_ptr(), images, pixels, *x.shape)


def view(name: str, x: Tensor, *shape: int, layout: int = SAME) -> ShuffledView:
    """Images (B, H, W, C) of any strides, and how the pixels of a convolution lie in them.

    `shape` is that of the convolution's side: unshuffled by 2, or before a shuffle by 2.
    """
    sizes(name, x)
    images, height, width, channels = shape
    if layout == UNSHUFFLE:
        if height % 2 or width % 2:
            refuse(name, x, f'an even height and width, not {height} x {width}')
        shape = images, height // 2, width // 2, 4 * channels
    elif layout in (SHUFFLE, JOIN_SHUFFLE):
        if channels % 4:
            refuse(name, x, f'a shuffle of channels in fours, not {channels}')
        shape = images, 2 * height, 2 * width, channels // 4
    if x.shape != shape:
        refuse(name, x, f'torch.float32 {shape}')
    images, rows, columns, channels = x.stride()
    return ShuffledView(x.data_ptr(), images, channels, rows, columns, layout)


def sizes(name: str, x: Tensor) -> tuple[int, ...]:
    """B, H, W and C of images in float32."""
    if x.dtype is not torch.float32 or x.dim() != 4 or not x.is_cpu or 0 in x.shape:
        refuse(name, x, 'torch.float32 (B, H, W, C)')
    return x.shape


def convolution(
    x: Tensor, weight: Tensor, bias: Tensor | None, reduce: Tensors = (None, None)
) -> Convolution:
    """A 3x3 convolution of x (B, H, W, C) by taps (C', C, 9) of any strides, and a bias (C').

    `reduce` are weight and bias of the 1x1 convolution of a JOIN_SHUFFLE.
    """
    outputs, own = len(weight), len(weight) // 4
    shape = outputs, sizes('x', x)[3], 9
    if weight.dtype is not torch.float32 or not weight.is_cpu or weight.shape != shape:
        refuse('weight', weight, f"torch.float32 (C', {x.shape[3]}, 9)")
    return Convolution(
        *x.shape, outputs, weight.data_ptr(), optional('bias', bias, outputs),
        optional('reduce', reduce[0], own, 2 * own, 1, 1), optional('reduce_bias', reduce[1], own),
        *weight.stride(),
    )  # fmt: skip


def attention(x: Tensor, heads: int, norm: Tensors, parameters: Any, kept: Any = ()) -> Attention:
    """The attention half: tensors in the order of the structures' fields.

    `kept` are the matrices that are kept for the gradient, or nothing.
    """
    b, _, _, c = sizes('x', x)
    if c % heads:
        refuse('x', x, f'channels in {heads} heads')
    w_qkv, b_qkv, w_dw, b_dw, temperature, w_o, b_o = parameters
    return Attention(
        heads, _norm(norm, b, c),
        address('w_qkv', w_qkv, 3 * c, c, 1, 1), optional('b_qkv', b_qkv, 3 * c),
        address('w_dw', w_dw, 3 * c, 1, 3, 3), optional('b_dw', b_dw, 3 * c),
        address('temperature', temperature, heads, 1, 1),
        address('w_o', w_o, c, c, 1, 1), optional('b_o', b_o, c),
        _matrices(b, heads, c, *kept) if kept else AttentionMatrices(),
    )  # fmt: skip


def _matrices(
    b: int, heads: int, c: int, products: Tensor, squares: Tensor, attention: Tensor,
    projected: Tensor,
) -> AttentionMatrices:  # fmt: skip
    width = c // heads
    return AttentionMatrices(
        address('products', products, b, heads, width, width),
        address('squares', squares, 2, b, c),
        address('attention', attention, b, heads, width, width),
        address('projected', projected, b, c, c),
    )


def _norm(norm: Tensors, b: int, c: int) -> NormParameters:
    scale, bias, time_embedding = norm
    if scale is None:
        raise KernelCallError('kernels: norm_weight is left out')
    return NormParameters(
        address('norm_weight', scale, c), optional('norm_bias', bias, c),
        optional('time_embedding', time_embedding, b, c),
    )  # fmt: skip


def attention_gradient(x: Tensor, heads: int, gradients: Any) -> AttentionGradient:
    """Where the gradients of the attention half go, in the order of the structure's fields."""
    c = sizes('x', x)[3]
    d_x, d_scale, d_offset, d_qkv, d_qkv_bias, d_kernel, d_temperature, d_project = gradients
    return AttentionGradient(
        address('d_x', d_x, *x.shape), address('d_scale', d_scale, c),
        address('d_offset', d_offset, c), address('d_qkv', d_qkv, 3 * c, c, 1, 1),
        optional('d_qkv_bias', d_qkv_bias, 3 * c), address('d_kernel', d_kernel, 10, 3 * c),
        address('d_temperature', d_temperature, heads, 1, 1),
        address('d_project', d_project, c, c, 1, 1),
    )  # fmt: skip


def queries_keys(x: Tensor, kept: Tensor, dtype: torch.dtype) -> int:
    """q and k of all pixels; the gradient's kernel reads whole microkernels of rows."""
    b, h, w, c = x.shape
    return address('queries_keys', kept, b * h * w + MAX_MR, 2 * c, dtype=dtype)


def values(x: Tensor, v: Tensor, dtype: torch.dtype) -> int:
    """v of all pixels."""
    b, h, w, c = x.shape
    return address('values', v, b, h * w, c, dtype=dtype)


def feed_forward(x: Tensor, norm: Tensors, parameters: Any) -> FeedForward:
    """The feed-forward half: tensors in the order of the structures' fields."""
    b, _, _, c = sizes('x', x)
    w_in, b_in, w_out, b_out = parameters
    hidden = len(w_in)
    return FeedForward(
        hidden, _norm(norm, b, c),
        address('w_in', w_in, hidden, c, 1, 1), optional('b_in', b_in, hidden),
        address('w_out', w_out, c, hidden, 1, 1), optional('b_out', b_out, c),
    )  # fmt: skip


def feed_forward_gradient(x: Tensor, hidden: int, gradients: Any) -> FeedForwardGradient:
    """Where the gradients of the feed-forward half go, in the order of the structure's fields."""
    c = sizes('x', x)[3]
    d_x, d_scale, d_offset, d_expand, d_expand_bias, d_contract = gradients
    return FeedForwardGradient(
        address('d_x', d_x, *x.shape), address('d_scale', d_scale, c),
        address('d_offset', d_offset, c), address('d_expand', d_expand, hidden, c, 1, 1),
        optional('d_expand_bias', d_expand_bias, hidden),
        address('d_contract', d_contract, c, hidden, 1, 1),
    )  # fmt: skip
