"""What the protocols of MATLAB files compare: SIDD's validation blocks and the submissions."""

from functools import partial
from pathlib import Path

import numpy as np

from c2fdft_model.data import mat_files
from c2fdft_model.data.image_listing import find_file, list_files
from c2fdft_model.evaluation.evaluation_set import EvaluationSet, Item
from c2fdft_model.evaluation.problems import ItemError, Problem, SizeError

RESULT_VARIABLES = ('Idenoised', 'DenoisedBlocksSrgb')
RESULT_FILE = 'Idenoised.mat'
GT_VARIABLE = 'ValidationGtBlocksSrgb'
BENCHMARK_VARIABLE = 'BenchmarkNoisyBlocksSrgb'


def validation_blocks(results: Path, gt: Path) -> EvaluationSet:
    """Pair the blocks of a denoised array with those of `ValidationGtBlocksSrgb.mat`."""
    denoised = mat_files.read_sidd_blocks(find_file(results, RESULT_FILE), RESULT_VARIABLES)
    clean = mat_files.read_sidd_blocks(find_file(gt, f'{GT_VARIABLE}.mat'), GT_VARIABLE)
    if denoised.shape != clean.shape:
        raise SizeError(f'the results are {_times(denoised)}, the ground truth is {_times(clean)}')

    items: list[Item] = [
        (f'{i + 1:04d}_{k + 1:02d}', partial(_load_blocks, denoised[i, k], clean[i, k]))
        for i, k in np.ndindex(clean.shape[:2])
    ]
    note = f'{_times(clean)} is not the whole validation set of SIDD: do not compare.'
    notes = [] if clean.shape == mat_files.SIDD_BLOCKS else [note]
    return EvaluationSet(items, notes=notes)


def dnd_submission(results: Path, info: Path) -> EvaluationSet:
    """The images of a DND submission, with the boxes of `info.mat`."""
    boxes = mat_files.read_dnd_boxes(find_file(info, 'info.mat'))
    if not results.is_dir():
        raise FileNotFoundError(f'{results} is not a folder.')
    images = {f'{i:04d}': image_boxes for i, image_boxes in enumerate(boxes, 1)}
    problems = [
        Problem('unpaired', path.name, 'not an image of DND: the server wants 0001.mat … 0050.mat')
        for path in map(Path, sorted(list_files(results)))
        if path.match('*.mat') and path.stem not in images
    ]
    note = f'{len(boxes)} images are not the {mat_files.DND_IMAGES} of DND.'
    notes = [] if len(boxes) == mat_files.DND_IMAGES else [note]
    items: list[Item] = [
        (name, partial(_load_dnd_image, results / f'{name}.mat', image_boxes))
        for name, image_boxes in images.items()
    ]
    return EvaluationSet(items, problems, notes)


def sidd_submission(results: Path, noisy_file: Path) -> EvaluationSet:
    """The blocks of a SIDD submission, in its two files.

    They have the shape of the noisy blocks in `BenchmarkNoisyBlocksSrgb.mat`.
    """
    path = find_file(results, mat_files.SIDD_MAT_NAME)
    submitted = mat_files.read_sidd_blocks(path, 'DenoisedBlocksSrgb')
    noisy_file = find_file(noisy_file, f'{BENCHMARK_VARIABLE}.mat')
    noisy = mat_files.read_sidd_blocks(noisy_file, BENCHMARK_VARIABLE)
    if submitted.dtype != np.uint8:
        raise mat_files.MatFileError(f'{path}: the blocks are {submitted.dtype}, not uint8.')
    if submitted.shape != noisy.shape:
        raise SizeError(f'the results are {_times(submitted)}, the noisy blocks {_times(noisy)}')
    in_csv = mat_files.read_sidd_csv(path.with_name(mat_files.SIDD_CSV_NAME), noisy.shape[2:])
    indices = list(np.ndindex(noisy.shape[:2]))
    if len(in_csv) != len(indices):
        raise mat_files.MatFileError(f'{mat_files.SIDD_CSV_NAME}: {len(in_csv)} blocks.')
    items: list[Item] = [
        (f'block {n}', partial(_load_blocks, submitted[index], in_csv[n]))
        for n, index in enumerate(indices)
    ]
    note = f'{_times(noisy)} is not the benchmark of SIDD.'
    notes = [] if noisy.shape == mat_files.SIDD_BLOCKS else [note]
    return EvaluationSet(items, notes=notes)


def check_dnd_image(patches: list[np.ndarray], boxes: np.ndarray) -> dict[str, float]:
    """Raise ItemError unless the patches fill the boxes with finite values in [0, 1]."""
    if len(patches) != len(boxes):
        raise SizeError(f'`Idenoised` has {len(patches)} cells for {len(boxes)} boxes')
    for k, (patch, box) in enumerate(zip(patches, boxes, strict=True), 1):
        size = (box[2] - box[0] + 1, box[3] - box[1] + 1, 3)
        if patch.shape != size:
            raise SizeError(
                f'box {k} has the shape {patch.shape}, {tuple(map(int, size))} is expected'
            )
        if not np.isfinite(patch).all() or patch.min() < 0 or patch.max() > 1:
            raise ItemError(f'box {k} has values outside [0, 1]')
    return {}


def check_sidd_block(block: np.ndarray, in_csv: np.ndarray) -> dict[str, float]:
    """Raise ItemError unless the .mat and the .csv of a submission hold the same block."""
    if not np.array_equal(block, in_csv):
        raise ItemError(f'{mat_files.SIDD_CSV_NAME} holds another block')
    return {}


def _load_blocks(result: np.ndarray, gt: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both blocks as float32 RGB (H, W, 3) in [0, 1]. Raises ItemError for NaN or infinity."""
    result, gt = mat_files.as_unit_range(result), mat_files.as_unit_range(gt)
    if not np.isfinite(result).all():
        raise ItemError('the result has values that are not finite')
    return result, gt


def _load_dnd_image(path: Path, boxes: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
    """The denoised patches and the boxes (20, 4) that they must fill."""
    if not path.is_file():
        raise ItemError(f'{path} is missing')
    return mat_files.read_dnd_image(path), boxes


def _times(array: np.ndarray) -> str:
    return ' x '.join(str(size) for size in array.shape)
