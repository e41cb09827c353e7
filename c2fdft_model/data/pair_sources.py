"""Pairs of image files to be stored: their sizes, known before anything is written."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from c2fdft_arch.common.messages import printable
from c2fdft_model.data.pairing import SHOWN, ImagePair, PairingError
from c2fdft_model.images.image_io import ImageReadError, image_size, read_rgb

MeasureSize = Callable[[Path], tuple[int, int]]
"""Height and width of an image file; raises ImageReadError."""


@dataclass(frozen=True)
class PairSource:
    """A pair of images to be stored, and how to get hold of its pixels.

    `load` returns the degraded and the clean image, (H, W, 3) RGB uint8 or uint16 of `size`
    (height, width). `stamp` changes if the pixels do. `lq` and `gt` say where they come from.
    """

    name: str
    size: tuple[int, int]
    stamp: str
    lq: str
    gt: str
    load: Callable[[], tuple[np.ndarray, np.ndarray]]


def decoded_size(path: Path) -> tuple[int, int]:
    """Height and width of an image, all of which is decoded. Raises ImageReadError."""
    height, width = read_rgb(path).shape[:2]
    return height, width


def check_sizes(
    lq_folder: str | Path,
    gt_folder: str | Path,
    pairs: Sequence[ImagePair],
    scale: int = 1,
    measure: MeasureSize = image_size,
) -> list[tuple[int, int]]:
    """Read the headers of all files, or what `measure` reads; returns the clean images' sizes.

    Sizes are (height, width).

    Raises PairingError naming the files that are no images, and pairs of different sizes.
    """
    found = sizes_or_problems(lq_folder, gt_folder, pairs, scale, measure)
    raise_if_any([text for text in found if isinstance(text, str)], 'pairs cannot be used')
    return [size for size in found if not isinstance(size, str)]


def sizes_or_problems(
    lq_folder: str | Path,
    gt_folder: str | Path,
    pairs: Sequence[ImagePair],
    scale: int = 1,
    measure: MeasureSize = image_size,
) -> list[tuple[int, int] | str]:
    """For each pair, height and width of its clean image, or in words why it cannot be used."""

    def check(pair: ImagePair) -> tuple[int, int] | str:
        lq, gt = Path(lq_folder, pair.lq), Path(gt_folder, pair.gt)
        sizes, problems = [], []
        for path in (lq, gt):
            try:
                sizes.append(measure(path))
            except ImageReadError as error:
                problems.append(str(error))
        if problems:
            return ' '.join(problems)
        lq_size, gt_size = sizes
        if (lq_size[0] * scale, lq_size[1] * scale) == gt_size:
            return gt_size
        names = printable(lq), printable(gt)
        return f'{names[0]} is {size_in_words(lq_size)}, {names[1]} is {size_in_words(gt_size)}.'

    with ThreadPoolExecutor(8) as threads:
        return list(threads.map(check, pairs))


def size_in_words(size: tuple[int, int]) -> str:
    """`width x height` of (height, width)."""
    return f'{size[1]} x {size[0]}'


def raise_if_any(problems: list[str], what: str) -> None:
    """Raise PairingError with the first of the problems, if there are any."""
    if problems:
        more = [f'... and {len(problems) - SHOWN} more'] if len(problems) > SHOWN else []
        listed = '\n  '.join(problems[:SHOWN] + more)
        raise PairingError(f'{len(problems)} {what}:\n  {listed}')


def file_sources(
    lq_folder: str | Path, gt_folder: str | Path, pairs: Sequence[ImagePair]
) -> list[PairSource]:
    """Sources for pairs of files, after reading their headers.

    Raises PairingError naming files that are no images, and pairs of different sizes.
    """
    sources = []
    for pair, size in zip(pairs, check_sizes(lq_folder, gt_folder, pairs), strict=True):
        lq, gt = Path(lq_folder, pair.lq), Path(gt_folder, pair.gt)
        load = partial(_read_both, lq, gt)
        sources.append(PairSource(pair.name, size, file_stamp(lq, gt), str(lq), str(gt), load))
    return sources


def _read_both(lq: Path, gt: Path) -> tuple[np.ndarray, np.ndarray]:
    return read_rgb(lq), read_rgb(gt)


def file_stamp(*paths: Path) -> str:
    """Sizes and times of files, which change if the files do."""
    return ' '.join(f'{p.stat().st_size}:{p.stat().st_mtime_ns}' for p in paths)
