"""Evaluating an image function tile by tile, for images too large to be evaluated whole."""

from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch import Tensor

from c2fdft_arch.common.messages import nearest

Predict = Callable[[Tensor, Tensor], Tensor]
Blend = Literal['smooth', 'mean']
"""How the results of overlapping tiles are joined: by smooth ramps, or as their mean."""


def tiled(
    predict: Predict, tile: int, overlap: int, multiple: int, blend: Blend = 'smooth'
) -> Predict:
    """Wrap predict(x, t) so that it sees tiles of at most `tile` x `tile` pixels of x (B, C, H, W).

    The results are blended over `overlap` pixels with weights that sum to 1. Applied to every noise
    prediction of a sampler, whose noise is one full-size map, neighbouring tiles stay in agreement
    from step to step (Bar-Tal et al., MultiDiffusion, ICML 2023). The tile and the overlap are
    multiples of `multiple`, and so are the sides of x.

    `blend: mean` gives every pixel the mean of all tiles that have it, and lets them overlap by
    more than half: patch-based diffusion (Özdenizci and Legenstein, "Restoring Vision in Adverse
    Weather Conditions with Patch-Based Denoising Diffusion Models", 2023).

    Raises ValueError if a tile or overlap is impossible.
    """
    check_tile(tile, overlap, multiple, blend)

    def tiled_predict(x: Tensor, t: Tensor) -> Tensor:
        rows = blend_weights(x.shape[-2], tile, overlap, blend)
        columns = blend_weights(x.shape[-1], tile, overlap, blend)
        result: Tensor | None = None
        for top, row_weight in rows:
            for left, column_weight in columns:
                area = (..., slice(top, top + tile), slice(left, left + tile))
                part = predict(x[area].contiguous(), t)
                if result is None:
                    result = part.new_zeros(*part.shape[:-2], *x.shape[-2:])
                weight = row_weight[:, None] * column_weight[None, :]
                result[area] += part * weight.to(part)
        assert result is not None
        return result

    return tiled_predict


def check_tile(tile: int, overlap: int, multiple: int, blend: Blend = 'smooth') -> None:
    """Raise ValueError unless tiles of this size and overlap can cover an image."""
    if blend not in get_args(Blend):
        raise ValueError(
            f'the tile blend is {blend}{nearest(str(blend), get_args(Blend))}: give '
            f'{" or ".join(get_args(Blend))}.'
        )
    if tile < multiple or tile % multiple:
        raise ValueError(f'tile is {tile}: give a multiple of {multiple} pixels, such as 512.')
    largest, words = (
        (tile // 2, 'half the tile') if blend == 'smooth' else (tile - multiple, 'below the tile')
    )
    if overlap < 0 or overlap % multiple or overlap > largest:
        raise ValueError(
            f'the tile overlap is {overlap}: give a multiple of {multiple} from 0 to {words} '
            f'({largest}).'
        )


def tile_starts(size: int, tile: int, overlap: int) -> list[int]:
    """First pixels of the tiles over a side; neighbours share at least `overlap` pixels."""
    if size <= tile:
        return [0]
    last = size - tile
    return [*range(0, last, tile - overlap), last]


def blend_weights(
    size: int, tile: int, overlap: int, blend: Blend = 'smooth'
) -> list[tuple[int, Tensor]]:
    """First pixel and line of weights of each tile, smooth or equal, with sum 1 at every pixel."""
    length = min(tile, size)
    ramp = torch.sin((torch.arange(overlap) + 0.5) / max(overlap, 1) * (torch.pi / 2)) ** 2
    lines, total = [], torch.zeros(size)
    for start in tile_starts(size, tile, overlap):
        line = torch.ones(length)
        if start > 0 and blend == 'smooth':
            line[:overlap] = ramp
        if start + length < size and blend == 'smooth':
            line[length - overlap :] = ramp.flip(0)
        total[start : start + length] += line
        lines.append((start, line))
    # the last tile is moved inwards and may share more than `overlap` pixels, even with two others
    return [(start, line / total[start : start + length]) for start, line in lines]
