"""Reading a pair of LMDBs back and comparing every pixel with its source."""

from collections.abc import Callable, Sequence
from pathlib import Path

import lmdb
import numpy as np

from c2fdft_model.data.lmdb.plan import StoreOptions, SubImage, load_pair, sub_images
from c2fdft_model.data.lmdb.write_pairs import ordered_map
from c2fdft_model.data.lmdb_contents import read_meta_info
from c2fdft_model.data.pair_sources import PairSource
from c2fdft_model.images.image_io import ImageReadError, decode_rgb
from c2fdft_model.images.indexed_png import open_image


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
    planned = {i.key: (i.height, i.width) for s in sources for i in sub_images(s, options)}
    for path in (lq_path, gt_path):
        listed = read_meta_info(path)
        problems += [f'{path}: {key} is missing.' for key in planned.keys() - listed.keys()]
        problems += [f'{path}: {key} is too many.' for key in listed.keys() - planned.keys()]
        problems += [
            f'{path}: {key} is listed as {listed[key]}, not {size}.'
            for key, size in planned.items()
            if listed.get(key, size) != size
        ]
    with _reader(lq_path) as lq_lmdb, _reader(gt_path) as gt_lmdb:

        def compare(source: PairSource) -> list[str]:
            images = sub_images(source, options)
            try:
                lq, gt = load_pair(source)
            except ImageReadError as error:
                return [str(error)]
            return [
                *_differences(lq_lmdb, lq_path, images, lq),
                *_differences(gt_lmdb, gt_path, images, gt),
            ]

        for source, found in zip(sources, ordered_map(compare, sources, threads), strict=True):
            problems += found
            progress(len(sub_images(source, options)))
    return sorted(problems)


def _differences(
    environment: lmdb.Environment, path: str | Path, images: list[SubImage], whole: np.ndarray
) -> list[str]:
    with environment.begin() as transaction:
        found = [
            _difference(transaction.get(image.key.encode()), image.crop(whole), image.key)
            for image in images
        ]
    return [f'{path}: {problem}' for problem in found if problem]


def _difference(data: bytes | None, source: np.ndarray, key: str) -> str:
    if data is None:
        return f'{key} is listed but not stored.'
    try:
        decoded = decode_rgb(data, key)
        opened = open_image(data, key)
        by_crop = opened.crop(0, 0, opened.height, opened.width)
    except ImageReadError as error:
        return str(error)
    same = all(i.dtype == source.dtype and np.array_equal(i, source) for i in (decoded, by_crop))
    return '' if same else f'{key} differs from its source.'


def _reader(path: str | Path) -> lmdb.Environment:
    return lmdb.open(str(path), readonly=True, lock=False, readahead=False)
