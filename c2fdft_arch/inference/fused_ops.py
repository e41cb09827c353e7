"""Products of pixels with a weight matrix, fused with what follows them where PyTorch can do it.

On a CPU, oneDNN multiplies by a matrix that it has laid out for itself, and applies a GELU while
the result is still in registers. PyTorch calls these operations for compiled code; they are not
part of its documented interface, so they are tried once, and ordinary ones serve elsewhere.
"""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
from torch import Tensor

PACKING_NUMBERS = 3 * 2**17
"""Numbers in the narrower of input and result from which on a weight is laid out (measured)."""


class PixelLinear:
    """A 1x1 convolution of pixels (n, in), with its weight (out, in) laid out for many products.

    `pixels` is how many there will be in all: for few the layout costs more than it saves. The
    weight is copied, or kept as it is: a `PixelLinear` must not outlive a change of it.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, pixels: int) -> None:
        self.bias = bias
        enough = pixels * min(weight.shape) >= PACKING_NUMBERS
        self.packed = enough and has_packed_products(weight.device.type, weight.dtype)
        self.weight = _pack(weight, pixels) if self.packed else weight

    def __call__(self, pixels: Tensor) -> Tensor:
        """The result (n, out), in the number format of the pixels."""
        if self.packed:
            return _packed_product(pixels, self.weight, self.bias, 'none')
        return F.linear(pixels, self.weight, self.bias)

    def gelu(self, pixels: Tensor) -> Tensor:
        """The exact GELU of the result."""
        if self.packed:
            return _packed_product(pixels, self.weight, self.bias, 'gelu')
        return torch.ops.aten.gelu_(F.linear(pixels, self.weight, self.bias))


@functools.cache
def has_packed_products(device_type: str, dtype: torch.dtype) -> bool:
    """Whether oneDNN's operations are there and give right results in this number format."""
    if device_type != 'cpu' or not torch.backends.mkldnn.is_available():
        return False
    pixels = torch.linspace(-2, 2, 32, dtype=dtype).view(4, 8)
    weight = torch.linspace(-1, 1, 48, dtype=dtype).view(6, 8)
    expected = F.gelu(pixels.float() @ weight.float().t())
    try:
        result = _packed_product(pixels, _pack(weight, 4), None, 'gelu').float()
    except (AttributeError, RuntimeError, TypeError):
        return False
    return torch.allclose(result, expected, rtol=0.02, atol=0.02)


def _pack(weight: Tensor, pixels: int) -> Tensor:
    return torch.ops.mkldnn._reorder_linear_weight(weight.detach().contiguous(), pixels)


def _packed_product(pixels: Tensor, weight: Tensor, bias: Tensor | None, then: str) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(pixels, weight, bias, then, [], 'none')
