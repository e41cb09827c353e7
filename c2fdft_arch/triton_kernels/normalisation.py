"""LN(x) + T, alone or in front of a 1x1 convolution, and its gradient."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from c2fdft_arch.network.plain_dft import LAYER_NORM_EPS
from c2fdft_arch.triton_kernels.launching import (
    blocks,
    images_apart,
    padded,
    pixels_between,
    pointer,
    product_precision,
)

Norm = tuple[Tensor, Tensor | None, Tensor | None]
"""A norm's weight (C,), its bias or None, and T (B, C), (1, C) or None."""
EPS = tl.constexpr(LAYER_NORM_EPS)


@triton.jit
def normalized(
    x, inside, gamma, beta, shift, channels, C: tl.constexpr, HAS_BETA: tl.constexpr,
    HAS_SHIFT: tl.constexpr,
):  # fmt: skip
    """LN(x) + T of the pixels in x (M, CP) float32, whose columns from C on are zero.

    Without beta it is the `BiasFree` norm. Returns y, the mean (M,) and 1 / deviation (M,).
    """
    mean = tl.sum(x, axis=1) / C
    centred = tl.where(inside[None, :], x - mean[:, None], 0.0)
    rstd = 1.0 / tl.sqrt(tl.sum(centred * centred, axis=1) / C + EPS)
    y = centred if HAS_BETA else x
    y = y * rstd[:, None] * tl.load(gamma + channels, mask=inside, other=0.0)[None, :]
    if HAS_BETA:
        y += tl.load(beta + channels, mask=inside, other=0.0)[None, :]
    if HAS_SHIFT:
        y += tl.load(shift + channels, mask=inside, other=0.0)[None, :]
    return y, mean, rstd


