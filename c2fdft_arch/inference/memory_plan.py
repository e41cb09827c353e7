"""How many pixels are evaluated at a time, so that a memory budget is kept."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch

from c2fdft_arch.inference.settings import InferenceSettings
from c2fdft_arch.native.bindings import kernels

MIB = 2**20
# Numbers in a strip of feature maps when no budget asks for less. On a CPU more would leave the
# caches, and less would be spent on calling operations; a GPU wants more at a time.
STRIP_NUMBERS = {'cpu': 3 * 2**17}
STRIP_NUMBERS_ELSEWHERE = 2**24
# Pixels of small images that are evaluated together.
GROUP_PIXELS = {'cpu': 128 * 128}
GROUP_PIXELS_ELSEWHERE = 1024 * 1024
# So many times the largest kernel, in float32: weights in the layout and number format of a level.
KERNEL_COPIES = 3
# What oneDNN and MKL keep where they compute on a CPU, whatever the image (measured): operations
# compiled for the shapes of strips, and memory for products.
LIBRARY_BYTES = {torch.float32: 24 * MIB, torch.bfloat16: 36 * MIB}
# So many times the intermediate results of a strip, there: the heap does not fill all the gaps that
# they leave (measured).
STRIP_COPIES = 2
RESULT_CHANNELS = 3


class MemoryBudgetError(ValueError):
    """An image cannot be evaluated within the memory budget; the text says what it takes."""

    def __init__(self, budget_mb: float, least_mb: int, height: int, width: int) -> None:
        self.least_mb = least_mb  # suffices at every timestep
        self.need = f'an image of {width} x {height} pixels takes at least {least_mb} MiB'
        super().__init__(
            f'memory budget: {budget_mb:g} MiB given; {self.need}: raise the budget, or evaluate '
            'tiles'
        )


@dataclass(frozen=True)
class MemoryPlan:
    """What the evaluation of images (B, 6, H, W) takes, and the strips that keep the budget."""

    dim: int
    ffn_factor: float
    height: int
    width: int
    settings: InferenceSettings
    device: torch.device
    dtype: torch.dtype  # of matrix products and convolutions

    @property
    def chunk_size(self) -> int:
        """How many images of a batch are evaluated at a time."""
        limit = GROUP_PIXELS.get(self.device.type, GROUP_PIXELS_ELSEWHERE)
        images = max(1, limit // (self.height * self.width))
        if self.settings.memory_budget_mb is not None:
            fitting = (self._budget - self._fixed_bytes) // (2 * self._image_bytes(1))
            images = max(1, min(images, fitting))
        return images

    def feature_bytes(self, images: int) -> int:
        """Memory of whole feature maps.

        The last level's features in float32, and memory for its values, which serves for the
        features of the other levels before.
        """
        largest = images * self.height * self.width * 2 * self.dim
        return largest * (torch.float32.itemsize + self.dtype.itemsize)

    def band_pixels(self, channels: int, images: int) -> int:
        """Pixels that are evaluated at a time at a level with so many channels.

        Raises MemoryBudgetError if not even one row of the image fits into the budget.
        """
        if self.settings.band_pixels is not None:
            return self.settings.band_pixels
        numbers = STRIP_NUMBERS.get(self.device.type, STRIP_NUMBERS_ELSEWHERE)
        pixels = max(256, numbers // channels)
        if self.settings.memory_budget_mb is None:
            return pixels
        left = self._budget - self._image_bytes(images) - self._fixed_bytes
        if left < self._row_bytes:
            least = max(plan.least_mb(images) for plan in self._of_all_timesteps())
            given = self.settings.memory_budget_mb
            raise MemoryBudgetError(given, least, self.height, self.width)
        fitting = left // self._pixel_bytes(channels) - self._carried_pixels(channels)
        return max(1, min(pixels, fitting))

    def total_bytes(self, images: int) -> int:
        """Memory of an evaluation of so many images, beside weights, input and result.

        Raises MemoryBudgetError like `band_pixels`.
        """
        together = min(images, self.chunk_size)
        strips = 0
        for level in range(4):
            channels = self.dim * 2 ** max(level, 1)
            pixels = together * self.height * self.width >> 2 * level
            pixels = min(pixels, self.band_pixels(channels, together))
            pixels += self._carried_pixels(channels)
            strips = max(strips, pixels * self._pixel_bytes(channels))
        return self._image_bytes(together) + self._fixed_bytes + strips

    def least_mb(self, images: int) -> int:
        """The smallest budget in MiB with which so many images are evaluated together."""
        return math.ceil((self._image_bytes(images) + self._fixed_bytes + self._row_bytes) / MIB)

    def _of_all_timesteps(self) -> list[MemoryPlan]:
        """The plans of the first and the last timestep, whose number formats may differ."""
        dtypes = [self.settings.dtype(self.device, timestep) for timestep in (math.inf, 0)]
        return [replace(self, dtype=dtype) for dtype in dict.fromkeys([self.dtype, *dtypes])]

    def _image_bytes(self, images: int) -> int:
        """Memory of whole feature maps, and of a result that is not yet where it belongs."""
        result = images * self.height * self.width * RESULT_CHANNELS * torch.float32.itemsize
        return self.feature_bytes(images) + result

    @property
    def _budget(self) -> int:
        return int((self.settings.memory_budget_mb or 0) * MIB)

    def _pixel_bytes(self, channels: int) -> int:
        """Memory for the intermediate results of a pixel."""
        size = self.dtype.itemsize
        kept = 3 * size + 4  # the projected q, k, v; the squares of q, then k
        if self.dtype != torch.float32:
            kept += size  # the normalised input, converted
        first_pass = 3 * size + 4  # q, k, v behind the depth-wise convolution; the normalised input
        second_pass = self.ffn_factor * size + 4 + size  # the hidden channels; input and output
        numbers = int(channels * (kept + max(first_pass, second_pass)))
        return numbers * STRIP_COPIES if self._by_libraries else numbers

    def _carried_pixels(self, channels: int) -> int:
        """Pixels of the rows around a strip, at most, at a level with so many channels."""
        return 3 * self.width * 2 * self.dim // max(channels, 2 * self.dim)

    @property
    def _row_bytes(self) -> int:
        """Memory for the narrowest strip, a row, with the rows around it, at the last level."""
        return 4 * self.width * self._pixel_bytes(2 * self.dim)

    @property
    def _fixed_bytes(self) -> int:
        """Memory that does not depend on the image."""
        largest = 9 * (8 * self.dim) * (16 * self.dim)
        copies = KERNEL_COPIES * largest * torch.float32.itemsize
        return copies + self._library_bytes

    @property
    def _library_bytes(self) -> int:
        """What libraries keep from one timestep to the next, of all number formats."""
        plans = [plan for plan in self._of_all_timesteps() if plan._by_libraries]
        return sum(LIBRARY_BYTES[plan.dtype] for plan in plans)

    @property
    def _by_libraries(self) -> bool:
        """Whether PyTorch evaluates the network on a CPU, and not the kernels in C++.

        As `evaluation` decides.
        """
        needed = (self.dtype, torch.float32)
        known = all(kernels(dtype, self.device) is not None for dtype in needed)
        return self.device.type == 'cpu' and (self.settings.band_pixels is not None or not known)
