"""The work of the protocols that live in MATLAB files: SIDD's validation blocks and submissions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from c2fdft_model.data import mat_files
from c2fdft_model.evaluation.evaluation_set import EvaluationSet
from c2fdft_model.evaluation.problems import ItemError, Problem, SizeError

RESULT_VARIABLES = ('Idenoised', 'DenoisedBlocksSrgb')
RESULT_FILE = 'Idenoised.mat'
TRUTH_VARIABLE = 'ValidationGtBlocksSrgb'
BENCHMARK_VARIABLE = 'BenchmarkNoisyBlocksSrgb'


@dataclass(frozen=True)
class BlockPair:
    """One denoised block and its truth, as the arrays hold them."""

    name: str
    result: np.ndarray
    truth: np.ndarray

    def load(self) -> tuple[np.ndarray, np.ndarray]:
        """Both blocks as float32 RGB (H, W, 3) in [0, 1]; ItemError for values not finite."""
        result, truth = (mat_files.as_unit_range(b, self.name) for b in (self.result, self.truth))
        if not np.isfinite(result).all():
            raise ItemError('the result has values that are not finite')
        return result, truth


@dataclass(frozen=True)
class BundleImage:
    """One image of a DND submission and the boxes that it must fill."""

    name: str
    path: Path
    boxes: np.ndarray

    def load(self) -> tuple[list[np.ndarray], np.ndarray]:
        """The denoised boxes and the bounding boxes."""
        if not self.path.is_file():
            raise ItemError(f'{self.path} is missing')
        return mat_files.read_dnd_image(self.path), self.boxes


def validation_blocks(results: Path, truth: Path, suffix: str | None = None) -> EvaluationSet:
    """Pairs the blocks of a denoised array with those of `ValidationGtBlocksSrgb.mat`."""
    denoised = mat_files.read_sidd_blocks(_inside(results, RESULT_FILE), RESULT_VARIABLES)
    clean = mat_files.read_sidd_blocks(_inside(truth, f'{TRUTH_VARIABLE}.mat'), TRUTH_VARIABLE)
    if denoised.shape != clean.shape:
        raise SizeError(f'the results are {_times(denoised)}, the ground truth is {_times(clean)}')
    notes = []
    if clean.shape != mat_files.SIDD_BLOCKS:
        notes.append(f'{_times(clean)} is not the whole validation set of SIDD: do not compare.')
    scenes, blocks = clean.shape[:2]

    def items() -> Iterator[BlockPair]:
        for i in range(scenes):
            for k in range(blocks):
                yield BlockPair(f'{i + 1:04d}_{k + 1:02d}', denoised[i, k], clean[i, k])

    return EvaluationSet(scenes * blocks, items, [], notes)


def dnd_submission(results: Path, truth: Path, suffix: str | None = None) -> EvaluationSet:
    """The images of a DND submission, with the boxes of `info.mat`."""
    boxes = mat_files.read_dnd_boxes(_inside(truth, 'info.mat'))
    if not results.is_dir():
        raise FileNotFoundError(f'{results} is not a folder.')
    names = [f'{i + 1:04d}' for i in range(len(boxes))]
    problems = [
        Problem('unpaired', path.name, 'not an image of DND: the server wants 0001.mat … 0050.mat')
        for path in sorted(results.glob('*.mat'))
        if path.stem not in names
    ]
    notes = []
    if len(boxes) != mat_files.DND_IMAGES:
        notes.append(f'{len(boxes)} images are not the {mat_files.DND_IMAGES} of DND.')
    images = [BundleImage(n, results / f'{n}.mat', b) for n, b in zip(names, boxes, strict=True)]
    return EvaluationSet(len(images), lambda: iter(images), problems, notes)


def sidd_submission(results: Path, truth: Path, suffix: str | None = None) -> EvaluationSet:
    """The blocks of a SIDD submission, with the noisy ones of `BenchmarkNoisyBlocksSrgb.mat`."""
    path = _inside(results, mat_files.SIDD_MAT_NAME)
    submitted = mat_files.read_sidd_blocks(path, 'DenoisedBlocksSrgb')
    noisy = mat_files.read_sidd_blocks(
        _inside(truth, f'{BENCHMARK_VARIABLE}.mat'), BENCHMARK_VARIABLE
    )
    if submitted.dtype != np.uint8:
        raise mat_files.MatFileError(f'{path}: the blocks are {submitted.dtype}, not uint8.')
    if submitted.shape != noisy.shape:
        raise SizeError(f'the results are {_times(submitted)}, the noisy blocks {_times(noisy)}')
    in_csv = mat_files.read_sidd_csv(path.with_name(mat_files.SIDD_CSV_NAME), noisy.shape[2:])
    flat = submitted.reshape(-1, *submitted.shape[2:])
    if len(in_csv) != len(flat):
        raise mat_files.MatFileError(f'{mat_files.SIDD_CSV_NAME}: {len(in_csv)} blocks.')
    notes = []
    if noisy.shape != mat_files.SIDD_BLOCKS:
        notes.append(f'{_times(noisy)} is not the benchmark of SIDD.')

    def items() -> Iterator[BlockPair]:
        for i, block in enumerate(flat):
            yield BlockPair(f'block {i}', block, in_csv[i])

    return EvaluationSet(len(flat), items, [], notes)


def check_dnd_image(patches: list[np.ndarray], boxes: np.ndarray) -> dict[str, float]:
    """Raises ItemError unless the patches fill the boxes with finite values in [0, 1]."""
    if len(patches) != len(boxes):
        raise SizeError(f'`Idenoised` has {len(patches)} cells for {len(boxes)} boxes')
    for k, (patch, box) in enumerate(zip(patches, boxes, strict=True), 1):
        size = (box[2] - box[0] + 1, box[3] - box[1] + 1, 3)
        if patch.shape != size:
            raise SizeError(
                f'box {k} has the shape {patch.shape}, {tuple(map(int, size))} is wanted'
            )
        if not np.isfinite(patch).all() or patch.min() < 0 or patch.max() > 1:
            raise ItemError(f'box {k} has values outside [0, 1]')
    return {}


def check_sidd_block(block: np.ndarray, in_csv: np.ndarray) -> dict[str, float]:
    """Raises ItemError unless the .mat and the .csv of a submission hold the same block."""
    if not np.array_equal(block, in_csv):
        raise ItemError(f'{mat_files.SIDD_CSV_NAME} holds another block')
    return {}


def _inside(path: Path, name: str) -> Path:
    path = path / name if path.is_dir() else path
    if not path.is_file():
        raise FileNotFoundError(f'{path} does not exist.')
    return path


def _times(array: np.ndarray) -> str:
    return ' x '.join(str(size) for size in array.shape)
