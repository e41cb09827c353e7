"""The 3x3 depth-wise convolution, with the sums over pixels of channel attention, and gradients.

Convolved are the rows `first` to `last` of images of which z holds the rows `top` to `bottom`, one
more on either side unless the image ends there, so that an image can be computed in row bands.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from c2fdft_arch.triton_kernels.launching import (
    blocks,
    padded,
    pixels_between,
    pointer,
    product_precision,
)

ROW_ARGUMENTS = ['height', 'width', 'top', 'bottom', 'first', 'last', 'z_image']
"""Of `Rows`, and pixels between images: compiled once for all values."""


@triton.jit
def _convolved(
    z, w, bias, row, column, used, channels, inside, top, bottom, width, Z_PIXEL: tl.constexpr,
    WEIGHTS: tl.constexpr, HAS_BIAS: tl.constexpr, FLIP: tl.constexpr, P: tl.constexpr,
    CP: tl.constexpr,
):  # fmt: skip
    """The convolution at the pixels (row, column) (P,) of some channels (CP,): (P, CP) float32."""
    total = tl.zeros([P, CP], tl.float32)
    if HAS_BIAS:
        total += tl.load(bias + channels, mask=inside, other=0.0).to(tl.float32)[None, :]
    for dy in tl.static_range(3):
        for dx in tl.static_range(3):
            y = row + dy - 1
            x = column + dx - 1
            valid = used & (y >= top) & (y < bottom) & (x >= 0) & (x < width)
            place = ((y - top) * width + x).to(tl.int64) * Z_PIXEL
            tap = 8 - (3 * dy + dx) if FLIP else 3 * dy + dx
            values = tl.load(
                z + place[:, None] + channels[None, :], mask=valid[:, None] & inside[None, :],
                other=0.0,
            ).to(tl.float32)  # fmt: skip
            kernel = tl.load(w + tap * WEIGHTS + channels, mask=inside, other=0.0).to(tl.float32)
            total += values * kernel[None, :]
    return tl.where(used[:, None] & inside[None, :], total, 0.0)


@triton.jit(do_not_specialize=[*ROW_ARGUMENTS, 'part_0', 'tiles'])
def _products(
    z, w, bias, qkv, sums, height, width, top, bottom, first, last, z_image, part_0, tiles,
    C: tl.constexpr, HEADS: tl.constexpr, HEAD: tl.constexpr, HP: tl.constexpr, P: tl.constexpr,
    HAS_BIAS: tl.constexpr, STORE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    part = tl.program_id(0)
    image = tl.program_id(1) // HEADS
    head = tl.program_id(1) % HEADS
    z += image.to(tl.int64) * z_image * 3 * C
    offset = tl.arange(0, HP)
    inside = offset < HEAD
    q_channels = head * HEAD + offset
    products = tl.zeros([HP, HP], tl.float32)
    q_squares = tl.zeros([HP], tl.float32)
    k_squares = tl.zeros([HP], tl.float32)
    count = (last - first) * width
    for tile in range(tiles):
        pixel = (part * tiles + tile) * P + tl.arange(0, P)
        used = pixel < count
        row = first + pixel // width
        column = pixel % width
        q = _convolved(
            z, w, bias, row, column, used, q_channels, inside, top, bottom, width, 3 * C, 3 * C,
            HAS_BIAS, False, P, HP,
        ).to(z.dtype.element_ty)  # fmt: skip
        k = _convolved(
            z, w, bias, row, column, used, C + q_channels, inside, top, bottom, width, 3 * C,
            3 * C, HAS_BIAS, False, P, HP,
        ).to(z.dtype.element_ty)  # fmt: skip
        if STORE:
            pixels = image.to(tl.int64) * height * width + row * width + column
            place = qkv + pixels[:, None] * 3 * C + q_channels[None, :]
            mask = used[:, None] & inside[None, :]
            tl.store(place, q, mask=mask)
            tl.store(place + C, k, mask=mask)
        products += tl.dot(tl.trans(q), k, input_precision=PRECISION)
        q = q.to(tl.float32)
        k = k.to(tl.float32)
        q_squares += tl.sum(q * q, axis=0)
        k_squares += tl.sum(k * k, axis=0)
    number = (part_0 + part) * tl.num_programs(1) + tl.program_id(1)
    sums += number.to(tl.int64) * (HEAD + 2) * HEAD
    square = inside[:, None] & inside[None, :]
    tl.store(sums + offset[:, None] * HEAD + offset[None, :], products, mask=square)
    tl.store(sums + HEAD * HEAD + offset, q_squares, mask=inside)
    tl.store(sums + (HEAD + 1) * HEAD + offset, k_squares, mask=inside)


@triton.jit(do_not_specialize=ROW_ARGUMENTS)
def _depthwise(
    z, w, bias, out, height, width, top, bottom, first, last, z_image, Z_FIRST: tl.constexpr,
    OUT_FIRST: tl.constexpr, COUNT: tl.constexpr, Z_PIXEL: tl.constexpr, OUT_PIXEL: tl.constexpr,
    BLOCK_C: tl.constexpr, P: tl.constexpr, HAS_BIAS: tl.constexpr, FLIP: tl.constexpr,
):  # fmt: skip
    image = tl.program_id(2).to(tl.int64)
    pixel = tl.program_id(0) * P + tl.arange(0, P)
    used = pixel < (last - first) * width
    row = first + pixel // width
    column = pixel % width
    channels = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    inside = channels < COUNT
    y = _convolved(
        z + image * z_image * Z_PIXEL + Z_FIRST, w + Z_FIRST, bias + Z_FIRST, row, column, used,
        channels, inside, top, bottom, width, Z_PIXEL, Z_PIXEL, HAS_BIAS, FLIP, P, BLOCK_C,
    )  # fmt: skip
    place = (image * height * width + row * width + column) * OUT_PIXEL + OUT_FIRST
    tl.store(
        out + place[:, None] + channels[None, :], y.to(out.dtype.element_ty),
        mask=used[:, None] & inside[None, :],
    )  # fmt: skip


@triton.jit
def _features(x, place, used, channels, inside, CHANNELS: tl.constexpr):
    """Some channels (C,) of the pixels at `place` (P,), where used: (P, C) float32, else zero."""
    values = tl.load(
        x + place[:, None] * CHANNELS + channels[None, :], mask=used[:, None] & inside[None, :],
        other=0.0,
    )  # fmt: skip
    return values.to(tl.float32)


@triton.jit(do_not_specialize=['height', 'width', 'count', 'tiles'])
def _weight_gradient(
    d_y, z, sums, height, width, count, tiles, CHANNELS: tl.constexpr, BLOCK_C: tl.constexpr,
    P: tl.constexpr,
):  # fmt: skip
    """Partial sums over pixels of d_y times z under each tap, and of d_y for the bias: (10, C)."""
    channels = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    inside = channels < CHANNELS
    part = sums + tl.program_id(0) * 10 * CHANNELS + channels
    for dy in tl.static_range(3):
        taps_0 = tl.zeros([P, BLOCK_C], tl.float32)
        taps_1 = tl.zeros([P, BLOCK_C], tl.float32)
        taps_2 = tl.zeros([P, BLOCK_C], tl.float32)
        total = tl.zeros([P, BLOCK_C], tl.float32)
        for tile in range(tiles):
            pixel = (tl.program_id(0) * tiles + tile) * P + tl.arange(0, P)
            used = pixel < count
            row = (pixel // width) % height + dy - 1
            column = pixel % width
            valid = used & (row >= 0) & (row < height)
            place = pixel.to(tl.int64)
            gradient = _features(d_y, place, used, channels, inside, CHANNELS)
            if dy == 1:
                total += gradient
            place += (dy - 1) * width
            before, after = valid & (column > 0), valid & (column < width - 1)
            taps_0 += gradient * _features(z, place - 1, before, channels, inside, CHANNELS)
            taps_1 += gradient * _features(z, place, valid, channels, inside, CHANNELS)
            taps_2 += gradient * _features(z, place + 1, after, channels, inside, CHANNELS)
        row_sums = part + 3 * dy * CHANNELS
        tl.store(row_sums, tl.sum(taps_0, axis=0), mask=inside)
        tl.store(row_sums + CHANNELS, tl.sum(taps_1, axis=0), mask=inside)
        tl.store(row_sums + 2 * CHANNELS, tl.sum(taps_2, axis=0), mask=inside)
        if dy == 1:
            tl.store(part + 9 * CHANNELS, tl.sum(total, axis=0), mask=inside)


class Rows:
    """The rows of images that a call convolves, and those that its input holds."""

    def __init__(self, height: int, width: int, first: int = 0, last: int | None = None) -> None:
        self.height, self.width = height, width
        self.first, self.last = first, height if last is None else last
        self.top, self.bottom = max(self.first - 1, 0), min(self.last + 1, height)

    @property
    def pixels(self) -> int:
        """How many pixels of an image are convolved."""
        return (self.last - self.first) * self.width

    def arguments(self) -> tuple[int, ...]:
        """As the kernels take them."""
        return self.height, self.width, self.top, self.bottom, self.first, self.last


def product_tiling(pixels: int, head_channels: int) -> tuple[int, int, int]:
    """Pixels of a tile, tiles of a program, and programs for an image of so many pixels."""
    p = 64 if head_channels <= 64 else 32
    tiles = max(1, min(16, pixels // (p * 256)))
    return p, tiles, blocks(pixels, p * tiles)


def attention_products(
    z: Tensor, w: Tensor, bias: Tensor | None, heads: int, rows: Rows, sums: Tensor, part: int,
    qkv: Tensor | None = None,
) -> None:  # fmt: skip
    """Partial sums over pixels of q^T k, q^2 and k^2, with q and k convolved from z (B, m, 3C).

    `w` (9, 3C) holds the taps. They go to `sums` (parts, B * heads, c + 2, c) from `part` on: c
    rows of products, then the two of squares; `product_tiling` says how many parts. With `qkv`
    (B, height * width, 3C) q and k are stored there.
    """
    b, c = len(z), z.shape[2] // 3
    p, tiles, parts = product_tiling(rows.pixels, c // heads)
    _products[parts, b * heads](
        z, w, pointer(bias, w), pointer(qkv, z), sums, *rows.arguments(), pixels_between(z),
        part, tiles,
        C=c, HEADS=heads, HEAD=c // heads, HP=padded(c // heads), P=p,
        HAS_BIAS=bias is not None, STORE=qkv is not None, PRECISION=product_precision(z.dtype),
        num_warps=8,
        num_stages=1,  # its many loads, kept for several tiles, would not fit into shared memory
    )  # fmt: skip


def depthwise(
    z: Tensor, w: Tensor, bias: Tensor | None, rows: Rows, out: Tensor, *, first: int = 0,
    out_first: int = 0, flip: bool = False,
) -> None:  # fmt: skip
    """Convolve the channels of z (B, m, C) from `first` on into those of `out` from `out_first` on.

    `w` (9, C) holds the taps; `flip` turns them round, as for the gradient of z. `out` is
    (B, height * width, C').
    """
    count = min(z.shape[2] - first, out.shape[2] - out_first)
    block_c = 64 if count > 32 else padded(count)
    p = 64
    _depthwise[blocks(rows.pixels, p), blocks(count, block_c), len(z)](
        z, w, pointer(bias, w), out, *rows.arguments(), pixels_between(z), Z_FIRST=first,
        OUT_FIRST=out_first, COUNT=count, Z_PIXEL=z.shape[2], OUT_PIXEL=out.shape[2],
        BLOCK_C=block_c, P=p, HAS_BIAS=bias is not None, FLIP=flip, num_warps=4,
    )  # fmt: skip


def depthwise_weight_gradient(
    d_y: Tensor, z: Tensor, rows: Rows, has_bias: bool
) -> tuple[Tensor, Tensor | None]:
    """Gradients of the kernel (C, 1, 3, 3) and of the bias, given that of the result (B, n, C)."""
    c = z.shape[2]
    count = z.shape[0] * z.shape[1]
    block_c, p = min(64, padded(c)), 32
    tiles = max(1, min(64, count // (p * 256)))
    parts = blocks(count, p * tiles)
    sums = torch.empty(parts, 10, c, device=z.device)
    _weight_gradient[parts, blocks(c, block_c)](
        d_y, z, sums, rows.height, rows.width, count, tiles, CHANNELS=c, BLOCK_C=block_c, P=p,
        num_warps=4,
    )  # fmt: skip
    total = sums.sum(0)
    return total[:9].t().reshape(c, 1, 3, 3), total[9] if has_bias else None
