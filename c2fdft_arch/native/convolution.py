"""3x3 convolutions by the kernels, with the shuffle that follows them."""

from torch import Tensor, nn

from c2fdft_arch.native.bindings import Kernels
from c2fdft_arch.native.layout import addresses, as_taken, tile_grid, view_of
from c2fdft_arch.native.structures import SAME, SHUFFLE, Convolution


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
    taps = weight.detach().float().flatten(2)
    joined = (None, None) if reduce is None else (reduce.weight, reduce.bias)
    bias, *reduction = as_taken(bias, *joined)
    conv = Convolution(
        *x.shape, len(weight), *addresses(taps, bias, *reduction), *taps.stride()
    )  # fmt: skip
    kernels.convolution(conv, view_of(x), view_of(out, layout), *tile_grid(*x.shape[:3]))


def convolve3x3_backward(
    kernels: Kernels, d_out: Tensor, weight: Tensor, d_x: Tensor, layout: int = SAME
) -> None:
    """The gradient d_x (B, H, W, C) of `convolve3x3`, given that of `out`: also a convolution.

    Its kernel is turned by 180 degrees, and its inputs, the outputs, come in the groups of a
    shuffle.
    """
    groups = 4 if layout == SHUFFLE else 1
    taps = weight.float().unflatten(0, (-1, groups)).flatten(3).permute(3, 1, 0, 2).contiguous()
    outputs, channels = weight.shape[:2]
    conv = Convolution(
        *d_x.shape[:3], outputs, channels, *addresses(taps[-1], None, None, None),
        1, channels, -outputs * channels,
    )  # fmt: skip
    kernels.convolution(conv, view_of(d_out, layout), view_of(d_x), *tile_grid(*d_x.shape[:3]))
