"""Row bands of (H, W, C) feature maps: reusable memory, and 3x3 convolutions band by band.

Feature maps are channels-last, so that a 1x1 convolution is the product of a (pixels, C) matrix
with a (C, C') one, and rows r0 .. r1 of an image are contiguous in memory.
"""

import contextlib
import math
import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

ALIGNMENT = 64  # bytes, of a cache line


class Workspace(threading.local):
    """Memory for intermediate results, kept from band to band and from block to block.

    The operating system provides freshly allocated memory page by page, which takes longer than
    most of what is computed in it. Every thread has memory of its own.
    """

    def __init__(self, *, keep_graphs: bool = False) -> None:
        self._buffers: dict[tuple[str, torch.device], Tensor] = {}
        self.graphs: dict[Any, Any] | None = {} if keep_graphs else None
        self.limits: dict[Any, int | None] = {}  # of plans, which `device_memory` decides
        self.most_bytes: int | None = None  # since an evaluation ran out of memory

    def take(
        self, name: str, shape: Sequence[int], dtype: torch.dtype, device: torch.device
    ) -> Tensor:
        """An uninitialised tensor that stays valid until the same name is taken again.

        Tensors of one name share their memory whatever their dtypes.
        """
        size = math.prod(shape) * dtype.itemsize
        key = name, device
        if key not in self._buffers or len(self._buffers[key]) < size:
            self._buffers.pop(key, None)  # free the smaller one before the larger is made
            self._buffers[key] = torch.empty(size, dtype=torch.uint8, device=device)
        return self._buffers[key][:size].view(dtype).view(shape)

    def held_bytes(self, device: torch.device) -> int:
        """Memory on a device that the next evaluation can use again."""
        return sum(len(memory) for (_, on), memory in self._buffers.items() if on == device)

    def clear(self) -> None:
        """Free the memory, and that of recorded calls."""
        self._buffers.clear()
        if self.graphs is not None:
            self.graphs.clear()


class Stack:
    """A stack of tensors in one block of memory."""

    def __init__(self, memory: Tensor) -> None:
        self.memory = memory  # bytes
        self.used = 0

    def push(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """An uninitialised tensor on top of the stack, or elsewhere if it does not fit."""
        size = math.prod(shape) * dtype.itemsize
        if self.used + size > len(self.memory):
            return torch.empty(shape, dtype=dtype, device=self.memory.device)
        tensor = self.memory[self.used : self.used + size].view(dtype).view(shape)
        self.used += -(-size // ALIGNMENT) * ALIGNMENT
        return tensor

    @contextlib.contextmanager
    def frame(self) -> Iterator[None]:
        """Pop, at the end of a `with` block, what was pushed inside it."""
        used = self.used
        try:
            yield
        finally:
            self.used = used


def row_bands(height: int, rows: int, multiple: int = 1) -> Iterator[slice]:
    """Split `height` rows into bands of about `rows` rows, in steps of `multiple`."""
    units = height // multiple
    count = -(-units // max(1, rows // multiple))
    bounds = [units * i // count * multiple for i in range(count + 1)]
    return map(slice, bounds, bounds[1:])


def pixel_bands(images: int, pixels: int, limit: int) -> Iterator[tuple[slice, slice]]:
    """Split (images, pixels) into whole images or parts of one, of up to `limit` pixels each."""
    if pixels <= limit:
        for some in row_bands(images, limit // pixels):
            yield some, slice(0, pixels)
        return
    for image in range(images):
        for part in row_bands(pixels, limit):
            yield slice(image, image + 1), part


def conv3x3(
    features: Tensor, weight: Tensor, bias: Tensor | None, bands: Iterable[slice]
) -> Iterator[tuple[slice, Tensor]]:
    """Convolve (B, H, W, C) with a 3x3 kernel; yield the rows of each band and its result.

    The result (B, rows, W, C') has the kernel's dtype. The rows above and below a band are read
    from `features`; outside the image they are zero.
    """
    height = features.shape[1]
    for rows in bands:
        top, bottom = max(rows.start - 1, 0), min(rows.stop + 1, height)
        window = features[:, top:bottom].to(weight.dtype).permute(0, 3, 1, 2)
        inside = top < rows.start and rows.stop < bottom
        result = F.conv2d(window, weight, bias, padding=(0 if inside else 1, 1))
        if not inside:  # it is padded above and below: drop the row computed past a neighbour
            result = result[:, :, rows.start - top :][:, :, : rows.stop - rows.start]
        yield rows, result.permute(0, 2, 3, 1)
