"""Denoising the MATLAB files of SIDD and DND, so that an interrupted run can be continued."""

import itertools
import json
import time
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from c2fdft_arch.common.atomic_write import remove_leftovers, replacing, write_bytes
from c2fdft_model.data import mat_files
from c2fdft_model.diffusion.process import DiffusionProcess
from c2fdft_model.evaluation.problems import Problem
from c2fdft_model.images.image_files import ImageRecord, write_image
from c2fdft_model.restoring.restoration import restore


@dataclass(frozen=True)
class MatDenoiser:
    """Denoises the images of a benchmark into the folder `output`.

    What is there already is not denoised again.
    """

    network: nn.Module
    process: DiffusionProcess
    output: Path
    seed: int = 0
    precision: str = 'auto'
    batch: int = 1
    """Images of one size that are denoised at a time."""
    save_images: bool = False
    """Write every image to png/ below `output`, too."""

    def claim_output(self, settings: Mapping[str, Any]) -> None:
        """Write the settings into the output folder.

        Raises ValueError if it holds results with other settings.
        """
        self.output.mkdir(parents=True, exist_ok=True)
        remove_leftovers(self.output)
        path = self.output / 'settings.json'
        if path.exists():
            before = _read_settings(path)
            if other := [key for key, value in settings.items() if before.get(key) != value]:
                raise ValueError(
                    f'{self.output} holds results with other {", ".join(other)}: give another '
                    '--output.'
                )
        write_bytes(path, (json.dumps(settings, indent=1) + '\n').encode())

    def denoise_sidd(self, noisy: np.ndarray, name: str) -> tuple[np.ndarray, float]:
        """Denoise SIDD's blocks (scenes, blocks, H, W, 3), uint8 or floating point in [0, 1].

        Returns them as float32 in [0, 1], and the seconds. Until all are there, each scene is kept
        in a file of the folder `<name>.parts`. Raises MatFileError for other values.
        """
        scenes, blocks = noisy.shape[:2]
        folder = self.output / f'{name}.parts'
        folder.mkdir(exist_ok=True)
        remove_leftovers(folder)
        parts = [folder / f'{i:04d}.npz' for i in range(1, scenes + 1)]
        with tqdm(total=scenes * blocks, desc=name, unit='block', disable=None) as bar:
            for part, scene in zip(parts, noisy, strict=True):
                if _read_part(part, scene.shape) is not None:
                    bar.update(blocks)
                    continue
                started = time.perf_counter()
                images = list(mat_files.as_unit_range(scene, name))
                denoised = self._denoise(images, part.stem, bar.update)
                with replacing(part) as temporary:
                    seconds = time.perf_counter() - started
                    np.savez(temporary, blocks=np.stack(denoised), seconds=seconds)
                self._save_images(denoised, part.stem)
        result, seconds = np.empty(noisy.shape, np.float32), 0.0
        for i, part in enumerate(parts):
            content = _read_part(part, result[i].shape)
            if content is None:
                raise OSError(f'{part} is damaged: run the same command again.')
            result[i] = content[0]
            seconds += content[1]
        return result, seconds

    def denoise_dnd(self, source: Path, all_boxes: Sequence[np.ndarray]) -> list[Problem]:
        """Denoise the boxes of DND's images in `source`, and write one file for each image.

        Returns the images that could not be read.
        """
        problems = []
        total = sum(len(boxes) for boxes in all_boxes)
        with tqdm(total=total, desc='dnd', unit='box', disable=None) as bar:
            for i, boxes in enumerate(all_boxes, 1):
                target = self.output / f'{i:04d}.mat'
                if target.exists():
                    bar.update(len(boxes))
                    continue
                try:
                    patches = noisy_patches(source / target.name, boxes)
                except (ValueError, OSError) as error:
                    kind = getattr(error, 'kind', 'unreadable')
                    problems.append(Problem(kind, target.stem, str(error)))
                    bar.update(len(boxes))
                    continue
                denoised = self._denoise(patches, target.stem, bar.update)
                with replacing(target) as temporary:
                    mat_files.write_dnd_image(temporary, denoised)
                self._save_images(denoised, target.stem)
        return problems

    def _denoise(
        self, images: Sequence[np.ndarray], name: str, advance: Callable[[int], object]
    ) -> list[np.ndarray]:
        """Denoise images (H, W, 3) in [0, 1] in their order; their noise is of their name."""
        denoised: list[np.ndarray] = []
        for _, same_size in itertools.groupby(images, key=np.shape):
            run = list(same_size)
            for start in range(0, len(run), self.batch):
                batch = run[start : start + self.batch]
                names = [_numbered(name, len(denoised) + k) for k in range(len(batch))]
                restored = restore(
                    self.network,
                    torch.from_numpy(np.stack(batch)).permute(0, 3, 1, 2),
                    process=self.process,
                    noise_name=names,
                    seed=self.seed,
                    precision=self.precision,
                )
                denoised.extend(restored.permute(0, 2, 3, 1).numpy())
                advance(len(batch))
        return denoised

    def _save_images(self, images: Sequence[np.ndarray], name: str) -> None:
        if self.save_images:
            for k, image in enumerate(images):
                write_image(self.output / 'png' / f'{_numbered(name, k)}.png', ImageRecord(image))


def _read_part(path: Path, shape: tuple[int, ...]) -> tuple[np.ndarray, float] | None:
    """The denoised blocks of a scene, and the seconds; None if they are not there, or not whole."""
    try:
        with np.load(path) as content:
            blocks, seconds = content['blocks'], float(content['seconds'])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    return (blocks, seconds) if blocks.shape == shape else None


def noisy_patches(path: Path, boxes: np.ndarray) -> list[np.ndarray]:
    """The parts (H, W, 3) of one of DND's images in its boxes, float32 in [0, 1].

    Raises MatFileError, or OSError for a file that cannot be opened.
    """
    stored = mat_files.read_array(path, 'InoisySRGB', (None, None, 3))
    image = mat_files.as_unit_range(stored, path)
    for k, (top, left, bottom, right) in enumerate(boxes, 1):
        if min(top, left) < 1 or bottom > image.shape[0] or right > image.shape[1]:
            raise mat_files.MatFileError(
                f'{path}: box {k} of info.mat ({top}, {left}, {bottom}, {right}) leaves the image '
                f'of {image.shape[0]} x {image.shape[1]}.'
            )
    return [mat_files.crop(image, box) for box in boxes]


def _read_settings(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding='utf-8')))
    except (ValueError, TypeError) as error:
        raise ValueError(f'{path} is damaged ({error}): give another --output.') from error


def _numbered(name: str, index: int) -> str:
    return f'{name}_{index + 1:02d}'
