"""Photographs, their degraded versions, and batches that depend on the seed and iteration alone."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from c2fdft_model.data.patch_cycle import Phase
from c2fdft_model.images.image_io import IMAGE_SUFFIXES
from common.degradations import DEGRADATIONS
from common.photographs import photo_folder, read_photo

# Of scikit-image; the right-hand motorcycle would be all but a copy of the left one.
TRAIN_PHOTOS = (
    'astronaut.png',
    'coffee.png',
    'motorcycle_left.png',
    'brick.png',
    'grass.png',
    'gravel.png',
)
HELD_OUT_PHOTOS = ('rocket.jpg', 'chelsea.png', 'camera.png')
RENDERINGS = 4
CROP = 160
CROPS_PER_PHOTO = 4
EVERY_NTH_IS_HELD_OUT = 4


HeldOutImage = tuple[str, np.ndarray, np.ndarray]
"""Name, degraded and clean version of a part of a photograph, both (H, W, 3) uint8, RGB."""


def find_photographs(folder: str | None) -> tuple[list[Path], list[Path]]:
    """Photographs to train on and to hold out: of scikit-image, or of a folder every fourth.

    Raises ValueError for a folder with fewer than two.
    """
    if folder is None:
        own = photo_folder()
        return [own / name for name in TRAIN_PHOTOS], [own / name for name in HELD_OUT_PHOTOS]
    paths = sorted(p for p in Path(folder).iterdir() if p.suffix.lower() in IMAGE_SUFFIXES)
    if len(paths) < 2:
        raise ValueError(f'{folder} has {len(paths)} photographs: two or more are needed.')
    held_out = paths[1::EVERY_NTH_IS_HELD_OUT]
    return [p for p in paths if p not in held_out], held_out


class TrainingPairs:
    """Photographs with several degraded versions each, cropped at random into batches."""

    def __init__(self, task: str, paths: Sequence[Path], largest_patch: int) -> None:
        self.pairs = []
        for number, path in enumerate(paths):
            clean = read_photo(path)[..., ::-1]
            if min(clean.shape[:2]) < largest_patch:
                raise ValueError(f'{path} is smaller than a patch of {largest_patch} pixels.')
            for rendering in range(RENDERINGS):
                rng = np.random.default_rng((0, number, rendering))
                self.pairs.append((DEGRADATIONS[task](clean, rng), clean))

    def batch(self, seed: int, iteration: int, phase: Phase) -> tuple[Tensor, Tensor]:
        """Degraded and clean patches (B, 3, p, p) in [0, 1], flipped and turned alike."""
        rng = np.random.default_rng((1, seed, iteration))
        size = phase.patch_size
        stacks: tuple[list, list] = ([], [])
        for _ in range(phase.batch_size):
            images = self.pairs[rng.integers(len(self.pairs))]
            height, width = images[0].shape[:2]
            top, left = rng.integers(height - size + 1), rng.integers(width - size + 1)
            turns, mirrored = rng.integers(4), rng.integers(2)
            for stack, image in zip(stacks, images, strict=True):
                patch = np.rot90(image[top : top + size, left : left + size], int(turns))
                stack.append(patch[:, ::-1] if mirrored else patch)
        lq, gt = (torch.from_numpy(np.stack(s)).permute(0, 3, 1, 2).float() / 255 for s in stacks)
        return lq, gt


def held_out_images(task: str, paths: Sequence[Path]) -> list[HeldOutImage]:
    """Parts of the held-out photographs, the photographs degraded as a whole."""
    images = []
    for number, path in enumerate(paths):
        clean = read_photo(path)[..., ::-1]
        degraded = DEGRADATIONS[task](clean, np.random.default_rng((2, number)))
        for k, (top, left) in enumerate(_corners(clean.shape[:2])):
            part = np.s_[top : top + CROP, left : left + CROP]
            images.append((f'{path.stem}_{k}', degraded[part], clean[part]))
    return images


def _corners(shape: tuple[int, ...]) -> list[tuple[int, int]]:
    """Top left corners of the parts: spread over the picture's middle, clear of its corners."""
    rows, columns = (
        [round(place * max(side - CROP, 0)) for place in (0.25, 0.75)] for side in shape
    )
    return [(row, column) for row in rows for column in columns][:CROPS_PER_PHOTO]
