"""Restored pictures beside the degraded ones and the truth, for the eye and in numbers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from c2fdft_model.evaluation import PROTOCOLS, Protocol
from c2fdft_model.evaluation.protocols import image_pairs
from c2fdft_model.images.image_files import ImageFileError, is_image_name

GAP = 8


def image_protocols() -> list[str]:
    """The protocols that compare two image files."""
    return [name for name, protocol in PROTOCOLS.items() if protocol.find_work is image_pairs]


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
        """The truth of the image at `relative`: in the same place, or the only one of its name.

        Raises ImageFileError if there is none.
        """
        if found := self.by_path.get(relative.with_suffix('')):
            return found
        named = self.by_stem.get(relative.stem, [])
        if len(named) != 1:
            which = 'no' if not named else 'more than one'
            raise ImageFileError(f'{relative}: {which} ground truth of this name in {self.folder}.')
        return named[0]


def measure(protocol: Protocol, result: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """The protocol's numbers for two pictures (H, W, 3), RGB in [0, 1], rounded to 8 bits.

    Raises ValueError if their sizes differ.
    """
    if result.shape != truth.shape:
        raise ValueError(f'it has {_size(result)} pixels and its ground truth {_size(truth)}.')
    return protocol.measure(_eight_bits(result), _eight_bits(truth))


def side_by_side(pictures: Sequence[np.ndarray]) -> np.ndarray:
    """Pictures (H, W, 3) next to each other, white between them; smaller ones are filled up."""
    height = max(picture.shape[0] for picture in pictures)
    columns: list[np.ndarray] = []
    for picture in pictures:
        missing = height - picture.shape[0]
        padding = ((0, missing), (GAP if columns else 0, 0), (0, 0))
        columns.append(np.pad(picture, padding, constant_values=1))
    return np.concatenate(columns, axis=1)


def _eight_bits(picture: np.ndarray) -> np.ndarray:
    return np.rint(np.clip(picture, 0, 1) * 255).astype(np.uint8)


def _size(picture: np.ndarray) -> str:
    return f'{picture.shape[1]} x {picture.shape[0]}'
