"""Matrix products with what stands before and behind them: GELU, biases, the addition to x."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from c2fdft_arch.triton_kernels.launching import (
    blocks,
    images_apart,
    padded,
    pixels_between,
    pointer,
    product_precision,
)
from c2fdft_arch.triton_kernels.normalisation import Norm, normalized

SQRT_HALF = tl.constexpr(0.5**0.5)
GAUSSIAN = tl.constexpr(0.3989422804014327)  # 1 / sqrt(2 pi)


@triton.jit
def gelu(x):
    """The GELU in its erf form, of float32."""
    return 0.5 * x * (1.0 + tl.erf(x * SQRT_HALF))


@triton.jit(do_not_specialize=['n', 'a_image', 'matrix_image', 'x_image', 'out_image'])
def _add_product(
    a, matrix, bias, x, out, n, a_image, matrix_image, x_image, out_image, A_PIXEL: tl.constexpr,
    X_PIXEL: tl.constexpr, OUT_PIXEL: tl.constexpr, K_STRIDE: tl.constexpr,
    N_STRIDE: tl.constexpr, K: tl.constexpr, N: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, HAS_BIAS: tl.constexpr,
    GELU: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    image = tl.program_id(2).to(tl.int64)
    rows = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    columns = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    used = rows < n
    inside = columns < N
    mask = used[:, None] & inside[None, :]
    rows = rows.to(tl.int64)
    total = tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
    for start in range(0, K, BLOCK_K):
        inner = start + tl.arange(0, BLOCK_K)
        valid = inner < K
        left = tl.load(
            a + (image * a_image + rows)[:, None] * A_PIXEL + inner[None, :],
            mask=used[:, None] & valid[None, :], other=0.0,
        )  # fmt: skip
        if GELU:
            left = gelu(left.to(tl.float32)).to(a.dtype.element_ty)
        right = tl.load(
            matrix + image * matrix_image * K * N + inner[:, None] * K_STRIDE
            + columns[None, :] * N_STRIDE,
            mask=valid[:, None] & inside[None, :], other=0.0,
        )  # fmt: skip
        total += tl.dot(left, right, input_precision=PRECISION)
    if HAS_BIAS:
        total += tl.load(bias + columns, mask=inside, other=0.0)[None, :]
    total += tl.load(
        x + (image * x_image + rows)[:, None] * X_PIXEL + columns[None, :], mask=mask, other=0.0
    )
    tl.store(
        out + (image * out_image + rows)[:, None] * OUT_PIXEL + columns[None, :], total, mask=mask
    )


def add_product(
    x: Tensor, a: Tensor, matrix: Tensor, bias: Tensor | None, out: Tensor, *, gelu: bool = False
) -> Tensor:
    """out = x + a @ matrix + bias, or with GELU(a), for x, out (B, n, N) float32 and a (B, n, K).

    `matrix` is one for each image, (B, K, N), or the kernel of a 1x1 convolution, (N, K, 1, 1), in
    the dtype of a. `out` may be x.
    """
    b, n, k = a.shape
    count = x.shape[2]
    of_images = matrix.dim() == 3
    k_stride, n_stride = (count, 1) if of_images else (1, k)
    block_n = padded(count) if count <= 128 else 128
    block_m, block_k = (128, 32) if count <= 128 else (64, 32)
    _add_product[blocks(n, block_m), blocks(count, block_n), b](
        a, matrix, pointer(bias, x), x, out, n, pixels_between(a), int(of_images),
        pixels_between(x), pixels_between(out), A_PIXEL=a.stride(1), X_PIXEL=x.stride(1),
        OUT_PIXEL=out.stride(1), K_STRIDE=k_stride, N_STRIDE=n_stride, K=k,
        N=count, BLOCK_M=block_m, BLOCK_N=block_n, BLOCK_K=block_k, HAS_BIAS=bias is not None,
        GELU=gelu, PRECISION=product_precision(a.dtype), num_warps=8 if block_m == 128 else 4,
    )  # fmt: skip
    return out


@triton.jit
def _add_feed_forward(
    total, y, w_in, b_in, w_out, channels, inside, C: tl.constexpr, HIDDEN: tl.constexpr,
    BLOCK_H: tl.constexpr, HAS_B_IN: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """total + the second 1x1 convolution of GELU of the first, of y; all (M, CP)."""
    for start in range(0, HIDDEN, BLOCK_H):
        features = start + tl.arange(0, BLOCK_H)
        valid = features < HIDDEN
        kernel = tl.load(
            w_in + features[None, :] * C + channels[:, None],
            mask=valid[None, :] & inside[:, None], other=0.0,
        )  # fmt: skip
        hidden = tl.dot(y, kernel, input_precision=PRECISION)
        if HAS_B_IN:
            hidden += tl.load(b_in + features, mask=valid, other=0.0).to(tl.float32)[None, :]
        kernel = tl.load(
            w_out + channels[None, :] * HIDDEN + features[:, None],
            mask=valid[:, None] & inside[None, :], other=0.0,
        )  # fmt: skip
        total += tl.dot(gelu(hidden).to(y.dtype), kernel, input_precision=PRECISION)
    return total


@triton.jit(do_not_specialize=['n', 'x_image', 'shift_image'])
def _finish_block(
    x, v, projected, b_o, gamma, beta, shift, w_in, b_in, w_out, b_out, n, x_image, shift_image,
    X_PIXEL: tl.constexpr, C: tl.constexpr, CP: tl.constexpr, HIDDEN: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_H: tl.constexpr, HAS_B_O: tl.constexpr, HAS_BETA: tl.constexpr,
    HAS_SHIFT: tl.constexpr, HAS_B_IN: tl.constexpr, HAS_B_OUT: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    image = tl.program_id(1).to(tl.int64)
    rows = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    channels = tl.arange(0, CP)
    inside = channels < C
    used = rows < n
    mask = used[:, None] & inside[None, :]
    square = inside[:, None] & inside[None, :]
    rows = rows.to(tl.int64)
    dtype = v.dtype.element_ty
    values = tl.load(v + (image * n + rows)[:, None] * C + channels[None, :], mask=mask, other=0.0)
    matrix = tl.load(
        projected + image * C * C + channels[:, None] * C + channels[None, :], mask=square,
        other=0.0,
    )  # fmt: skip
    place = x + (image * x_image + rows)[:, None] * X_PIXEL + channels[None, :]
    total = tl.load(place, mask=mask, other=0.0)
    total += tl.dot(values, matrix, input_precision=PRECISION)
    if HAS_B_O:
        total += tl.load(b_o + channels, mask=inside, other=0.0)[None, :]
    y, _, _ = normalized(
        total, inside, gamma, beta, shift + image * shift_image * C, channels, C, HAS_BETA,
        HAS_SHIFT,
    )  # fmt: skip
    y = tl.where(inside[None, :], y, 0.0).to(dtype)
    total = _add_feed_forward(
        total, y, w_in, b_in, w_out, channels, inside, C, HIDDEN, BLOCK_H, HAS_B_IN, PRECISION
    )
    if HAS_B_OUT:
        total += tl.load(b_out + channels, mask=inside, other=0.0)[None, :]
    tl.store(place, total, mask=mask)


def finish_block(
    x: Tensor, v: Tensor, projected: Tensor, b_o: Tensor | None,
    norm: Norm, w_in: Tensor, b_in: Tensor | None, w_out: Tensor, b_out: Tensor | None,
) -> None:  # fmt: skip
    """x += v @ projected + b_o, then x += DFN(LN(x) + T), in place, for x (B, n, C) float32.

    `v` is (B, n, C) and `projected` (B, C, C), in the dtype of matrix products; `norm` as for
    `norm_project`; w_in (F, C, 1, 1), w_out (C, F, 1, 1). For up to `WHOLE_PIXEL_CHANNELS`
    channels: nothing between is written to memory.
    """
    gamma, beta, shift = norm
    (b, n, c), hidden = x.shape, len(w_in)
    width = padded(c)
    block_m = 128
    _finish_block[blocks(n, block_m), b](
        x, v, projected, pointer(b_o, x), gamma, pointer(beta, x), pointer(shift, x), w_in,
        pointer(b_in, x), w_out, pointer(b_out, x), n, pixels_between(x), images_apart(shift),
        X_PIXEL=x.stride(1), C=c, CP=width, HIDDEN=hidden,
        BLOCK_M=block_m, BLOCK_H=min(64, padded(hidden)), HAS_B_O=b_o is not None,
        HAS_BETA=beta is not None, HAS_SHIFT=shift is not None, HAS_B_IN=b_in is not None,
        HAS_B_OUT=b_out is not None, PRECISION=product_precision(v.dtype),
        num_warps=4 if width <= 64 else 8, num_stages=2,
    )  # fmt: skip


@triton.jit(do_not_specialize=['count'])
def _gelu_backward(hidden, d_active, active, d_hidden, count, BLOCK: tl.constexpr):
    place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = place < count
    x = tl.load(hidden + place, mask=mask, other=0.0).to(tl.float32)
    cumulative = 0.5 * (1.0 + tl.erf(x * SQRT_HALF))
    slope = cumulative + x * GAUSSIAN * tl.exp(-0.5 * x * x)
    gradient = tl.load(d_active + place, mask=mask, other=0.0).to(tl.float32) * slope
    tl.store(active + place, (x * cumulative).to(active.dtype.element_ty), mask=mask)
    tl.store(d_hidden + place, gradient.to(d_hidden.dtype.element_ty), mask=mask)


def gelu_backward(hidden: Tensor, d_active: Tensor) -> tuple[Tensor, Tensor]:
    """GELU(hidden), and the gradient of hidden given that of GELU(hidden), which it replaces."""
    active = torch.empty_like(hidden)
    block = 2048
    _gelu_backward[(blocks(hidden.numel(), block),)](
        hidden, d_active, active, d_active, hidden.numel(), BLOCK=block, num_warps=4
    )
    return active, d_active
