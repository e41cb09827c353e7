"""How far restoring by tiles is from restoring the whole image, and what it costs.

Tiles are for images too large for the memory. A tile's attention sees only that tile, so the
result differs from that of the whole image, by how much depends on the weights and the image.
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks import Figures
from c2fdft_arch.dft import DFT
from c2fdft_model.evaluation.image_metrics import psnr
from c2fdft_model.experiments.costs import timed
from c2fdft_model.experiments.images import read_tensor
from c2fdft_model.restoring.restoration import DEFAULT_TILE_OVERLAP, restore
from c2fdft_model.restoring.weights import load_network


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this benchmark."""
    add = parser.add_argument
    add(
        '--weights',
        type=Path,
        help='trained network; random weights (default) tell about time alone',
    )
    add('--image', type=Path, help='degraded photograph (default: smoothed noise)')
    add('--size', type=int, default=512, help='side of the image without --image (default: 512)')
    add('--tiles', type=int, nargs='+', default=[128, 256], help='sides of the tiles')
    add('--overlaps', type=int, nargs='+', default=[0, 32, DEFAULT_TILE_OVERLAP])
    add('--precision', choices=('auto', 'fp32', 'bf16'), default='fp32')


def run(args: argparse.Namespace) -> Figures:
    """Measure and print the table."""
    network = load_network(args.weights) if args.weights else _random_network()
    image = read_tensor(args.image) if args.image else _smoothed_noise(args.size)
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
    return {'cases': cases}, True


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
    whole, seconds = timed(restore, network, image, precision=precision)
    for tile in tiles:
        for overlap in overlaps:
            if 2 * overlap > tile or tile >= max(image.shape[-2:]):
                continue
            tiled, tiled_seconds = timed(
                restore, network, image, precision=precision, tile=tile, tile_overlap=overlap
            )
            yield {
                'tile': tile,
                'overlap': overlap,
                'psnr': psnr(tiled.numpy(), whole.numpy(), 1),
                'largest_difference': float((tiled - whole).abs().max()),
                'seam_ratio': _seam_step(tiled, tile, overlap) / _seam_step(whole, tile, overlap),
                'time_ratio': tiled_seconds / seconds,
            }


def _seam_step(image: Tensor, tile: int, overlap: int) -> float:
    """Mean absolute difference of the pixels on both sides of the tiles' first columns and rows."""
    steps = []
    for dim in (-2, -1):
        starts = torch.arange(tile - overlap, image.shape[dim] - 1, tile - overlap)
        after, before = image.index_select(dim, starts), image.index_select(dim, starts - 1)
        steps.append((after - before).abs().mean())
    return float(torch.stack(steps).mean())


def _smoothed_noise(size: int) -> Tensor:
    coarse = torch.rand(1, 3, size // 16, size // 16, generator=torch.Generator().manual_seed(0))
    return nn.functional.interpolate(coarse, (size, size), mode='bicubic')[0].clamp(0, 1)


def _random_network() -> DFT:
    torch.manual_seed(0)
    return DFT().eval()
