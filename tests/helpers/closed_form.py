"""Weights and images that follow from names and shapes alone, the same in every PyTorch."""

from __future__ import annotations

import zlib

import numpy as np
import torch
from torch import Tensor, nn


def fill(network: nn.Module) -> nn.Module:
    """Give every parameter and buffer a value that depends on its name and shape."""
    state = network.state_dict()
    for name, value in state.items():
        if value.is_floating_point():
            value.copy_(torch.from_numpy(_values(name, tuple(value.shape))))
    network.load_state_dict(state)
    return network


def image(height: int, width: int, batch: int = 1, channels: int = 3) -> Tensor:
    """(batch, channels, height, width) in [0, 1]."""
    values = np.random.RandomState(7).random_sample((batch, channels, height, width))
    return torch.from_numpy(values.astype(np.float32))


def _values(name: str, shape: tuple[int, ...]) -> np.ndarray:
    normal = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape)
    if name.endswith('running_var'):
        normal = 1 + 0.1 * np.abs(normal)
    elif len(shape) > 1:  # so that deep networks stay finite
        normal = 0.5 * normal / np.sqrt(np.prod(shape[1:]))
    elif name.endswith('weight'):
        normal = 1 + 0.1 * normal
    else:
        normal = 0.1 * normal
    return normal.astype(np.float32)
