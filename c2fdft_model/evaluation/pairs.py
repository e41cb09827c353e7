"""Which file of a results folder belongs to which file of a ground-truth folder."""

from collections import defaultdict
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np

from c2fdft_model.data.image_listing import list_images
from c2fdft_model.data.pairing import by_name, template_hint
from c2fdft_model.evaluation.evaluation_set import EvaluationSet, Item
from c2fdft_model.evaluation.ground_truth import owners
from c2fdft_model.evaluation.image_metrics import size_of
from c2fdft_model.evaluation.problems import Problem, SizeError
from c2fdft_model.images import image_io


def image_pairs(
    results: Path,
    gt: Path,
    suffix: str | None = None,
    results_template: str = '{}',
    gt_template: str = '{}',
) -> EvaluationSet:
    """The images of two folders and their subfolders, paired by name whatever their file types.

    Which result belongs to which ground truth say `ground_truth.owners` and, for names that differ
    otherwise, the templates (see `pairing.match_files`). What has no partner, or more than one,
    becomes a problem. Raises ListingError for a folder that is missing or has no images, and
    PairingError for a template that fits no image.
    """
    problems: list[Problem] = []
    result_files = _by_name(results, results_template, problems)
    gt_files = _by_name(gt, gt_template, problems)
    found: dict[str, list[str]] = defaultdict(list)
    for name, owner in owners(result_files, gt_files, suffix).items():
        if owner is None:
            reason = f'no ground truth for {result_files[name]} in {gt}'
            problems.append(Problem('unpaired', name, reason))
        else:
            found[owner].append(result_files[name])
    items: list[Item] = []
    for name, gt_file in sorted(gt_files.items()):
        if len(fitting := found[name]) == 1:
            items.append((name, partial(_load_pair, results / fitting[0], gt / gt_file)))
        else:
            several = f'several results fit ({", ".join(fitting)}): choose by --suffix'
            reason = several if fitting else f'no result for {gt_file} in {results}'
            problems.append(Problem('unpaired', name, reason))
    notes = [] if items else _hint(result_files, gt_files)
    largest = max((_pixels(gt / file) for file in gt_files.values()), default=0)
    return EvaluationSet(items, problems, notes, largest)


def _pixels(path: Path) -> int:
    """Pixels of an image by its header; 0 if that does not tell."""
    try:
        height, width = image_io.image_size(path)
    except (ValueError, OSError):
        return 0
    return height * width


def _hint(result_files: Mapping[str, str], gt_files: Mapping[str, str]) -> list[str]:
    files = [*result_files.values()], [*gt_files.values()]
    hint = template_hint(*files, ('--results-template', '--gt-template'))
    return [f'no result has a ground truth{hint}'] if hint else []


def _by_name(folder: Path, template: str, problems: list[Problem]) -> dict[str, str]:
    """The image files of a folder by name; of one name there must be one file."""

    def cannot_be_read(error: OSError) -> None:
        problems.append(Problem('unreadable', str(error.filename), error.strerror or str(error)))

    files = list_images(folder, on_error=cannot_be_read).images
    found = by_name(files, template)
    problems += [
        Problem('unpaired', name, f'{folder} has it twice: {", ".join(names)}')
        for name, names in found.items()
        if len(names) > 1
    ]
    fitting = {file for names in found.values() for file in names}
    problems += [
        Problem('unpaired', file, f'it does not fit the template {template}')
        for file in files
        if file not in fitting
    ]
    return {name: names[0] for name, names in found.items() if len(names) == 1}


def _load_pair(result_file: Path, gt_file: Path) -> tuple[np.ndarray, np.ndarray]:
    """Both images as uint8 RGB (H, W, 3). Raises ImageReadError or SizeError."""
    result, gt = _read_uint8(result_file), _read_uint8(gt_file)
    if result.shape != gt.shape:
        raise SizeError(f'{result_file.name} is {size_of(result)}, {gt_file.name} is {size_of(gt)}')
    return result, gt


def _read_uint8(path: Path) -> np.ndarray:
    """An image as uint8 RGB (H, W, 3); 16 bits are rounded to 8. Raises ImageReadError."""
    image = image_io.read_rgb(path)
    if image.dtype == np.uint8:
        return image
    rounded = np.empty(image.shape, np.uint8)
    for row, out in zip(image, rounded, strict=True):  # whole, it would take eight times as much
        out[:] = np.round(row / 257)
    return rounded
