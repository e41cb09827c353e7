"""Training data: milliseconds per iteration in each phase of the deraining cycle.

Side by side, from the same 64 pairs of photographs (PNG, about 500 x 400) in LMDBs and with as many
workers: this project's data set, BasicSR's `PairedImageDataset` at the same patch size and batch,
and the released scheme, which decodes the largest batch at the largest patch size in every
iteration, then keeps and crops what the phase needs. Below, other ways of storing the images.
"""

import argparse
import itertools
import random
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import cv2
import numpy as np
import torch
from basicsr.data import build_dataloader, build_dataset
from basicsr.utils.lmdb_util import LmdbMaker

from benchmarks import Figures
from c2fdft_model.data.lmdb.plan import StoreOptions
from c2fdft_model.data.lmdb.write_pairs import write_pairs
from c2fdft_model.data.pair_sources import PairSource
from c2fdft_model.data.patch_cycle import PatchCycle
from c2fdft_model.data.training_clock import training_clock
from common.photographs import photo_folder, read_photo
from common.rain import add_rain
from demo.data import TRAIN_PHOTOS

CYCLE = PatchCycle.build([32, 64, 128], [360, 96, 24], [10000])
LARGEST_BATCH, LARGEST_PATCH = max(CYCLE.batch_sizes), max(CYCLE.patch_sizes)
PAIRS = 64
PHOTOS = TRAIN_PHOTOS[:4]  # in colour
ROUTES = {
    'indexed PNG (prepare_lmdb.py)': StoreOptions(),
    'uncompressed (--store raw)': StoreOptions(encoding='raw'),
    'sub-images (--size 256 --stride 128)': StoreOptions(256, 128),
}
INDEXED_PNG = next(iter(ROUTES))
PLAIN = "plain PNG (BasicSR's tool)"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this benchmark."""
    add = parser.add_argument
    add('--workers', type=int, default=2, help='worker processes of each loader (default: 2)')
    add('--seconds', type=float, default=4, help='at least this long for each figure (default: 4)')


def run(args: argparse.Namespace) -> Figures:
    """Measure and print the tables."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        stores = write_stores(Path(folder))
        phases = [measure_phase(k, stores, args) for k in range(len(CYCLE.patch_sizes))]
        # Last, because it leaves LMDBs open in this process, which BasicSR's workers cannot.
        for number, phase in enumerate(phases):
            phase['decoded_per_iteration'] = count_decoded(stores[INDEXED_PNG], number)
        print_phases(phases)
        routes = [measure_route(name, stores[name], args) for name in stores if name != INDEXED_PNG]
        print_routes(phases, routes)
    return {'phases': phases, 'routes': routes}, True


def measure_phase(number: int, stores: dict[str, Path], args: argparse.Namespace) -> dict[str, Any]:
    """The three schemes in one phase."""
    patch, batch = CYCLE.patch_sizes[number], CYCLE.batch_sizes[number]
    store = stores[INDEXED_PNG]
    return {
        'patch': patch,
        'batch': batch,
        'ours_ms': milliseconds(ours(store, number, args.workers), args),
        'basicsr_ms': milliseconds(basicsr(store, patch, batch, args.workers), args),
        'released_scheme_ms': milliseconds(
            released_scheme(store, patch, batch, args.workers), args
        ),
    }


def measure_route(name: str, store: Path, args: argparse.Namespace) -> dict[str, Any]:
    """This project's data set on another way of storing the images, in every phase."""
    phases = range(len(CYCLE.patch_sizes))
    times = [milliseconds(ours(store, phase, args.workers), args) for phase in phases]
    return {'route': name, 'ours_ms': times}


def milliseconds(batches: Iterator[Any], args: argparse.Namespace) -> float:
    """Time of one batch once every worker has delivered its first."""
    for _ in range(args.workers):
        next(batches)
    began, count = time.perf_counter(), 0
    while count < 2 * args.workers or time.perf_counter() - began < args.seconds:
        for _ in range(args.workers):
            next(batches)
        count += args.workers
    elapsed = time.perf_counter() - began
    return round(1000 * elapsed / count, 2)


def ours(store: Path, phase: int, workers: int) -> Iterator[dict[str, Any]]:
    """Batches of this project's data set from a phase on."""
    section = our_section(store, phase, workers)
    return iter(build_dataloader(build_dataset(section), section, num_gpu=0, seed=0))


def our_section(store: Path, phase: int, workers: int) -> dict[str, Any]:
    """Options of this project's data set; the training stands at the beginning of the phase."""
    section = section_of(store, 'PatchCyclePairedDataset', LARGEST_BATCH, workers)
    section |= {
        'gt_sizes': list(CYCLE.patch_sizes),
        'mini_batch_sizes': list(CYCLE.batch_sizes),
        'iters': list(CYCLE.iters),
    }
    training_clock.start({'manual_seed': 0, 'num_gpu': 0, 'datasets': {'train': section}})
    training_clock.iteration(sum(CYCLE.iters[:phase]))
    return section


