"""Restored images beside the degraded ones and the ground truth: as a picture and by metrics."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from c2fdft_model.evaluation.image_metrics import size_of
from c2fdft_model.evaluation.image_protocols import Protocol
from c2fdft_model.images.image_files import ImageFileError, is_image_name

GAP = 8


class GroundTruthIndex:
    """The ground-truth images of a folder, found by the names of the degraded ones.

    Raises ImageFileError if the folder is missing or has no images.
    """

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise ImageFileError(f'{folder}: no such folder of ground-truth images.')
        self.folder = folder
        self.by_path: dict[Path, Path] = {}
        self.by_stem: dict[str, list[Path]] = defaultdict(list)
        for path in sorted(folder.rglob('*')):
            if path.is_file() and is_image_name(path):
                self.by_path[path.relative_to(folder).with_suffix('')] = path
                self.by_stem[path.stem].append(path)
        if not self.by_path:
            raise ImageFileError(f'{folder} has no ground-truth images.')

    def find(self, relative: Path) -> Path:
        """The ground truth of the image at `relative`: at the same place, or the only one so named.

        Raises ImageFileError if there is none.
        """
        if found := self.by_path.get(relative.with_suffix('')):
            return found
        named = self.by_stem.get(relative.stem, [])
        if len(named) != 1:
            which = 'no' if not named else 'more than one'
            raise ImageFileError(f'{relative}: {which} ground truth of this name in {self.folder}.')
        return named[0]


def measure(protocol: Protocol, result: np.ndarray, gt: np.ndarray) -> dict[str, float]:
    """The protocol's metrics of two images (H, W, 3), RGB in [0, 1], rounded to 8 bits.

    Raises ValueError if their sizes differ.
    """
    if result.shape != gt.shape:
        raise ValueError(f'it has {size_of(result)} pixels and its ground truth {size_of(gt)}.')
    eight_bits = (np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8) for image in (result, gt))
    return protocol.measure(*eight_bits)


def side_by_side(images: Sequence[np.ndarray]) -> np.ndarray:
    """Images (H, W, 3) next to each other, white between them and below the smaller ones."""
    height = max(image.shape[0] for image in images)
    columns: list[np.ndarray] = []
    for image in images:
        padding = ((0, height - image.shape[0]), (GAP if columns else 0, 0), (0, 0))
        columns.append(np.pad(image, padding, constant_values=1))
    return np.concatenate(columns, axis=1)
