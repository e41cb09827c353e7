"""Tensors as the kernels take them, and how images are cut into pieces for the threads."""

from __future__ import annotations

import torch
from torch import Tensor

from c2fdft_arch.native.structures import Image

# Widest piece of an image, so that some rows of it stay in a core's cache.
PIECE_WIDTH = 252
NEIGHBOURS = 2  # as in products.h
TILE_ROWS = 8
# Of each piece two rows are computed that belong to others: taller ones where there are enough.
TALL_PIECE, PIECES_PER_THREAD = 32, 2
LOWEST_PIECE = 4


def round_up(n: int, multiple: int) -> int:
    """The smallest multiple that is not less than n."""
    return -(-n // multiple) * multiple


def pieces(images: int, height: int, width: int) -> tuple[int, int]:
    """How images are cut into pieces: columns of one, and bands of an image.

    With its neighbours on both sides a piece has whole register tiles of columns.
    """
    across = max(1, -(-(width - 2 * NEIGHBOURS) // PIECE_WIDTH))
    columns = round_up(-(-(width - 2 * NEIGHBOURS) // across) + 2 * NEIGHBOURS, TILE_ROWS)
    threads = torch.get_num_threads()
    of_thread = max(1, min(height // (TALL_PIECE * threads), PIECES_PER_THREAD))
    bands = min(-(-threads * of_thread // images), max(1, height // LOWEST_PIECE))
    return columns - 2 * NEIGHBOURS, bands


def address(tensor: Tensor | None) -> int | None:
    """Where a tensor's numbers begin; None for None."""
    return None if tensor is None else tensor.data_ptr()


def image_of(x: Tensor | None) -> Image:
    """Feature maps (B, H, W, C) of any strides as the kernels take them; without data for None."""
    if x is None:
        return Image()
    images, rows, columns, channels = x.stride()
    return Image(address(x), images, channels, rows, columns)
