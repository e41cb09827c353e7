"""Which file of a results folder belongs to which file of a ground-truth folder."""

from collections import defaultdict
from collections.abc import Container, Iterable
from functools import partial
from pathlib import Path

import numpy as np

from c2fdft_model.evaluation.evaluation_set import EvaluationSet, Item
from c2fdft_model.evaluation.image_metrics import size_of
from c2fdft_model.evaluation.problems import Problem, SizeError
from c2fdft_model.images import image_io


def image_pairs(results: Path, gt: Path, suffix: str | None = None) -> EvaluationSet:
    """The images of two folders, paired by name whatever their file types.

    A result `<name>_<anything>` belongs to the ground truth `<name>` too (BasicSR writes results
    so), the longest name winning; `suffix` says which `_<anything>` to take. What has no partner,
    or more than one, becomes a problem. Raises FileNotFoundError for a missing folder and
    ValueError for one without images.
    """
    gt_files, problems = _by_stem(gt)
    result_files, result_problems = _by_stem(results)
    problems += result_problems
    matched, unmatched = _match(result_files, gt_files, suffix)
    items: list[Item] = []
    for stem, gt_file in sorted(gt_files.items()):
        found = [result_files[name] for name in matched.get(stem, [])]
        if len(found) == 1:
            items.append((stem, partial(_load_pair, found[0], gt_file)))
        else:
            names = ', '.join(path.name for path in found)
            several = f'several results fit ({names}): choose by --suffix'
            reason = several if found else f'no result for {gt_file.name}'
            problems.append(Problem('unpaired', stem, reason))
    for stem in unmatched:
        problems.append(Problem('unpaired', stem, f'no ground truth for {result_files[stem].name}'))
    return EvaluationSet(items, problems)


def _load_pair(result_file: Path, gt_file: Path) -> tuple[np.ndarray, np.ndarray]:
    """Both images as uint8 RGB (H, W, 3). Raises ImageReadError or SizeError."""
    result, gt = _read_uint8(result_file), _read_uint8(gt_file)
    if result.shape != gt.shape:
        raise SizeError(f'{result_file.name} is {size_of(result)}, {gt_file.name} is {size_of(gt)}')
    return result, gt


def _read_uint8(path: Path) -> np.ndarray:
    """An image as uint8 RGB (H, W, 3); 16 bits are rounded to 8. Raises ImageReadError."""
    image = image_io.read_rgb(path)
    return image if image.dtype == np.uint8 else np.round(image / 257).astype(np.uint8)


def _by_stem(folder: Path) -> tuple[dict[str, Path], list[Problem]]:
    if not folder.is_dir():
        raise FileNotFoundError(f'{folder} is not a folder.')
    files: dict[str, list[Path]] = defaultdict(list)
    for path in sorted(folder.iterdir()):
        if path.is_file() and path.suffix.lower() in image_io.IMAGE_SUFFIXES:
            files[path.stem].append(path)
    if not files:
        kinds = ' '.join(sorted(image_io.IMAGE_SUFFIXES))
        raise ValueError(f'{folder} has no images ({kinds}).')
    problems = [
        Problem('unpaired', stem, f'{folder} has it twice: {", ".join(p.name for p in paths)}')
        for stem, paths in files.items()
        if len(paths) > 1
    ]
    return {stem: paths[0] for stem, paths in files.items() if len(paths) == 1}, problems


def _match(
    results: Iterable[str], gts: Iterable[str], suffix: str | None
) -> tuple[dict[str, list[str]], list[str]]:
    """Names of results by the name of their ground truth, and those that belong to none."""
    results, gts = set(results), set(gts)
    if suffix is not None:
        ending = suffix if suffix.startswith('_') else f'_{suffix}'
        return {stem: [stem + ending] for stem in gts if stem + ending in results}, []
    matched: dict[str, list[str]] = defaultdict(list)
    unmatched = []
    for stem in sorted(results):
        owner = _owner(stem, gts)
        if owner is None or (owner != stem and owner in results):
            unmatched.append(stem)
        else:
            matched[owner].append(stem)
    return matched, unmatched


def _owner(stem: str, gts: Container[str]) -> str | None:
    """The ground truth named `stem`, or the longest start of it that ends before an underscore."""
    candidate = stem
    while candidate not in gts:
        candidate, underscore, _ = candidate.rpartition('_')
        if not underscore:
            return None
    return candidate
