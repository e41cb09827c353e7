"""Images as tensors and as arrays of integers, and PNG files of them."""

from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from c2fdft_model.images.image_files import read_image


def write_png(path: Path, image: np.ndarray) -> None:
    """Write an image (H, W, 3) uint8, BGR, as PNG; folders are made as needed. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(path), np.ascontiguousarray(image)):
        raise OSError(f'{path} could not be written.')


def read_tensor(path: Path) -> Tensor:
    """An image as (3, H, W) float32, RGB in [0, 1]. Raises ImageFileError."""
    return torch.from_numpy(read_image(path).colour).permute(2, 0, 1)


def to_tensor(image: np.ndarray) -> Tensor:
    """An image (H, W, 3), uint8 RGB, as (3, H, W) float32 in [0, 1]."""
    return torch.from_numpy(image.copy()).permute(2, 0, 1).float().div(255)


def to_uint8(image: Tensor) -> np.ndarray:
    """An image (3, H, W), RGB in [0, 1], as (H, W, 3) uint8, rounded."""
    return image.permute(1, 2, 0).mul(255).round().to(torch.uint8).numpy()
