"""3x3 convolutions by the kernels, with the shuffle that follows them."""

from torch import Tensor, nn

from c2fdft_arch.native.arguments import address, as_taken, convolution, view
from c2fdft_arch.native.bindings import Kernels
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
    conv = convolution(x, taps, bias, reduction)
    target = view('out', out, *x.shape[:3], len(weight), layout=layout)
    kernels.convolution(conv, view('x', x, *x.shape), target)


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
        *d_x.shape[:3], outputs, channels,
        address('taps', taps[-1], groups, outputs // groups, channels),
        None, None, None, 1, channels, -outputs * channels,
    )  # fmt: skip
    gradient = view('d_out', d_out, *d_x.shape[:3], outputs, layout=layout)
    kernels.convolution(conv, gradient, view('d_x', d_x, *d_x.shape[:3], channels))


def convolve3x3_weight_gradient(
    kernels: Kernels, x: Tensor, d_out: Tensor, d_weight: Tensor, layout: int = SAME
) -> None:
    """The gradient d_weight (C', C, 3, 3) of `convolve3x3`, given that of `out`."""
    outputs = len(d_weight)
    gradient = view('d_out', d_out, *x.shape[:3], outputs, layout=layout)
    conv = Convolution(*x.shape, outputs)
    kernels.convolution_weight_gradient(conv, view('x', x, *x.shape), gradient, d_weight)
