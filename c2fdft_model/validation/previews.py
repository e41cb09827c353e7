"""Previews of validation images (degraded | restored | clean), for TensorBoard."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

GAP = 4


def preview(images: Sequence[Tensor], max_side: int = 384) -> np.ndarray:
    """Images (1, 3, H, W), RGB in [0, 1], side by side as (h, w, 3) uint8.

    Images larger than `max_side` are shown smaller.
    """
    shown = [_fit(image.detach().float().cpu(), max_side)[0] for image in images]
    gap = torch.ones(3, shown[0].shape[1], GAP)
    row = [part for image in shown for part in (gap, image)][1:]
    joined = (torch.cat(row, dim=2).clamp(0, 1) * 255).round().to(torch.uint8)
    return joined.permute(1, 2, 0).numpy()


def _fit(image: Tensor, max_side: int) -> Tensor:
    scale = max_side / max(image.shape[-2:])
    if scale >= 1:
        return image
    size = [max(1, round(side * scale)) for side in image.shape[-2:]]
    return F.interpolate(image, size=size, mode='bilinear', antialias=True)
