"""A model that the page offers, and restoring one uploaded file with it as the command does."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from torch import nn

from c2fdft_arch.common.errors import C2FDFTError
from c2fdft_arch.common.messages import one_line
from c2fdft_model.diffusion.options import DiffusionOptions, build_process
from c2fdft_model.images.image_files import is_image_name, read_image, write_image
from c2fdft_model.images.image_io import FORMATS, image_size
from c2fdft_model.restoring.job_runner import EXPECTED_ERRORS
from c2fdft_model.restoring.restorer import Restorer

LARGEST_PREVIEW = 1600
"""Pixels of the longer side of what the page shows; the file has all of them."""


class PageError(C2FDFTError, ValueError):
    """An upload cannot be restored; the message is for the person at the page."""


@dataclass(frozen=True)
class PageModel:
    """A network, the settings it is sampled with, and the name that the page shows."""

    name: str
    network: nn.Module
    diffusion: DiffusionOptions

    @property
    def calls(self) -> int:
        """Network calls for an image, where nobody asks for another number."""
        return len(build_process(self.diffusion).timesteps)

    def restorer(self, calls: int, seed: int) -> Restorer:
        """Restores with another number of network calls, and with noise of this seed."""
        diffusion = self.diffusion
        if calls != self.calls:
            diffusion = diffusion.model_copy(update={'sampling_timesteps': calls})
        return Restorer(self.network, build_process(diffusion), seed)


@dataclass(frozen=True)
class Restored:
    """A restored file, and what the page shows of it."""

    file: Path
    before: np.ndarray
    """(H, W, 3) uint8 RGB, at most `LARGEST_PREVIEW` a side."""
    after: np.ndarray
    lost: Sequence[str]
    """What the upload held beside the image and the file could not keep."""


def restore_upload(
    upload: Path,
    folder: Path,
    restorer: Restorer,
    step: Callable[[], object],
    megapixels: float,
) -> Restored:
    """Restore an uploaded file into `folder`; the result is that of `c2fdft restore`, byte by byte.

    The file's name seeds the noise, and its ending says the format. Raises PageError for what is no
    image, has more than `megapixels` million pixels, or needs more memory than there is.
    """
    name = upload.name
    if not is_image_name(upload):
        raise PageError(f'{name}: the name ends like no image; read are {" ".join(FORMATS)}.')
    target = folder / f'{upload.stem}_restored{upload.suffix}'
    try:
        _check_size(upload, megapixels)
        degraded = read_image(upload)
        restored = restorer(degraded, upload.stem, step)
        lost = write_image(target, restored)
    except PageError:
        raise
    except EXPECTED_ERRORS as error:
        told = one_line(error).replace(str(upload), name).replace(str(target), name)
        raise PageError(told if name in told else f'{name}: {told}') from error
    return Restored(target, _preview(degraded.colour), _preview(restored.colour), lost)


def _check_size(upload: Path, megapixels: float) -> None:
    """Refuse what is too large before it is decoded."""
    height, width = image_size(upload)
    if width * height > megapixels * 1e6:
        limit = f'the page takes {megapixels:g} megapixels, c2fdft restore any size'
        raise PageError(f'{upload.name} has {width} x {height} pixels: {limit}.')


def _preview(colour: np.ndarray) -> np.ndarray:
    height, width = colour.shape[:2]
    scale = LARGEST_PREVIEW / max(height, width)
    if scale < 1:
        size = max(1, round(width * scale)), max(1, round(height * scale))
        colour = cv2.resize(colour, size, interpolation=cv2.INTER_AREA)
    return np.rint(np.clip(colour, 0, 1) * 255).astype(np.uint8)
