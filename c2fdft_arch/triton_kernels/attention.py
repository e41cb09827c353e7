"""The small matrices of channel attention (see `network.attention_matrices`), and d_q, d_k, d_v."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from c2fdft_arch.network.attention_matrices import NORMALIZE_EPS
from c2fdft_arch.triton_kernels.launching import blocks, padded, product_precision

EPS = tl.constexpr(NORMALIZE_EPS)


@triton.jit
def _project_attention(
    sums, temperature, w_o, attention, projected, C: tl.constexpr, HEADS: tl.constexpr,
    HEAD: tl.constexpr, HP: tl.constexpr, BLOCK_N: tl.constexpr, STORE: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    number = tl.program_id(0)
    image = number // HEADS
    head = number % HEADS
    sums += number * (HEAD + 2) * HEAD
    channels = tl.arange(0, HP)
    inside = channels < HEAD
    square = inside[:, None] & inside[None, :]
    place = channels[:, None] * HEAD + channels[None, :]
    products = tl.load(sums + place, mask=square, other=0.0)
    q_norm = tl.sqrt(tl.load(sums + HEAD * HEAD + channels, mask=inside, other=1.0))
    k_norm = tl.sqrt(tl.load(sums + (HEAD + 1) * HEAD + channels, mask=inside, other=1.0))
    scores = products / tl.maximum(q_norm, EPS)[:, None] / tl.maximum(k_norm, EPS)[None, :]
    scores = tl.where(inside[None, :], scores * tl.load(temperature + head), float('-inf'))
    scores = tl.exp(scores - tl.max(scores, axis=1)[:, None])
    weights = scores / tl.sum(scores, axis=1)[:, None]
    weights = tl.where(square, weights, 0.0)
    if STORE:
        tl.store(attention + number * HEAD * HEAD + place, weights, mask=square)
    transposed = tl.trans(weights)
    outputs = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    used = outputs < C
    kernel = tl.load(
        w_o + outputs[None, :] * C + head * HEAD + channels[:, None],
        mask=used[None, :] & inside[:, None], other=0.0,
    ).to(tl.float32)  # fmt: skip
    result = tl.dot(transposed, kernel, input_precision=PRECISION)
    row = image * C + head * HEAD + channels
    tl.store(
        projected + row[:, None] * C + outputs[None, :], result.to(projected.dtype.element_ty),
        mask=inside[:, None] & used[None, :],
    )  # fmt: skip


def project_attention(
    sums: Tensor, temperature: Tensor, w_o: Tensor, dtype: torch.dtype, keep: bool = False
) -> tuple[Tensor, Tensor | None]:
    """(W_o A)^T (B, C, C) in `dtype` and, with `keep`, A (B, heads, c, c) in float32.

    `sums` (B * heads, c + 2, c) holds q^T k and the squares of q and k, summed over the pixels.
    """
    heads, head, c = len(temperature), sums.shape[2], len(w_o)
    b = len(sums) // heads
    attention = torch.empty(b, heads, head, head, device=sums.device) if keep else None
    projected = torch.empty(b, c, c, dtype=dtype, device=sums.device)
    block_n = min(64, padded(c))
    _project_attention[b * heads, blocks(c, block_n)](
        sums, temperature, w_o, sums if attention is None else attention, projected, C=c,
        HEADS=heads, HEAD=head, HP=padded(head), BLOCK_N=block_n, STORE=keep,
        PRECISION=product_precision(torch.float32), num_warps=4 if head <= 64 else 8,
    )  # fmt: skip
    return projected, attention


@triton.jit(do_not_specialize=['n'])
def _qkv_gradient(
    qkv, d_out, d_products, d_squares, projected, d_qkv, n, C: tl.constexpr, HEADS: tl.constexpr,
    HEAD: tl.constexpr, HP: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_K: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    image = tl.program_id(1) // HEADS
    head = tl.program_id(1) % HEADS
    rows = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    used = rows < n
    channels = tl.arange(0, HP)
    inside = channels < HEAD
    mask = used[:, None] & inside[None, :]
    pixels = (image.to(tl.int64) * n + rows)[:, None]
    place = pixels * 3 * C + head * HEAD + channels[None, :]
    q = tl.load(qkv + place, mask=mask, other=0.0)
    k = tl.load(qkv + place + C, mask=mask, other=0.0)
    square = inside[:, None] & inside[None, :]
    matrix = d_products + tl.program_id(1) * HEAD * HEAD
    along = matrix + channels[:, None] * HEAD + channels[None, :]
    across = matrix + channels[None, :] * HEAD + channels[:, None]
    squares = d_squares + image * C + head * HEAD + channels
    images = tl.num_programs(1) // HEADS
    d_q = tl.dot(k, tl.load(across, mask=square, other=0.0).to(k.dtype), input_precision=PRECISION)
    d_q += q.to(tl.float32) * 2 * tl.load(squares, mask=inside, other=0.0)[None, :]
    tl.store(d_qkv + place, d_q.to(d_qkv.dtype.element_ty), mask=mask)
    d_k = tl.dot(q, tl.load(along, mask=square, other=0.0).to(q.dtype), input_precision=PRECISION)
    d_k += k.to(tl.float32) * 2 * tl.load(squares + images * C, mask=inside, other=0.0)[None, :]
    tl.store(d_qkv + place + C, d_k.to(d_qkv.dtype.element_ty), mask=mask)
    d_v = tl.zeros([BLOCK_M, HP], tl.float32)
    for start in range(0, C, BLOCK_K):
        outputs = start + tl.arange(0, BLOCK_K)
        valid = outputs < C
        gradient = tl.load(
            d_out + pixels * C + outputs[None, :], mask=used[:, None] & valid[None, :], other=0.0
        )
        kernel = tl.load(
            projected + (image * C + head * HEAD + channels)[None, :] * C + outputs[:, None],
            mask=valid[:, None] & inside[None, :], other=0.0,
        )  # fmt: skip
        d_v += tl.dot(gradient, kernel, input_precision=PRECISION)
    tl.store(d_qkv + place + 2 * C, d_v.to(d_qkv.dtype.element_ty), mask=mask)


def qkv_gradient(
    qkv: Tensor, d_out: Tensor, d_products: Tensor, d_squares: Tensor, projected: Tensor
) -> Tensor:
    """The gradient of q, k and v (B, n, 3C).

    Given those of the block's result, d_out (B, n, C), of q^T k (B, heads, c, c) and of the squares
    (2, B, heads, c), both in float32; `projected` is (W_o A)^T (B, C, C).
    """
    (b, n, width), heads, head = qkv.shape, d_products.shape[1], d_products.shape[2]
    d_qkv = torch.empty_like(qkv)
    block_m = 64 if head <= 64 else 32
    _qkv_gradient[blocks(n, block_m), b * heads](
        qkv, d_out, d_products, d_squares, projected, d_qkv, n, C=width // 3, HEADS=heads,
        HEAD=head, HP=padded(head), BLOCK_M=block_m, BLOCK_K=32,
        PRECISION=product_precision(qkv.dtype), num_warps=4,
    )  # fmt: skip
    return d_qkv
