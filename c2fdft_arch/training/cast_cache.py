"""Weights in the dtype of matrix products."""

import torch
from torch import Tensor


class CastCache:
    """Weights in the dtype of matrix products, each converted once per training step."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self._converted: dict[Tensor, Tensor] = {}

    def __call__(self, weight: Tensor | None) -> Tensor | None:
        if weight is None or weight.dtype == self.dtype:
            return weight
        if weight not in self._converted:
            self._converted[weight] = weight.detach().to(self.dtype)
        return self._converted[weight]
