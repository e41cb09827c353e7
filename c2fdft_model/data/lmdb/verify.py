"""Reading a pair of LMDBs back and comparing every pixel with its source."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import lmdb
import numpy as np

from c2fdft_model.data.lmdb.plan import PairSource, StoreOptions, load_pair, windows_of
from c2fdft_model.data.lmdb.write_pairs import ordered_map
from c2fdft_model.data.pairing import read_meta_info
from c2fdft_model.images.image_crops import open_image
from c2fdft_model.images.image_io import ImageReadError, decode_rgb


def verify_pairs(
    sources: Sequence[PairSource],
    lq_path: str | Path,
    gt_path: str | Path,
    options: StoreOptions | None = None,
    *,
    threads: int | None = None,
    progress: Callable[[int], object] = lambda entries: None,
) -> list[str]:
    """Read every entry back and compare it with its source; returns what differs, in words.

    Raises PairingError if the LMDBs are not readable in BasicSR's format at all.
    """
    options = options or StoreOptions()
    problems = []
    planned = {w.key: (w.height, w.width) for s in sources for w in windows_of(s, options)}
    for path in (lq_path, gt_path):
        listed = read_meta_info(path)
        problems += [f'{path}: {key} is missing.' for key in planned.keys() - listed.keys()]
        problems += [f'{path}: {key} is too many.' for key in listed.keys() - planned.keys()]
        problems += [
            f'{path}: {key} is listed as {listed[key]}, not {size}.'
            for key, size in planned.items()
            if listed.get(key, size) != size
        ]
    with (
        _reader(lq_path) as lq_environment,
        _reader(gt_path) as gt_environment,
        ThreadPoolExecutor(threads or os.cpu_count() or 1) as pool,
    ):
        compare = _Comparison(options, ((lq_path, lq_environment), (gt_path, gt_environment)))
        for source, found in zip(sources, ordered_map(pool, compare, sources), strict=True):
            problems += found
            progress(len(windows_of(source, options)))
    return sorted(problems)


@dataclass(frozen=True)
class _Comparison:
    """Says in which entries of a pair the stored pixels differ from the source's."""

    options: StoreOptions
    stores: tuple[tuple[str | Path, lmdb.Environment], ...]

    def __call__(self, source: PairSource) -> list[str]:
        problems = []
        for image, (path, environment) in zip(load_pair(source), self.stores, strict=True):
            with environment.begin() as transaction:
                for window in windows_of(source, self.options):
                    data = transaction.get(window.key.encode())
                    problem = _difference(data, window.cut(image), window.key)
                    if problem:
                        problems.append(f'{path}: {problem}')
        return problems


def _difference(data: bytes | None, truth: np.ndarray, key: str) -> str:
    if data is None:
        return f'{key} is listed but not stored.'
    try:
        stored = decode_rgb(data, key)
        opened = open_image(data, key)
        by_crop = opened.crop(0, 0, opened.height, opened.width)
    except ImageReadError as error:
        return str(error)
    same = all(i.dtype == truth.dtype and np.array_equal(i, truth) for i in (stored, by_crop))
    return '' if same else f'{key} differs from its source.'


def _reader(path: str | Path) -> lmdb.Environment:
    return lmdb.open(str(path), readonly=True, lock=False, readahead=False)