def basicsr(store: Path, patch: int, batch: int, workers: int) -> Iterator[dict[str, Any]]:
    """Batches of BasicSR's paired data set, with a fixed patch size and batch size."""
    section = section_of(store, 'PairedImageDataset', batch, workers)
    section |= {'gt_size': patch, 'use_hflip': True, 'use_rot': True}
    # Epochs that are longer than the measurement.
    dataset = torch.utils.data.ConcatDataset([build_dataset(section)] * 2000)
    loader = build_dataloader(dataset, section, num_gpu=0, seed=0)
    return itertools.chain.from_iterable(itertools.repeat(loader))


def released_scheme(store: Path, patch: int, batch: int, workers: int) -> Iterator[Any]:
    """Decode the largest batch at the largest patch size; keep and crop what the phase needs."""
    for data in basicsr(store, LARGEST_PATCH, LARGEST_BATCH, workers):
        kept = random.sample(range(LARGEST_BATCH), batch)
        top, left = (random.randint(0, LARGEST_PATCH - patch) for _ in range(2))
        yield [
            data[key][kept][:, :, top : top + patch, left : left + patch].contiguous()
            for key in ('lq', 'gt')
        ]


def section_of(store: Path, kind: str, batch: int, workers: int) -> dict[str, Any]:
    """What the options of both data sets have in common."""
    return {
        'name': 'benchmark',
        'phase': 'train',
        'scale': 1,
        'type': kind,
        'dataroot_lq': str(store / 'input.lmdb'),
        'dataroot_gt': str(store / 'target.lmdb'),
        'io_backend': {'type': 'lmdb'},
        'batch_size_per_gpu': batch,
        'num_worker_per_gpu': workers,
    }


def count_decoded(store: Path, phase: int) -> int:
    """Pairs of images that are opened for one iteration of a phase."""
    dataset = build_dataset(our_section(store, phase, 0))
    with mock.patch.object(dataset.reader, 'open', wraps=dataset.reader.open) as open_pair:
        dataset.__getitems__(range(LARGEST_BATCH))
    return open_pair.call_count


def write_stores(folder: Path) -> dict[str, Path]:
    """The same pairs in every way of storing them."""
    pairs = [make_pair(number) for number in range(PAIRS)]
    sources = [
        PairSource(f'{k:03d}', lq.shape[:2], '', '', '', lambda lq=lq, gt=gt: (lq, gt))
        for k, (lq, gt) in enumerate(pairs)
    ]
    stores = {name: folder / str(k) for k, name in enumerate([*ROUTES, PLAIN])}
    for name, options in ROUTES.items():
        write_pairs(sources, stores[name] / 'input.lmdb', stores[name] / 'target.lmdb', options)
    stores[PLAIN].mkdir()
    for side, name in enumerate(('input', 'target')):
        maker = LmdbMaker(str(stores[PLAIN] / f'{name}.lmdb'), map_size=2**30)
        for source, pair in zip(sources, pairs, strict=True):
            image = np.ascontiguousarray(pair[side][..., ::-1])
            _, data = cv2.imencode('.png', image, [cv2.IMWRITE_PNG_COMPRESSION, 1])
            maker.put(data.tobytes(), source.name, image.shape)
        maker.close()
    return stores


def make_pair(number: int) -> tuple[np.ndarray, np.ndarray]:
    """A photograph of about 500 x 400 and the same with rain, RGB uint8."""
    rng = np.random.default_rng(number)
    photo = read_photo(photo_folder() / PHOTOS[number % len(PHOTOS)])[..., ::-1]
    size = int(rng.integers(480, 521)), int(rng.integers(384, 417))
    clean = cv2.resize(photo, size, interpolation=cv2.INTER_AREA)
    clean = np.ascontiguousarray(clean[:, ::-1] if number % 2 else clean)
    return add_rain(clean, rng), clean


def print_phases(phases: list[dict[str, Any]]) -> None:
    print('Milliseconds per iteration (patches per second)\n')
    print(f'{"patch":>6}{"batch":>7}{"decoded":>9}{"ours":>20}{"BasicSR":>20}{"released":>20}')
    for phase in phases:
        times = (phase[key] for key in ('ours_ms', 'basicsr_ms', 'released_scheme_ms'))
        cells = ''.join(f'{t:11,.1f} ({1000 * phase["batch"] / t:6,.0f})' for t in times)
        print(f'{phase["patch"]:6}{phase["batch"]:7}{phase["decoded_per_iteration"]:9}{cells}')
    print()
    for phase in phases:
        print(
            f'{phase["patch"]:6}: {phase["basicsr_ms"] / phase["ours_ms"]:.1f} times faster than '
            f'BasicSR, {phase["released_scheme_ms"] / phase["ours_ms"]:.1f} times faster than the '
            'released scheme'
        )


def print_routes(phases: list[dict[str, Any]], routes: list[dict[str, Any]]) -> None:
    print('\nOurs by the way the images are stored, milliseconds per iteration\n')
    print(f'{"":40}' + ''.join(f'{patch:>9}' for patch in CYCLE.patch_sizes))
    ours_ms = [phase['ours_ms'] for phase in phases]
    for route in [{'route': INDEXED_PNG, 'ours_ms': ours_ms}, *routes]:
        print(f'{route["route"]:40}' + ''.join(f'{t:9,.1f}' for t in route['ours_ms']))
