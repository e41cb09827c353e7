"""3x3 convolutions by the kernels, with the shuffle that follows them."""

from __future__ import annotations

from torch import Tensor, nn

from c2fdft_arch.native.bindings import Kernels
from c2fdft_arch.native.layout import addresses, tile_grid, view_of
from c2fdft_arch.native.structures import SAME, Convolution


def convolve3x3(
    kernels: Kernels,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    out: Tensor,
    layout: int = SAME,
    reduce: nn.Module | None = None,
) -> None:
    """Convolve x (B, H, W, C) with a kernel (C', C, 3, 3) into `out`, both float32.

    `layout` is what becomes of the result (B, H, W, C'): SAME, it is `out`; UNSHUFFLE or SHUFFLE,
    pixel-unshuffle or pixel-shuffle by 2 makes it `out`; JOIN_SHUFFLE, it is shuffled,
    concatenated with what `out` holds, and reduced to `out` by the 1x1 convolution `reduce`.
    """
    weight = weight.contiguous()  # that of a channels-last network is not
    reduction = () if reduce is None else (reduce.weight, reduce.bias)
    conv = Convolution(*x.shape, len(weight), *addresses(weight, bias, *reduction))
    kernels.convolution(conv, view_of(x), view_of(out, layout), *tile_grid(*x.shape[:3]))
