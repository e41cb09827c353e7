"""A network and the settings with which it restores image files, one after another."""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import nn

from c2fdft_arch.inference.device_memory import OUT_OF_MEMORY
from c2fdft_model.diffusion.process import DiffusionProcess
from c2fdft_model.images.image_files import ImageRecord
from c2fdft_model.restoring.checkpoint import WeightsError
from c2fdft_model.restoring.memory import available_memory_mb, needed_memory_mb
from c2fdft_model.restoring.restoration import (
    DEFAULT_TILE_OVERLAP,
    inference_settings,
    restore,
    size_multiple,
)
from c2fdft_model.restoring.tiling import Blend, check_tile

WARM_UP_SIDE = 16
ALLOCATION_FAILED = (*OUT_OF_MEMORY, "can't allocate memory", 'not enough memory')
"""What the RuntimeError of PyTorch says on GPUs, and for CPUs on Linux and on Windows."""


@dataclass(frozen=True)
class Restorer:
    """Restores images with one network of 6 input and 3 output channels.

    The fields are arguments of `restoration.restore`, by name. Raises WeightsError for another
    network, ValueError for impossible tiles.
    """

    network: nn.Module
    process: DiffusionProcess
    seed: int = 0
    samples: int = 1
    precision: str = 'auto'
    memory_budget_mb: float | None = None
    tile: int | None = None
    tile_overlap: int = DEFAULT_TILE_OVERLAP
    tile_blend: Blend = 'smooth'
    kernels: str = 'auto'

    def __post_init__(self) -> None:
        inputs = getattr(self.network, 'inp_channels', 6)
        outputs = getattr(self.network, 'out_channels', 3)
        if (inputs, outputs) != (6, 3):
            raise WeightsError(
                f'the network has {inputs} input and {outputs} output channels; RGB restoration '
                'needs 6 and 3.'
            )
        if self.tile is not None:
            multiple = size_multiple(self.network)
            check_tile(self.tile, self.tile_overlap, multiple, self.tile_blend)
        with self._settings():
            pass  # raises for what is not possible, before the first image

    @property
    def calls(self) -> int:
        """Network calls for an image."""
        return len(self.process.timesteps) * self.samples

    def __call__(
        self, image: ImageRecord, name: str, step: Callable[[], object] | None = None
    ) -> ImageRecord:
        """Restore an image with the noise of `name`; `step` is called after every network call.

        Raises MemoryError if there is too little memory, where possible before the first call.
        """
        degraded = torch.from_numpy(image.colour).permute(2, 0, 1)
        self._check_memory(*degraded.shape[1:])
        try:
            restored = restore(image=degraded, noise_name=name, progress=step, **vars(self))
        except RuntimeError as error:
            if any(words in str(error) for words in ALLOCATION_FAILED):
                raise MemoryError(str(error).splitlines()[0]) from error
            raise
        return replace(image, colour=restored.permute(1, 2, 0).numpy())

    def warm_up(self) -> None:
        """Do what only a first network call does: compile the kernels, load the libraries."""
        multiple = size_multiple(self.network)
        side = -(-WARM_UP_SIDE // multiple) * multiple
        device = next(self.network.parameters()).device
        quiet = contextlib.suppress(RuntimeError, ValueError, MemoryError)
        # Whatever fails here fails in an image as well, whose name belongs to it.
        with quiet, torch.no_grad(), self._settings():
            for timestep in {self.process.timesteps[0], self.process.timesteps[-1]}:
                x = torch.zeros(1, 6, side, side, device=device)
                self.network(x, torch.tensor([timestep], device=device))

    def _settings(self) -> contextlib.AbstractContextManager[None]:
        return inference_settings(
            self.network, self.process, self.precision, self.memory_budget_mb, self.kernels
        )

    def _check_memory(self, height: int, width: int) -> None:
        with self._settings():
            needed = needed_memory_mb(self.network, height, width, self.tile)
        free = available_memory_mb(next(self.network.parameters()).device)
        if needed is not None and free is not None and needed > free:
            raise MemoryError(
                f'{needed / 1024:.1f} GB are needed and {free / 1024:.1f} GB are free'
            )
