"""Row strips of (H, W, C) feature maps: reusable memory, and 3x3 convolutions strip by strip.

Feature maps are channels-last, so that a 1x1 convolution is the product of a (pixels, C) matrix
with a (C, C') one, and rows r0 .. r1 of an image are one contiguous piece of memory.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

ALIGNMENT = 64  # bytes, of a cache line


class Workspace:
    """Memory for intermediate results, kept from strip to strip and from block to block.

    Freshly allocated memory has to be provided page by page by the operating system, which takes
    longer than most of what is computed in it.
    """

    def __init__(self) -> None:
        self._buffers: dict[tuple[str, torch.device], Tensor] = {}

    def take(
        self, name: str, shape: Sequence[int], dtype: torch.dtype, device: torch.device
    ) -> Tensor:
        """An uninitialised tensor that stays valid until the same name is taken again.

        Timesteps of different number formats share the memory of a name.
        """
        size = math.prod(shape) * dtype.itemsize
        key = name, device
        if key not in self._buffers or len(self._buffers[key]) < size:
            self._buffers.pop(key, None)  # before the larger one is made
            self._buffers[key] = torch.empty(size, dtype=torch.uint8, device=device)
        return self._buffers[key][:size].view(dtype).view(shape)


class Stack:
    """A piece of memory in which tensors are laid one after another, and dropped from the end."""

    def __init__(self, memory: Tensor) -> None:
        self.memory = memory  # bytes
        self.used = 0

    def push(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """An uninitialised tensor behind those that are there, or elsewhere if it does not fit."""
        size = math.prod(shape) * dtype.itemsize
        if self.used + size > len(self.memory):
            return torch.empty(shape, dtype=dtype, device=self.memory.device)
        tensor = self.memory[self.used : self.used + size].view(dtype).view(shape)
        self.used += -(-size // ALIGNMENT) * ALIGNMENT
        return tensor

    @contextlib.contextmanager
    def frame(self) -> Iterator[None]:
        """Drop, at the end of a `with` block, what was pushed inside it."""
        used = self.used
        try:
            yield
        finally:
            self.used = used


def row_bands(height: int, rows: int, multiple: int = 1) -> Iterator[tuple[int, int]]:
    """Split `height` rows into strips (first, end) of about `rows` rows, in steps of `multiple`."""
    units = height // multiple
    count = -(-units // max(1, rows // multiple))
    bounds = [units * i // count * multiple for i in range(count + 1)]
    return zip(bounds, bounds[1:], strict=False)


def conv3x3(
    features: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    strips: Iterable[tuple[int, int]],
    emit: Callable[[int, int, Tensor], None],
) -> None:
    """Convolve (B, H, W, C) with a 3x3 kernel and call emit(first, end, result) for each strip.

    `result` (B, end - first, W, C') is in the kernel's number format. The rows above and below a
    strip are read from `features`; outside the image they are zero.
    """
    height = features.shape[1]
    for first, end in strips:
        top, bottom = max(first - 1, 0), min(end + 1, height)
        piece = features[:, top:bottom].to(weight.dtype).permute(0, 3, 1, 2)
        inside = top < first and end < bottom
        result = F.conv2d(piece, weight, bias, padding=(0 if inside else 1, 1)).permute(0, 2, 3, 1)
        if not inside:
            # padded at both ends for one that needs it: drop what was computed past the other
            result = result[:, first - top : first - top + end - first]
        emit(first, end, result)
