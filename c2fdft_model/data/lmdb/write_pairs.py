"""Writing pairs of images into two LMDBs in BasicSR's format, so that a crash never shows."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from c2fdft_model.data.lmdb.plan import (
    PairSource,
    StoreOptions,
    Window,
    fingerprint,
    load_pair,
    windows_of,
)
from c2fdft_model.data.lmdb.writer import LmdbWriter

COMMIT_BYTES = 64 * 2**20

Item = TypeVar('Item')
Result = TypeVar('Result')
Encoded = list[tuple[str, bytes, bytes]]


@dataclass(frozen=True)
class Summary:
    """What a run of `write_pairs` did."""

    images: int
    entries: int
    already_there: int
    bytes_written: int
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

    Raises ImageReadError naming a file that cannot be read, LmdbWriteError if it cannot be stored.
    """
    options = options or StoreOptions()
    started = time.monotonic()
    windows = {source.name: windows_of(source, options) for source in sources}
    everything = [window for source in sources for window in windows[source.name]]
    _refuse_equal_keys(everything)
    digest = fingerprint(sources, options)
    targets = [LmdbWriter(path, digest, overwrite) for path in (lq_path, gt_path)]
    try:
        stored = _stored_in_both(targets, everything)
        progress(len(stored))
        todo = [s for s in sources if any(w.key not in stored for w in windows[s.name])]
        written = 0
        with ThreadPoolExecutor(threads or os.cpu_count() or 1) as pool:
            results = ordered_map(pool, _Encoder(windows, options), todo)
            for batch in _batches(results):
                targets[0].put([(key, lq) for key, lq, _ in batch])
                targets[1].put([(key, gt) for key, _, gt in batch])
                written += sum(len(lq) + len(gt) for _, lq, gt in batch)
                progress(sum(key not in stored for key, _, _ in batch))
        for target, side in zip(targets, ('lq', 'gt'), strict=True):
            target.finish(everything, _origins(sources, windows, side), options)
    finally:
        for target in targets:
            target.close()
    seconds = time.monotonic() - started
    return Summary(len(sources), len(everything), len(stored), written, seconds)


def _origins(
    sources: Sequence[PairSource], windows: dict[str, list[Window]], side: str
) -> list[str]:
    return [
        f'{w.key}\t{getattr(s, side)}\t{w.top},{w.left}' for s in sources for w in windows[s.name]
    ]


@dataclass(frozen=True)
class _Encoder:
    """Reads a pair and gives its entries: key, degraded bytes, clean bytes."""

    windows: dict[str, list[Window]]
    options: StoreOptions

    def __call__(self, source: PairSource) -> Encoded:
        lq, gt = load_pair(source)
        return [
            (w.key, self.options.encode(w.cut(lq)), self.options.encode(w.cut(gt)))
            for w in self.windows[source.name]
        ]


def _refuse_equal_keys(windows: Iterable[Window]) -> None:
    seen: set[str] = set()
    for window in windows:
        if window.key in seen:
            raise ValueError(f'two images would be stored under the key {window.key}.')
        seen.add(window.key)


def _stored_in_both(targets: Sequence[LmdbWriter], windows: Sequence[Window]) -> set[str]:
    stored = {window.key for window in windows}
    for target in targets:
        keys = target.keys()
        stored = stored if keys is None else stored & keys
    return stored


def _batches(results: Iterable[Encoded]) -> Iterator[Encoded]:
    """Entries of several images together, as large as one commit should be."""
    batch: Encoded = []
    size = 0
    for entries in results:
        batch += entries
        size += sum(len(lq) + len(gt) for _, lq, gt in entries)
        if size >= COMMIT_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def ordered_map(
    pool: ThreadPoolExecutor, function: Callable[[Item], Result], items: Iterable[Item]
) -> Iterator[Result]:
    """Like `pool.map`, but at most a few results ahead of what was taken."""
    waiting: deque[Future[Result]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > pool._max_workers + 2:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()
