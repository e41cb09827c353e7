"""The pairs that the models which ship are trained and measured with, as folders of PNG files."""

from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np

from c2fdft_model.experiments.images import write_png
from common.degradations import motion_kernel
from common.rain import RainRange, add_rain
from zoo.camera import camera_pair
from zoo.photographs import HELD_OUT, TRAINING, Photograph

Pair = tuple[np.ndarray, np.ndarray]
"""Degraded and clean, both (H, W, 3) uint8, BGR."""

TILE = 192
MAX_TILES = 24
"""Of a photograph and rendering, the ones with most detail."""
HELD_OUT_SIDE = 512
RAIN = RainRange(layers=(1, 3), density=(0.0005, 0.004), length=(8.0, 40.0), brightness=(0.2, 0.9))
BLUR_LENGTH = (5, 21)
BLUR_NOISE = (0.0, 0.01)


def rain_pair(clean: np.ndarray, rng: np.random.Generator) -> Pair:
    """Light to heavy rain."""
    return add_rain(clean, rng, RAIN), clean


def blur_pair(clean: np.ndarray, rng: np.random.Generator) -> Pair:
    """Camera shake of 5 to 21 pixels along a curved path, with a little noise."""
    return blurred_with(clean, motion_kernel(rng.uniform(*BLUR_LENGTH), rng), rng), clean


def blurred_with(clean: np.ndarray, kernel: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    blurred = cv2.filter2D(clean.astype(np.float32), -1, kernel, borderType=cv2.BORDER_REFLECT)
    noise = 255 * rng.uniform(*BLUR_NOISE) * rng.standard_normal(clean.shape, np.float32)
    return np.round(np.clip(blurred + noise, 0, 255)).astype(np.uint8)


TASKS: dict[str, Callable[[np.ndarray, np.random.Generator], Pair]] = {
    'denoise': camera_pair,
    'derain': rain_pair,
    'deblur': blur_pair,
}


def write_training_pairs(task: str, packages: Path, folder: Path, renderings: int) -> int:
    """Write tiles into `folder`/input and `folder`/target; returns how many.

    `renderings`: degraded versions of each photograph.
    """
    count = 0
    for number, photograph in enumerate(TRAINING):
        for rendering in range(renderings):
            clean = variant(photograph.read(packages), rendering)
            rng = np.random.default_rng((number, rendering, [*TASKS].index(task)))
            degraded, clean = TASKS[task](clean, rng)
            for top, left in detailed_tiles(clean):
                area = np.s_[top : top + TILE, left : left + TILE]
                name = f'{photograph.name}_{rendering}_{top}_{left}.png'
                write_png(folder / 'input' / name, degraded[area])
                write_png(folder / 'target' / name, clean[area])
                count += 1
    return count


def variant(image: np.ndarray, rendering: int) -> np.ndarray:
    """The photograph for a rendering: every second one at a smaller size, with even sides."""
    scale = (1.0, 0.6)[rendering % 2]
    if scale < 1:
        image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return image[: image.shape[0] // 2 * 2, : image.shape[1] // 2 * 2]


def detailed_tiles(clean: np.ndarray) -> list[tuple[int, int]]:
    """Top left corners of the tiles of an image with most detail; skies teach little."""
    height, width = clean.shape[:2]
    grey = cv2.cvtColor(clean, cv2.COLOR_BGR2GRAY).astype(np.float32)
    detail = np.abs(cv2.Laplacian(grey, cv2.CV_32F))
    corners = [
        (top, left)
        for top in range(0, height - TILE + 1, TILE)
        for left in range(0, width - TILE + 1, TILE)
    ]
    corners.sort(key=lambda c: -detail[c[0] : c[0] + TILE, c[1] : c[1] + TILE].mean())
    return corners[:MAX_TILES]


def held_out_pairs(task: str, packages: Path) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Name, degraded and clean version of the middle of each held-out photograph."""
    for number, photograph in enumerate(HELD_OUT):
        clean = middle(photograph, packages)
        degraded, clean = TASKS[task](clean, held_out_rng(task, number))
        yield photograph.name, degraded, clean


def held_out_rng(task: str, number: int) -> np.random.Generator:
    return np.random.default_rng((1000 + number, [*TASKS].index(task)))


def middle(photograph: Photograph, packages: Path) -> np.ndarray:
    """At most `HELD_OUT_SIDE` pixels square."""
    image = photograph.read(packages)
    top, left = (max(side - HELD_OUT_SIDE, 0) // 2 for side in image.shape[:2])
    image = image[top : top + HELD_OUT_SIDE, left : left + HELD_OUT_SIDE]
    return image[: image.shape[0] // 2 * 2, : image.shape[1] // 2 * 2]


def write_held_out_pairs(task: str, packages: Path, folder: Path) -> int:
    """Write the pairs into `folder`/input and `folder`/target; returns how many."""
    count = 0
    for name, degraded, clean in held_out_pairs(task, packages):
        write_png(folder / 'input' / f'{name}.png', degraded)
        write_png(folder / 'target' / f'{name}.png', clean)
        count += 1
    return count
