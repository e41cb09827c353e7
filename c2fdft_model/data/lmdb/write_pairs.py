"""Writing pairs of images into two LMDBs in BasicSR's format, so that a crash never shows."""

import contextlib
import os
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from c2fdft_arch.common.messages import printable
from c2fdft_model.data.lmdb.plan import StoreOptions, SubImage, fingerprint, load_pair, sub_images
from c2fdft_model.data.lmdb.writer import LmdbWriter
from c2fdft_model.data.pair_sources import PairSource
from c2fdft_model.data.pairing import PairingError
from c2fdft_model.images.image_io import ImageReadError

COMMIT_BYTES = 64 * 2**20

Item = TypeVar('Item')
Result = TypeVar('Result')
Encoded = list[tuple[str, bytes, bytes]]
"""Entries of a pair: key, degraded and clean image as stored."""


@dataclass(frozen=True)
class Summary:
    """What a run of `write_pairs` did."""

    images: int
    entries: int
    already_there: int
    seconds: float


def write_pairs(
    sources: Sequence[PairSource],
    lq_path: str | Path,
    gt_path: str | Path,
    options: StoreOptions | None = None,
    *,
    overwrite: bool = False,
    threads: int | None = None,
    progress: Callable[[int], object] = lambda entries: None,
) -> Summary:
    """Store all pairs, or those that an earlier run has not stored, in two LMDBs.

    Images are decoded and encoded in parallel. `progress` is told how many entries were added.

    Raises ImageReadError naming all files that cannot be read, after the others have been stored,
    and LmdbWriteError if they cannot be stored.
    """
    options = options or StoreOptions()
    started = time.monotonic()
    planned = _planned(sources, options)
    digest = fingerprint(sources, options)
    with contextlib.ExitStack() as stack:
        writers = [
            stack.enter_context(contextlib.closing(LmdbWriter(path, digest, overwrite)))
            for path in (lq_path, gt_path)
        ]
        stored = {image.key for _, image in planned}
        for writer in writers:
            stored = writer.stored(stored)
        progress(len(stored))
        missing = {source.name: source for source, image in planned if image.key not in stored}
        encode = partial(_encode_pair, options=options)
        problems: list[str] = []
        for batch in _batches(ordered_map(encode, missing.values(), threads), problems):
            writers[0].put([(key, lq) for key, lq, _ in batch])
            writers[1].put([(key, gt) for key, _, gt in batch])
            progress(sum(key not in stored for key, _, _ in batch))
        if problems:
            listed = '\n  '.join(problems)
            raise ImageReadError(f'{len(problems)} pairs cannot be read:\n  {listed}')
        _finish(writers, planned, options)
    return Summary(len(sources), len(planned), len(stored), time.monotonic() - started)


def _planned(
    sources: Sequence[PairSource], options: StoreOptions
) -> list[tuple[PairSource, SubImage]]:
    """Every image that is stored, and the pair that it comes from; no two have the same key."""
    planned = [(source, image) for source in sources for image in sub_images(source, options)]
    if repeated := [k for k, n in Counter(image.key for _, image in planned).items() if n > 1]:
        raise PairingError(f'two images would be stored under the key {repeated[0]}.')
    return planned


def _finish(
    writers: Sequence[LmdbWriter],
    planned: Sequence[tuple[PairSource, SubImage]],
    options: StoreOptions,
) -> None:
    """Write what says what the LMDBs hold; put them in their places once both are whole."""
    images = [image for _, image in planned]
    for writer, side in zip(writers, ('lq', 'gt'), strict=True):
        origins = [f'{i.key}\t{printable(getattr(s, side))}\t{i.top},{i.left}' for s, i in planned]
        writer.finish(images, origins, options)
    for writer in writers:
        writer.publish()


def _encode_pair(source: PairSource, options: StoreOptions) -> Encoded | str:
    """The entries of a pair, or in words why it cannot be read."""
    try:
        lq, gt = load_pair(source)
    except ImageReadError as error:
        return str(error)
    return [
        (image.key, options.encode(image.crop(lq)), options.encode(image.crop(gt)))
        for image in sub_images(source, options)
    ]


def _batches(results: Iterable[Encoded | str], problems: list[str]) -> Iterator[Encoded]:
    """Entries of several images together, as large as one commit should be; texts go elsewhere."""
    batch: Encoded = []
    size = 0
    for entries in results:
        if isinstance(entries, str):
            problems.append(entries)
            continue
        batch += entries
        size += sum(len(lq) + len(gt) for _, lq, gt in entries)
        if size >= COMMIT_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def ordered_map(
    function: Callable[[Item], Result], items: Iterable[Item], threads: int | None = None
) -> Iterator[Result]:
    """Like `ThreadPoolExecutor.map`, but at most a few results ahead of what was taken.

    `threads` is the number of CPUs by default.
    """
    threads = threads or os.cpu_count() or 1
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) > threads + 2:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
