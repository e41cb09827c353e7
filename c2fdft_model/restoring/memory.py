"""How much memory a device has, and how much a restoration needs."""

import torch
from torch import nn

from c2fdft_arch.common.free_memory import free_memory
from c2fdft_model.restoring.restoration import size_multiple

MIB = 2**20
BYTES_PER_PIXEL = 100
"""Taken during a network call by the image, the network's input and the sampler's maps."""
BYTES_PER_PIXEL_AND_CHANNEL = 22
"""Taken by `DFT` in a network call, for each channel of its first level (measured; float32)."""


def available_memory_mb(device: torch.device) -> float | None:
    """Free memory of a CUDA device, or of the machine or container; None where it is not known."""
    if device.type == 'cuda':
        free, _ = torch.cuda.mem_get_info(device)
        reusable = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return (free + reusable) / MIB
    if device.type != 'cpu':
        return None
    free_bytes = free_memory()
    return None if free_bytes is None else free_bytes / MIB


def needed_memory_mb(
    network: nn.Module, height: int, width: int, tile: int | None = None
) -> float | None:
    """Memory of a restoration besides the weights, in MiB; None if the network cannot say.

    Asks the network's `inference_memory_mb(batch, height, width)`, under its present settings, or
    estimates from its number of channels, `dim`.
    """
    multiple = size_multiple(network)
    sides = [-(-side // multiple) * multiple for side in (height, width)]
    seen = sides if tile is None else [min(side, tile) for side in sides]
    outside = sides[0] * sides[1] * BYTES_PER_PIXEL / MIB
    if hasattr(network, 'inference_memory_mb'):
        return outside + network.inference_memory_mb(1, *seen)
    if hasattr(network, 'dim'):
        return outside + seen[0] * seen[1] * network.dim * BYTES_PER_PIXEL_AND_CHANNEL / MIB
    return None
