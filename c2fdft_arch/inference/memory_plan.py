"""How many pixels are evaluated at a time, so that a memory budget is kept.

An evaluation takes, beside weights, input and result of the network:

      whole feature maps, and the prediction of a chunk of the batch   (`_image_bytes`)
    + converted weights, and what libraries keep                      (`_fixed_bytes`)
    + the intermediate results of one row band, and of the rows around (`_band_bytes`)

Row bands are what a budget, or the free memory of a GPU, can make smaller. A level with twice the
channels gets half the pixels, so that a band takes the same memory at all levels.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass, replace

import torch

from c2fdft_arch.common.errors import C2FDFTError
from c2fdft_arch.inference.settings import InferenceSettings
from c2fdft_arch.native.bindings import Kernels, kernels
from c2fdft_arch.native.layout import thread_scratch_bytes

MIB = 2**20
FLOAT32_BYTES = torch.float32.itemsize
# Elements of the feature maps of a row band (measured). On a CPU a larger band leaves the caches,
# and in a smaller one calling the operations takes too large a part of the time.
BAND_ELEMENTS_CPU, BAND_ELEMENTS_GPU = 3 * 2**17, 2**26
# Pixels of the small images of a batch that are evaluated at a time.
CHUNK_PIXELS_CPU, CHUNK_PIXELS_GPU = 128 * 128, 1024 * 1024
# What an image has of its matrices W_o A in the latent, as such and packed.
MATRIX_COPIES = 2
# Weights of a level in another dtype or layout: at most this many times the largest kernel.
KERNEL_COPIES = 3
# What oneDNN and MKL keep on a CPU whatever the image: operations compiled for the shapes of row
# bands, and memory for matrix products (measured, with AMX for bfloat16). The first call of a
# process also maps up to 24 MiB of the libraries' code, which is not counted.
LIBRARY_BYTES = {torch.float32: 24 * MIB, torch.bfloat16: 36 * MIB}
# What the intermediate results of a row band take of PyTorch's heap on a CPU, in multiples of their
# size: the heap does not fill all gaps between them (measured).
HEAP_FACTOR = 2


class MemoryBudgetError(C2FDFTError, ValueError):
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
    """The memory of an evaluation of images (B, 6, H, W), and the row bands that keep a budget."""

    dim: int
    ffn_factor: float
    height: int
    width: int
    settings: InferenceSettings
    device: torch.device
    timestep: float = 0
    limit: int | None = None
    """Bytes that smaller bands than usual are to keep, as far as single rows of one image do."""

    @property
    def dtype(self) -> torch.dtype:
        """That of matrix products and convolutions."""
        return self.settings.dtype(self.device, self.timestep)

    def native_kernels(self) -> tuple[Kernels, Kernels] | None:
        """The kernels in C++ for `dtype` and for float32; None: PyTorch's operations compute.

        They do where there are no kernels, and where row bands of a certain size are asked for.
        """
        if self.settings.band_pixels is not None:
            return None
        of_products, of_float32 = (kernels(d, self.device) for d in (self.dtype, torch.float32))
        if of_products is None or of_float32 is None:
            return None
        return of_products, of_float32

    def of_all_timesteps(self) -> list[MemoryPlan]:
        """A plan for each dtype in which the settings evaluate some timestep."""
        plans = [replace(self, timestep=timestep) for timestep in (0, sys.float_info.max)]
        return list({plan.dtype: plan for plan in plans}.values())

    @property
    def chunk_size(self) -> int:
        """How many images of a batch are evaluated at a time."""
        limit = CHUNK_PIXELS_CPU if self._on_cpu else CHUNK_PIXELS_GPU
        images = max(1, limit // (self.height * self.width))
        most = self._most_bytes
        if most is not None:
            fitting = (most - self._fixed_bytes) // (2 * self._image_bytes(1))
            images = max(1, min(images, fitting))
        return images

    def band_pixels(self, channels: int, images: int) -> int:
        """Pixels that are evaluated at a time at a level with so many channels.

        Raises MemoryBudgetError if not even one row of the image fits into the settings' budget.
        """
        if self.settings.band_pixels is not None:
            return self.settings.band_pixels
        elements = BAND_ELEMENTS_CPU if self._on_cpu else BAND_ELEMENTS_GPU
        self._check_budget(images)
        most = self._most_bytes
        if most is not None and self.native_kernels() is None:
            left = most - self._image_bytes(images) - self._fixed_bytes
            fitting = left // self._element_bytes - self._neighbour_elements
            elements = min(elements, max(fitting, self.width * 2 * self.dim))
        return max(1, elements // channels)

    def _check_budget(self, images: int) -> None:
        """Raise MemoryBudgetError if the settings' budget is too small for one row."""
        budget = self.settings.memory_budget_mb
        if budget is not None and int(budget * MIB) < self._least_bytes(images):
            least = max(plan.least_mb(images) for plan in self.of_all_timesteps())
            raise MemoryBudgetError(budget, least, self.height, self.width)

    def total_bytes(self, images: int) -> int:
        """Memory of an evaluation of so many images, beside weights, input and result.

        Raises MemoryBudgetError like `band_pixels`.
        """
        chunk = min(images, self.chunk_size)
        pixels = min(chunk * self.height * self.width, self.band_pixels(2 * self.dim, chunk))
        return self._image_bytes(chunk) + self._fixed_bytes + self._band_bytes(pixels)

    def least_mb(self, images: int) -> int:
        """The smallest budget in MiB with which so many images are evaluated at a time."""
        return math.ceil(self._least_bytes(images) / MIB)

    def feature_bytes(self, images: int) -> int:
        """Memory of whole feature maps.

        These are the features of the last level in float32, and its values, whose memory serves for
        the features of the other levels before.
        """
        elements = images * self.height * self.width * 2 * self.dim
        return elements * (FLOAT32_BYTES + self.dtype.itemsize)

    def _least_bytes(self, images: int) -> int:
        return self._image_bytes(images) + self._fixed_bytes + self._band_bytes(self.width)

    @property
    def _most_bytes(self) -> int | None:
        """What may be taken, as the settings and the limit say; None: what suits the device."""
        budget = self.settings.memory_budget_mb
        limits = self.limit, None if budget is None else int(budget * MIB)
        return min((limit for limit in limits if limit is not None), default=None)

    def _image_bytes(self, images: int) -> int:
        """Memory of whole feature maps, the matrices W_o A, and the chunk's prediction."""
        prediction = images * self.height * self.width * 3 * FLOAT32_BYTES
        matrices = images * MATRIX_COPIES * (8 * self.dim) ** 2 * FLOAT32_BYTES
        return self.feature_bytes(images) + prediction + matrices

    def _band_bytes(self, pixels: int) -> int:
        """Memory of a row band of so many pixels of the last level, with the rows around it.

        The kernels have the scratch memory of their threads instead.
        """
        if self.native_kernels() is not None:
            dtypes = {plan.dtype for plan in self.of_all_timesteps()}
            of_thread = [
                thread_scratch_bytes(self.dim, self.ffn_factor, self.width, dtype)
                for dtype in dtypes
            ]
            return torch.get_num_threads() * sum(of_thread)
        return (pixels * 2 * self.dim + self._neighbour_elements) * self._element_bytes

    @property
    def _neighbour_elements(self) -> int:
        """Elements of the feature maps in the rows around a band, at most."""
        return 3 * self.width * 2 * self.dim

    @property
    def _element_bytes(self) -> int:
        """Memory for the intermediate results of an element of the feature maps."""
        size = self.dtype.itemsize
        kept = 3 * size + FLOAT32_BYTES  # projected q, k, v; squares of q, then of k
        if self.dtype != torch.float32:
            kept += size  # the converted input
        first_pass = 3 * size + FLOAT32_BYTES  # q, k, v after the convolution; normalised input
        second_pass = self.ffn_factor * size + FLOAT32_BYTES + size  # hidden; input; output
        total = math.ceil(kept + max(first_pass, second_pass))
        return total * HEAP_FACTOR if self._by_libraries else total

    @property
    def _fixed_bytes(self) -> int:
        """Memory that does not depend on the image."""
        largest_kernel = 9 * (8 * self.dim) * (16 * self.dim) * FLOAT32_BYTES
        plans = [plan for plan in self.of_all_timesteps() if plan._by_libraries]
        return KERNEL_COPIES * largest_kernel + sum(LIBRARY_BYTES[plan.dtype] for plan in plans)

    @property
    def _on_cpu(self) -> bool:
        return self.device.type == 'cpu'

    @property
    def _by_libraries(self) -> bool:
        """Whether PyTorch's operations compute on a CPU, by oneDNN and MKL."""
        return self._on_cpu and self.native_kernels() is None
