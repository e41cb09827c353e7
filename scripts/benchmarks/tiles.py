"""How far restoring by tiles is from restoring the whole image, and what it costs.

Tiles are for images too large for the memory. Every tile's attention sees the tile alone, so the
result is not quite that of the whole image: by how much depends on the weights and the picture.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from c2fdft_arch.dft import DFT
from c2fdft_model.images.image_files import read_image
from c2fdft_model.restoring.restoration import DEFAULT_TILE_OVERLAP, restore
from c2fdft_model.restoring.weights import load_network


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this benchmark."""
    add = parser.add_argument
    add('--weights', type=Path, help='trained network; random weights tell about time alone')
    add('--image', type=Path, help='degraded photograph (default: smoothed noise)')
    add('--size', type=int, default=512, help='side of the image without --image (default: 512)')
    add('--tiles', type=int, nargs='+', default=[128, 256], help='sides of the tiles')
    add('--overlaps', type=int, nargs='+', default=[0, 32, DEFAULT_TILE_OVERLAP])
    add('--precision', choices=('auto', 'fp32', 'bf16'), default='fp32')
    add('--json', type=Path, help='also write the table here')


def run(args: argparse.Namespace) -> int:
    """Print the table; the exit code is 0."""
    network = load_network(args.weights) if args.weights else _random_network()
    image = _picture(args.image) if args.image else _smoothed_noise(args.size)
    cases = list(compare_tiles(network, image, args.tiles, args.overlaps, args.precision))
    height, width = image.shape[-2:]
    print(f'{height} x {width}, {args.precision}, compared with the whole image:')
    print(f'{"tile":>6}{"overlap":>9}{"PSNR":>10}{"largest":>10}{"at seams":>10}{"time":>7}')
    for case in cases:
        print(
            f'{case["tile"]:>6}{case["overlap"]:>9}{case["psnr"]:>7.2f} dB'
            f'{case["largest_difference"]:>10.4f}{case["seam_ratio"]:>10.2f}{case["time_ratio"]:>7.2f}'
        )
    print('at seams: steps between pixels along the edges of tiles, whole image = 1')
    if args.json:
        args.json.write_text(json.dumps({'cases': cases}, indent=1), encoding='utf-8')
    return 0


def compare_tiles(
    network: nn.Module,
    image: Tensor,
    tiles: Sequence[int],
    overlaps: Sequence[int],
    precision: str = 'fp32',
) -> Iterator[dict[str, float]]:
    """The difference of a tiled restoration to the whole one, for every tile and legal overlap.

    `image` (3, H, W) is RGB in [0, 1]. Each case holds tile, overlap, psnr (dB) to the whole
    restoration, largest_difference, seam_ratio and time_ratio (tiled to whole, in this run).
    """
    started = time.perf_counter()
    whole = restore(network, image, precision=precision)
    seconds = time.perf_counter() - started
    for tile in tiles:
        for overlap in overlaps:
            if 2 * overlap > tile or tile >= max(image.shape[-2:]):
                continue
            started = time.perf_counter()
            tiled = restore(network, image, precision=precision, tile=tile, tile_overlap=overlap)
            elapsed = time.perf_counter() - started
            yield {
                'tile': tile,
                'overlap': overlap,
                'psnr': _psnr(tiled, whole),
                'largest_difference': float((tiled - whole).abs().max()),
                'seam_ratio': _seam_step(tiled, tile, overlap) / _seam_step(whole, tile, overlap),
                'time_ratio': elapsed / seconds,
            }


def _seam_step(picture: Tensor, tile: int, overlap: int) -> float:
    """Mean absolute difference of the pixels on both sides of the tiles' first columns and rows."""
    steps = []
    for dim in (-2, -1):
        starts = torch.arange(tile - overlap, picture.shape[dim] - 1, tile - overlap)
        after, before = picture.index_select(dim, starts), picture.index_select(dim, starts - 1)
        steps.append((after - before).abs().mean())
    return float(torch.stack(steps).mean())


def _psnr(result: Tensor, truth: Tensor) -> float:
    error = float((result - truth).square().mean())
    return 10 * math.log10(1 / error) if error else math.inf


def _picture(path: Path) -> Tensor:
    return torch.from_numpy(read_image(path).colour).permute(2, 0, 1)


def _smoothed_noise(size: int) -> Tensor:
    coarse = torch.rand(1, 3, size // 16, size // 16, generator=torch.Generator().manual_seed(0))
    return nn.functional.interpolate(coarse, (size, size), mode='bicubic')[0].clamp(0, 1)


def _random_network() -> DFT:
    torch.manual_seed(0)
    return DFT().eval()
