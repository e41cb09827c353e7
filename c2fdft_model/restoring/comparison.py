"""Restored images beside the degraded ones and the ground truth: as a picture and by metrics."""

from collections.abc import Sequence

import numpy as np

from c2fdft_model.evaluation.image_metrics import size_of
from c2fdft_model.evaluation.image_protocols import Protocol

GAP = 8


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
