"""What the launches of Triton's kernels share."""

import torch
from torch import Tensor

from c2fdft_arch.common.kernel_choice import interpreted

WHOLE_PIXEL_CHANNELS = 128
"""Up to so many channels a whole pixel is kept in registers, and whole blocks are one kernel."""


def padded(count: int, least: int = 16) -> int:
    """The next power of two, which blocks of tensor elements in Triton must have."""
    return max(least, 1 << (count - 1).bit_length())


def blocks(count: int, size: int) -> int:
    """How many blocks of a size hold so many elements."""
    return -(-count // size)


def product_precision(dtype: torch.dtype) -> str:
    """How matrix products of float32 are computed; it does not matter for other dtypes.

    `tf32x3` keeps float32's precision on tensor cores; `tf32` is what PyTorch's own products are
    allowed when `torch.backends.cuda.matmul.allow_tf32` is set.
    """
    if interpreted() or dtype != torch.float32:
        return 'ieee'
    return 'tf32' if torch.backends.cuda.matmul.allow_tf32 else 'tf32x3'


def pointer(tensor: Tensor | None, stand_in: Tensor) -> Tensor:
    """A tensor for a kernel's pointer that may be absent: `stand_in` is passed and never read."""
    return stand_in if tensor is None else tensor


def pixels_between(x: Tensor) -> int:
    """From one image to the next of x (B, n, C), in pixels; bands of images are further apart."""
    return x.stride(0) // x.stride(1)


def images_apart(shift: Tensor | None) -> int:
    """1 if T (B, C) is another one for each image, 0 if it is (1, C), one for all, or None."""
    return int(shift is not None and len(shift) > 1)
