"""Extending images by reflection to the sizes that networks take."""

import torch
from torch import Tensor


def pad_to_multiple(image: Tensor, multiple: int) -> Tensor:
    """Extend (..., H, W) below and to the right by reflection, to multiples of `multiple`.

    The reflection repeats where the image is smaller than the padding; a single row or column is
    replicated.
    """
    for dim in (-2, -1):
        size = image.shape[dim]
        padded = -(-size // multiple) * multiple
        if padded != size:
            image = image.index_select(dim, reflected_indices(size, padded).to(image.device))
    return image


def reflected_indices(size: int, padded: int) -> Tensor:
    """Where the pixels of a line of `size` pixels, continued by reflection, come from."""
    if size == 1:
        return torch.zeros(padded, dtype=torch.long)
    period = 2 * (size - 1)
    position = torch.arange(padded) % period
    return torch.minimum(position, period - position)
