"""Photographs, their degraded versions, and batches that depend on the seed and iteration alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from demo.photos import photo_folder
from torch import Tensor

from c2fdft_model.data.patch_cycle import Phase
from c2fdft_model.images.image_io import IMAGE_SUFFIXES
from replication.degradations import DEGRADATIONS

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


@dataclass(frozen=True)
class Photographs:
    """File paths of the photographs to train on and of those to test on."""

    training: tuple[Path, ...]
    held_out: tuple[Path, ...]


@dataclass(frozen=True)
class TestImage:
    """A part of a photograph that is not trained on, both versions (H, W, 3) uint8, RGB."""

    __test__ = False

    name: str
    degraded: np.ndarray
    clean: np.ndarray


def find_photographs(folder: Path | None) -> Photographs:
    """The photographs of scikit-image, or those of a folder, every fourth of them held out.

    Raises ValueError for a folder with fewer than two.
    """
    if folder is None:
        own = photo_folder()
        return Photographs(
            tuple(own / name for name in TRAIN_PHOTOS),
            tuple(own / name for name in HELD_OUT_PHOTOS),
        )
    paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES)
    if len(paths) < 2:
        raise ValueError(f'{folder} has {len(paths)} photographs: two or more are needed.')
    held_out = paths[1::EVERY_NTH_IS_HELD_OUT]
    return Photographs(tuple(p for p in paths if p not in held_out), tuple(held_out))


def read(path: Path) -> np.ndarray:
    """A photograph as (H, W, 3) uint8, RGB. Raises ValueError if it cannot be read."""
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise ValueError(f'{path} is not a readable photograph.')
    return np.ascontiguousarray(image[..., ::-1])


class TrainingPairs:
    """Photographs with several degraded versions each, cropped at random into batches."""

    def __init__(self, task: str, paths: tuple[Path, ...], largest_patch: int) -> None:
        self.pairs = []
        for number, path in enumerate(paths):
            clean = read(path)
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


def test_images(task: str, paths: tuple[Path, ...]) -> list[TestImage]:
    """Parts of the held-out photographs, the photographs degraded as a whole."""
    images = []
    for number, path in enumerate(paths):
        clean = read(path)
        degraded = DEGRADATIONS[task](clean, np.random.default_rng((2, number)))
        for k, (top, left) in enumerate(_corners(clean.shape[:2])):
            part = np.s_[top : top + CROP, left : left + CROP]
            images.append(TestImage(f'{path.stem}_{k}', degraded[part], clean[part]))
    return images


test_images.__test__ = False  # type: ignore[attr-defined]


def _corners(shape: tuple[int, ...]) -> list[tuple[int, int]]:
    """Top left corners of the parts: spread over the picture's middle, clear of its corners."""
    rows, columns = (
        [round(place * max(side - CROP, 0)) for place in (0.25, 0.75)] for side in shape
    )
    return [(row, column) for row in rows for column in columns][:CROPS_PER_PHOTO]
