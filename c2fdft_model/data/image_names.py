"""What images are called, whatever the file system, the locale or the LMDB they come from."""

import hashlib
import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import unquote

from c2fdft_model.images.image_io import IMAGE_SUFFIXES

LONGEST_NAME = 180
"""Bytes of a result's name, which gets an ending; most file systems allow 255."""


def canonical_name(name: str | os.PathLike[str]) -> str:
    """A file's name as it is compared: the same in every locale, accents composed.

    macOS decomposes accents; bytes that are not UTF-8 stay as they are (surrogates).
    """
    return unicodedata.normalize('NFC', os.fsencode(name).decode('utf-8', 'surrogateescape'))


def image_name(path: str) -> str:
    """The name of an image without folders and suffix, which its noise depends on.

    The same for a file and for its key in an LMDB.
    """
    return _without_suffix(path).rpartition('/')[2]


def _without_suffix(path: str) -> str:
    stem, suffix = os.path.splitext(path)
    if suffix.lower() in IMAGE_SUFFIXES:
        return canonical_name(stem).replace(os.sep, '/')
    # A key, which `lmdb.plan.key_of` has made of a path.
    return unicodedata.normalize('NFC', unquote(path, errors='surrogateescape'))


def result_names(paths: Iterable[str], folder: str | None) -> list[str]:
    """What the results of degraded images are called, each differently: a path without suffix.

    `paths` are files in or below `folder`, as `dataroot_lq` says it, or keys of an LMDB. Names that
    differ by suffix alone keep it.
    """
    below = [_below(path, folder) for path in paths]
    names = [_without_suffix(path) for path in below]
    counts = Counter(names)
    for number, path in enumerate(below):
        if counts[names[number]] > 1:
            names[number] = canonical_name(path)
    seen: Counter[str] = Counter()
    for number, name in enumerate(names):
        names[number] = _possible(f'{name}_{seen[name] + 1}' if seen[name] else name)
        seen[name] += 1
    return names


def _below(path: str, folder: str | None) -> str:
    if folder is not None and os.path.splitext(path)[1].lower() in IMAGE_SUFFIXES:
        start = os.path.join(folder, '')
        return path[len(start) :] if path.startswith(start) else os.path.basename(path)
    return path


def _possible(name: str) -> str:
    """A relative path that leads nowhere else and fits into a file system."""
    parts = [part for part in PurePosixPath(name).parts if part not in ('/', '..')]
    return '/'.join(map(_shortened, parts)) or 'image'


def _shortened(part: str) -> str:
    content = part.encode('utf-8', 'surrogateescape')
    if len(content) > LONGEST_NAME:
        digest = hashlib.sha256(content).hexdigest()[:8]
        start = content[: LONGEST_NAME - 10].decode('utf-8', 'ignore')
        content = f'{start}--{digest}'.encode()
    return os.fsdecode(content)  # as names of files are spelt in this locale


def degraded_paths(dataset: Any) -> Sequence[str] | None:
    """The degraded images of one of our data sets or BasicSR's; None if it does not tell."""
    if hasattr(dataset, 'pairs'):
        return [dataset.reader.lq_path(pair) for pair in dataset.pairs]
    paths = getattr(dataset, 'paths', None)
    if not isinstance(paths, list):
        return None
    found = [path.get('lq_path') if isinstance(path, dict) else path for path in paths]
    return [str(path) for path in found] if all(found) else None
