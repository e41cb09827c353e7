"""Which file of a results folder belongs to which file of a ground-truth folder."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from c2fdft_model.evaluation.problems import Problem, ReadError, SizeError
from c2fdft_model.images import image_io

IMAGE_SUFFIXES = {'.png', '.jpg', '.jpeg', '.bmp', '.tif', '.tiff', '.webp'}


@dataclass(frozen=True)
class ImagePair:
    """Two image files under the name of the ground truth."""

    name: str
    result: Path
    truth: Path

    def load(self) -> tuple[np.ndarray, np.ndarray]:
        """Both images as uint8 RGB (H, W, 3); ReadError or SizeError if that is not possible."""
        result, truth = read_rgb(self.result), read_rgb(self.truth)
        if result.shape != truth.shape:
            raise SizeError(
                f'{self.result.name} is {_size(result)}, {self.truth.name} is {_size(truth)}'
            )
        return result, truth


def read_rgb(path: Path) -> np.ndarray:
    """Reads an image as uint8 RGB (H, W, 3); 16 bits are rounded to 8. Raises ReadError."""
    try:
        image = image_io.read_rgb(path)
    except image_io.ImageReadError as error:
        raise ReadError(str(error)) from error
    return image if image.dtype == np.uint8 else np.round(image / 257).astype(np.uint8)


def find_pairs(
    results: Path, truths: Path, suffix: str | None = None
) -> tuple[list[ImagePair], list[Problem]]:
    """Pairs the images of two folders by name, whatever their file types.

    A result `<name>_<anything>` belongs to the truth `<name>` too (BasicSR writes results so), the
    longest name winning; `suffix` says which `_<anything>` to take. What has no partner, or more
    than one, is returned as a problem. Raises FileNotFoundError for a missing folder and
    ValueError for one without images.
    """
    truth_files, problems = _by_stem(truths)
    result_files, result_problems = _by_stem(results)
    problems += result_problems
    chosen, strangers = _match(result_files, truth_files, suffix)
    pairs = []
    for stem in sorted(truth_files):
        candidates = chosen.get(stem, [])
        if len(candidates) == 1:
            pairs.append(ImagePair(stem, result_files[candidates[0]], truth_files[stem]))
        elif candidates:
            names = ', '.join(result_files[c].name for c in candidates)
            problems.append(
                Problem('unpaired', stem, f'several results fit ({names}): choose by --suffix')
            )
        else:
            problems.append(Problem('unpaired', stem, f'no result for {truth_files[stem].name}'))
    for stem in strangers:
        problems.append(Problem('unpaired', stem, f'no ground truth for {result_files[stem].name}'))
    return pairs, problems


def _by_stem(folder: Path) -> tuple[dict[str, Path], list[Problem]]:
    if not folder.is_dir():
        raise FileNotFoundError(f'{folder} is not a folder.')
    files: dict[str, list[Path]] = defaultdict(list)
    for path in sorted(folder.iterdir()):
        if path.is_file() and path.suffix.lower() in IMAGE_SUFFIXES:
            files[path.stem].append(path)
    if not files:
        kinds = ' '.join(sorted(IMAGE_SUFFIXES))
        raise ValueError(f'{folder} has no images ({kinds}).')
    problems = [
        Problem('unpaired', stem, f'{folder} has it twice: {", ".join(p.name for p in paths)}')
        for stem, paths in files.items()
        if len(paths) > 1
    ]
    return {stem: paths[0] for stem, paths in files.items() if len(paths) == 1}, problems


def _match(results, truths, suffix: str | None) -> tuple[dict[str, list[str]], list[str]]:
    """Result stems of each truth stem, and the result stems that belong to none."""
    if suffix is not None:
        ending = suffix if suffix.startswith('_') else f'_{suffix}'
        chosen = {stem: [stem + ending] for stem in truths if stem + ending in results}
        return chosen, []
    chosen, strangers = defaultdict(list), []
    for stem in sorted(results):
        owner = _owner(stem, truths)
        if owner is None or (owner != stem and owner in results):
            strangers.append(stem)
        else:
            chosen[owner].append(stem)
    return chosen, strangers


def _owner(stem: str, truths) -> str | None:
    """The truth named `stem`, or else the longest prefix of it that ends before an underscore."""
    candidate = stem
    while candidate not in truths:
        candidate, underscore, _ = candidate.rpartition('_')
        if not underscore:
            return None
    return candidate


def _size(image: np.ndarray) -> str:
    return f'{image.shape[1]} x {image.shape[0]}'
