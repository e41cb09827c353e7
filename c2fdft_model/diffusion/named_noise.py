"""Noise that depends on an image's name and a seed alone, for repeatable restorations."""

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor


def named_noise(name: str, shape: Sequence[int], seed: int = 0) -> Tensor:
    """Standard normal noise that depends on an image's name, the seed and the shape alone.

    Drawn on the CPU in float32, so that a restoration does not depend on the order of the images,
    on the batch or on the device.
    """
    generator = torch.Generator().manual_seed(seed_for(name, seed))
    return torch.randn(tuple(shape), generator=generator)


def seed_for(name: str, seed: int = 0) -> int:
    """A 63-bit seed from an image's name and a user's seed; equal on every machine."""
    digest = hashlib.sha256(f'{seed}:{name}'.encode('utf-8', 'surrogateescape')).digest()
    return int.from_bytes(digest[:8], 'big') >> 1
