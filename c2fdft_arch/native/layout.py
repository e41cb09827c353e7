"""How images are cut into tiles for the threads, and the memory that a thread takes."""

import math

import torch
from torch import Tensor

# As in the C++ sources: columns that a tile's convolution reads on either side, rows of the largest
# microkernel, and pixels that pass through a series of products together.
HALO, MAX_MR, CHUNK_PIXELS = 2, 8, 64
MAX_LANES = 16  # floats in the widest vector
# The widest tile of which some rows stay in a core's cache.
TILE_WIDTH = 252
# Two rows above and below a tile are computed twice: tiles are this high where there are enough.
TALL_TILE, TALL_TILES_PER_THREAD = 32, 2
MIN_TILE_HEIGHT = 4


def tile_grid(images: int, height: int, width: int) -> tuple[int, int]:
    """Columns of a tile, and the number of tiles above each other in an image.

    With its halo a tile is a multiple of the microkernel's rows wide.
    """
    inner = width - 2 * HALO
    across = max(1, -(-inner // TILE_WIDTH))
    columns = -(-(-(-inner // across) + 2 * HALO) // MAX_MR) * MAX_MR
    threads = torch.get_num_threads()
    per_thread = max(1, min(height // (TALL_TILE * threads), TALL_TILES_PER_THREAD))
    down = min(-(-threads * per_thread // images), max(1, height // MIN_TILE_HEIGHT))
    return columns - 2 * HALO, down


def thread_scratch_bytes(dim: int, ffn_factor: float, width: int, dtype: torch.dtype) -> int:
    """What one thread takes at most, and keeps, for images of this width without gradients.

    `dim` are the channels of the first level. Sizes are those in the C++ sources.
    """
    levels = [(dim * factor, width // factor) for factor in (1, 2, 4, 8)] + [(2 * dim, width)]
    parts = _attention_scratch, _feed_forward_scratch, _convolution_scratch
    of_blocks = [max(part(c, w, dtype, ffn_factor) for c, w in levels) for part in parts]
    of_last = _convolution_scratch(2 * dim, width, torch.float32, ffn_factor)
    return sum(of_blocks) + (of_last if dtype != torch.float32 else 0)


def _attention_scratch(channels: int, width: int, dtype: torch.dtype, _: float) -> int:
    rows, columns, padded = *_tile(width), _padded(channels)
    around = (rows + 2) * (columns + 2) + MAX_MR  # pixels, with a row above and one below
    scalars = around * 4 * padded + rows * columns * (2 * padded + 3 * MAX_LANES)
    of_head = 2 * (channels + MAX_MR) * padded + 2 * channels
    return 8 * around + dtype.itemsize * scalars + 4 * of_head


def _feed_forward_scratch(channels: int, _: int, dtype: torch.dtype, ffn_factor: float) -> int:
    hidden = _padded(math.ceil(channels * ffn_factor))
    return dtype.itemsize * CHUNK_PIXELS * (channels + _padded(channels) + hidden)


def _convolution_scratch(channels: int, width: int, dtype: torch.dtype, _: float) -> int:
    rows, columns, padded = *_tile(width), _padded(channels)
    window = ((rows + 2) * (columns + 2) + MAX_MR) * padded
    joined = (4 * rows * columns + MAX_MR) * 2 * _padded(channels // 2)
    return dtype.itemsize * (window + joined) + 8 * 9 * rows


def _tile(width: int) -> tuple[int, int]:
    """Rows of a tile that are computed at a time, and columns, with the halo."""
    columns = min(width, TILE_WIDTH) + 2 * HALO + MAX_MR
    return max(1, CHUNK_PIXELS // min(width, columns)), columns


def _padded(channels: int) -> int:
    """Whole vectors."""
    return -(-channels // MAX_LANES) * MAX_LANES


def per_image(time_embedding: Tensor | None, images: int) -> Tensor | None:
    """T (1, C) or (B, C) as contiguous (B, C)."""
    return None if time_embedding is None else time_embedding.expand(images, -1).contiguous()