@triton.jit(do_not_specialize=['n', 'x_image', 'shift_image'])
def _norm_project(
    x, gamma, beta, shift, w, bias, out, mean_out, rstd_out, n, x_image, shift_image,
    X_PIXEL: tl.constexpr, C: tl.constexpr, CP: tl.constexpr, N: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, HAS_BETA: tl.constexpr, HAS_SHIFT: tl.constexpr,
    HAS_BIAS: tl.constexpr, HAS_WEIGHT: tl.constexpr, STATISTICS: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    image = tl.program_id(1).to(tl.int64)
    rows = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    channels = tl.arange(0, CP)
    inside = channels < C
    row_inside = rows < n
    mask = row_inside[:, None] & inside[None, :]
    tile = x + (image * x_image + rows)[:, None] * X_PIXEL + channels[None, :]
    values = tl.load(tile, mask=mask, other=0.0).to(tl.float32)
    y, mean, rstd = normalized(
        values, inside, gamma, beta, shift + image * shift_image * C, channels, C, HAS_BETA,
        HAS_SHIFT,
    )  # fmt: skip
    pixels = image * n + rows
    if STATISTICS:
        tl.store(mean_out + pixels, mean, mask=row_inside)
        tl.store(rstd_out + pixels, rstd, mask=row_inside)
    y = y.to(out.dtype.element_ty)
    if HAS_WEIGHT:
        for start in range(0, N, BLOCK_N):
            features = start + tl.arange(0, BLOCK_N)
            used = features < N
            kernel = tl.load(
                w + features[None, :] * C + channels[:, None],
                mask=used[None, :] & inside[:, None], other=0.0,
            )  # fmt: skip
            result = tl.dot(y, kernel, input_precision=PRECISION)
            if HAS_BIAS:
                result += tl.load(bias + features, mask=used, other=0.0).to(tl.float32)[None, :]
            tl.store(
                out + pixels[:, None] * N + features[None, :], result.to(out.dtype.element_ty),
                mask=row_inside[:, None] & used[None, :],
            )  # fmt: skip
    else:
        tl.store(out + pixels[:, None] * C + channels[None, :], y, mask=mask)


def norm_project(
    x: Tensor,
    norm: Norm,
    weight: Tensor | None,
    bias: Tensor | None,
    dtype: torch.dtype,
    statistics: bool = False,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """The 1x1 convolution of LN(x) + T for x (B, n, C): (B, n, N) in `dtype`.

    `norm` holds the norm's weight (C,), its bias or None, and T (B, C), (1, C) or None; `weight` is
    (N, C, 1, 1) in `dtype`, or None for LN(x) + T itself. With `statistics` the mean and the
    reciprocal deviation of each pixel (B, n) are returned, too.
    """
    gamma, beta, shift = norm
    (b, n, c), count = x.shape, x.shape[2] if weight is None else len(weight)
    out = torch.empty(b, n, count, dtype=dtype, device=x.device)
    mean, rstd = (torch.empty(b, n, device=x.device) if statistics else None for _ in range(2))
    width = padded(c)
    block_m = 128 if width <= 64 else 64 if width <= 128 else 16
    _norm_project[blocks(n, block_m), b](
        x, gamma, pointer(beta, gamma), pointer(shift, gamma), pointer(weight, gamma),
        pointer(bias, gamma), out, pointer(mean, gamma), pointer(rstd, gamma), n,
        pixels_between(x), images_apart(shift), X_PIXEL=x.stride(1), C=c, CP=width, N=count,
        BLOCK_M=block_m, BLOCK_N=64 if count > 32 else padded(count), HAS_BETA=beta is not None,
        HAS_SHIFT=shift is not None, HAS_BIAS=bias is not None, HAS_WEIGHT=weight is not None,
        STATISTICS=statistics, PRECISION=product_precision(dtype), num_warps=4,
    )  # fmt: skip
    return out, mean, rstd


@triton.jit(do_not_specialize=['count', 'tiles'])
def _layer_norm_backward(
    d_y, x, mean, rstd, gamma, grad, d_x, d_gamma, d_beta, count, tiles, C: tl.constexpr,
    CP: tl.constexpr, BLOCK_M: tl.constexpr, HAS_BETA: tl.constexpr,
):  # fmt: skip
    """d_x = grad + the gradient through the norm; d_gamma, d_beta: one partial sum a program."""
    channels = tl.arange(0, CP)
    inside = channels < C
    scale = tl.load(gamma + channels, mask=inside, other=0.0)[None, :]
    gamma_sum = tl.zeros([CP], tl.float32)
    beta_sum = tl.zeros([CP], tl.float32)
    for tile in range(tiles):
        rows = (tl.program_id(0) * tiles + tile).to(tl.int64) * BLOCK_M + tl.arange(0, BLOCK_M)
        row_inside = rows < count
        mask = row_inside[:, None] & inside[None, :]
        place = rows[:, None] * C + channels[None, :]
        gradient = tl.load(d_y + place, mask=mask, other=0.0).to(tl.float32)
        values = tl.load(x + place, mask=mask, other=0.0)
        centre = tl.load(mean + rows, mask=row_inside, other=0.0)[:, None]
        deviation = tl.load(rstd + rows, mask=row_inside, other=0.0)[:, None]
        centred = tl.where(mask, (values - centre) * deviation, 0.0)
        scaled = centred if HAS_BETA else values * deviation
        gamma_sum += tl.sum(gradient * scaled, axis=0)
        beta_sum += tl.sum(gradient, axis=0)
        d_scaled = gradient * scale
        along = tl.sum(d_scaled * scaled, axis=1)[:, None] / C
        result = d_scaled - centred * along
        if HAS_BETA:
            result -= tl.sum(d_scaled, axis=1)[:, None] / C
        result = result * deviation + tl.load(grad + place, mask=mask, other=0.0)
        tl.store(d_x + place, result, mask=mask)
    part = tl.program_id(0) * C + channels
    tl.store(d_gamma + part, gamma_sum, mask=inside)
    if HAS_BETA:
        tl.store(d_beta + part, beta_sum, mask=inside)


def layer_norm_backward(
    d_y: Tensor, x: Tensor, mean: Tensor, rstd: Tensor, norm_weight: Tensor,
    norm_bias: Tensor | None, grad: Tensor,
) -> tuple[Tensor, Tensor, Tensor | None]:  # fmt: skip
    """grad + the gradient of x (..., C), and those of the norm's weight and bias, given d_y."""
    c = x.shape[-1]
    count = x.numel() // c
    width = padded(c)
    block_m = max(4, 4096 // width)
    tiles = max(1, min(16, count // (block_m * 1024)))
    parts = blocks(count, block_m * tiles)
    d_x = torch.empty_like(x)
    sums = torch.empty(2, parts, c, device=x.device)
    _layer_norm_backward[(parts,)](
        d_y, x, mean, rstd, norm_weight, grad, d_x, sums[0], sums[1], count, tiles, C=c,
        CP=width, BLOCK_M=block_m, HAS_BETA=norm_bias is not None, num_warps=4,
    )  # fmt: skip
    if norm_bias is None:
        return d_x, sums[0].sum(0), None
    d_weight, d_bias = sums.sum(1)
    return d_x, d_weight, d_bias
