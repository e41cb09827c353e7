"""Pairs of images that say in their pixels who they are and where each pixel lies.

Of the clean image red is the row, green the column, blue the image's number; the degraded image is
its negative. A patch therefore tells from which image, box and orientation it was cut.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from c2fdft_model.data.sample_stream import Crop
from c2fdft_model.data.training_clock import training_clock


def pattern(number: int, height: int, width: int) -> np.ndarray:
    """Clean image `number`, (H, W, 3) RGB uint8."""
    rows, columns = np.mgrid[:height, :width].astype(np.uint8)
    return np.dstack([rows, columns, np.full_like(rows, number)])


def write_rgb(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.ascontiguousarray(image[..., ::-1]))


def encode_png(image: np.ndarray, level: int = 1) -> bytes:
    """A PNG file of an RGB image (H, W, 3), uint8 or uint16, as OpenCV writes it."""
    parameters = [cv2.IMWRITE_PNG_COMPRESSION, level]
    done, data = cv2.imencode('.png', np.ascontiguousarray(image[..., ::-1]), parameters)
    assert done
    return data.tobytes()


def write_noise_folders(root: Path, height: int) -> Path:
    """Three images of noise of odd sizes in each of `input` and `target`; returns `root`."""
    rng = np.random.default_rng(0)
    for side in ('input', 'target'):
        for number in range(3):
            image = rng.integers(0, 256, (height + number, 45, 3), dtype=np.uint8)
            write_rgb(root / side / f'{number}.png', image)
    return root


def write_folders(root: Path, count: int, height: int = 40, width: int = 56) -> dict[str, str]:
    """`count` pairs as PNG files; returns `dataroot_lq` and `dataroot_gt`."""
    for number in range(count):
        clean = pattern(number, height + number, width)
        write_rgb(root / 'gt' / f'{number:03d}.png', clean)
        write_rgb(root / 'lq' / f'{number:03d}.png', 255 - clean)
    return {'dataroot_lq': str(root / 'lq'), 'dataroot_gt': str(root / 'gt')}


def dataset_opt(folders: dict[str, str], **changes: Any) -> dict[str, Any]:
    """A training section over folders: three phases of 2, 3 and 2 iterations."""
    opt = {
        'name': 'patterns',
        'type': 'PatchCyclePairedDataset',
        'phase': 'train',
        'scale': 1,
        'io_backend': {'type': 'disk'},
        'gt_sizes': [8, 16, 32],
        'mini_batch_sizes': [6, 4, 2],
        'iters': [2, 3, 2],
        'batch_size_per_gpu': 6,
        'num_worker_per_gpu': 0,
        'dataset_enlarge_ratio': 1,
        'prefetch_mode': None,
    }
    return {**opt, **folders, **changes}


def training_opt(
    dataset: dict[str, Any], rank: int = 0, world_size: int = 1, **changes: Any
) -> dict[str, Any]:
    """The whole option file around a training section."""
    opt = {
        'name': 'patterns',
        'is_train': True,
        'manual_seed': 10,
        'rank': rank,
        'world_size': world_size,
        'dist': world_size > 1,
        'num_gpu': 0,
        'datasets': {'train': dataset},
        'train': {'total_iter': 1000},
    }
    return {**opt, **changes}


def begin(opt: dict[str, Any], iteration: int = 0) -> None:
    """Announce the training as the model does, then a resume."""
    training_clock.start(opt)
    if iteration:
        training_clock.resumed(iteration)


@dataclasses.dataclass(frozen=True)
class Patch:
    """What a patch of a pattern says about itself."""

    path: str
    image: int
    top: int
    left: int
    orientation: int


def describe(batch: dict[str, Any]) -> list[Patch]:
    """Image, box and orientation of every patch of a batch, read from its pixels.

    Fails if a degraded patch is not the negative of its clean one.
    """
    torch.testing.assert_close(batch['lq'], 1 - batch['gt'], rtol=0, atol=1e-6)
    patches = []
    for path, clean in zip(batch['gt_path'], batch['gt'], strict=True):
        values = (clean.permute(1, 2, 0).numpy() * 255).round().astype(int)
        top, left, number = values.reshape(-1, 3).min(axis=0)
        assert (values[..., 2] == number).all()
        upright = pattern(number, top + len(values), left + len(values))[top:, left:]
        fitting = [o for o in range(8) if np.array_equal(Crop(0, 0, o).orient(upright), values)]
        assert len(fitting) == 1
        patches.append(Patch(path, int(number), int(top), int(left), fitting[0]))
    return patches
