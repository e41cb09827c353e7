"""Tensors as the kernels take them, and how images are cut into tiles for the threads."""

from collections.abc import Sequence

import torch
from torch import Tensor

from c2fdft_arch.native.structures import (
    SAME,
    Attention,
    AttentionMatrices,
    Features,
    FeedForward,
    NormParameters,
    ShuffledView,
)

# As in the C++ sources: columns that a tile's convolution reads on either side, rows of the largest
# microkernel, and pixels that pass through a series of products together.
HALO, MAX_MR, CHUNK_PIXELS = 2, 8, 64
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


def as_taken(*tensors: Tensor | None) -> tuple[Tensor | None, ...]:
    """Parameters as the kernels take them: float32, contiguous; others are copied.

    Whoever calls keeps them until the kernel has returned.
    """
    return tuple(None if tensor is None else tensor.float().contiguous() for tensor in tensors)


def addresses(*tensors: Tensor | None) -> list[int | None]:
    """Where tensors' numbers begin; None for None.

    Tensors must be contiguous.
    """
    return [None if tensor is None else tensor.data_ptr() for tensor in tensors]


def features_of(x: Tensor) -> Features:
    """Feature maps (B, H, W, C) whose pixels may lie apart, but whose rows follow each other."""
    return Features(x.data_ptr(), x.stride(0), x.stride(2), *x.shape)


def view_of(x: Tensor, layout: int = SAME) -> ShuffledView:
    """Feature maps (B, H, W, C) of any strides, in a layout of a convolution's pixels."""
    images, rows, columns, channels = x.stride()
    return ShuffledView(x.data_ptr(), images, channels, rows, columns, layout)


def per_image(time_embedding: Tensor | None, images: int) -> Tensor | None:
    """T (1, C) or (B, C) as contiguous (B, C)."""
    return None if time_embedding is None else time_embedding.expand(images, -1).contiguous()


Tensors = Sequence[Tensor | None]


def attention_of(
    heads: int, norm: Tensors, parameters: Tensors, matrices: Tensors = ()
) -> Attention:
    """Arguments of an attention half; the tensors are in the order of the structures' fields."""
    return Attention(
        heads, NormParameters(*addresses(*norm)), *addresses(*parameters),
        AttentionMatrices(*addresses(*matrices)),
    )  # fmt: skip


def feed_forward_of(hidden: int, norm: Tensors, parameters: Tensors) -> FeedForward:
    """Arguments of a feed-forward half; the tensors are in the order of the structures' fields."""
    return FeedForward(hidden, NormParameters(*addresses(*norm)), *addresses(*parameters))
