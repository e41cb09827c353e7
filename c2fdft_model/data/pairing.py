"""Finding which degraded image belongs to which clean one, in folders and in LMDBs."""

import os
import re
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import lmdb
import numpy as np

from c2fdft_arch.common.errors import C2FDFTError
from c2fdft_arch.common.messages import shortened
from c2fdft_model.images.image_io import IMAGE_SUFFIXES, ImageReadError, image_size, read_rgb

_META_LINE = re.compile(r'(?P<key>.+)\.[^.\s]+ \((?P<h>\d+),\s*(?P<w>\d+),\s*(?P<c>\d+)\) \d+\s*')
SHOWN = 10
"""So many files or problems are named in a message."""


class PairingError(C2FDFTError, ValueError):
    """Two image sets that do not fit together; the text names the images."""


@dataclass(frozen=True)
class ImagePair:
    """A degraded image and its clean one: LMDB keys, or paths relative to their folders.

    `name` is what both have in common: the clean image's path without suffix, or what fills the
    templates.
    """

    name: str
    lq: str
    gt: str


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


def list_images(folder: str | Path) -> list[str]:
    """Image files in a folder and below it, as sorted relative paths with forward slashes.

    Raises PairingError if there is no such folder or no image in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise PairingError(f'{folder}: there is no such folder.')
    found = [
        (Path(place) / name).relative_to(folder).as_posix()
        for place, _, names in os.walk(folder, followlinks=True)
        for name in names
        if name.lower().endswith(IMAGE_SUFFIXES) and not name.startswith('.')
    ]
    if not found:
        raise PairingError(f'{folder}: there is no image in it ({", ".join(IMAGE_SUFFIXES)}).')
    return sorted(found)


def pair_folders(
    lq_folder: str | Path,
    gt_folder: str | Path,
    lq_template: str = '{}',
    gt_template: str = '{}',
) -> list[ImagePair]:
    """The pairs of two folders, matched by name as `match_files` does.

    Raises PairingError if a folder has no images, and naming images without a partner.
    """
    lq_files, gt_files = list_images(lq_folder), list_images(gt_folder)
    pairs, *unmatched = match_files(lq_files, gt_files, lq_template, gt_template)
    sides = f'degraded images ({lq_template})', f'clean images ({gt_template})'
    for files, side in zip(unmatched, sides, strict=True):
        if files:
            raise PairingError(f'{len(files)} {side} have no partner: {shortened(files, SHOWN)}.')
    return pairs


def match_files(
    lq_files: Sequence[str],
    gt_files: Sequence[str],
    lq_template: str = '{}',
    gt_template: str = '{}',
) -> tuple[list[ImagePair], list[str], list[str]]:
    """Match relative paths by what stands for `{}` in their templates, which leave out suffixes.

    With `lq_template='{}x2'` the clean `a/b.png` belongs to `a/bx2.jpg`. A template may hold
    several `{}`; all must agree. Of several files that differ by suffix alone, those with the same
    suffix belong together. Returns the pairs, and the degraded and the clean files without a
    partner.

    Raises PairingError if it is not clear what belongs together.
    """
    lq_names, gt_names = _by_name(lq_files, lq_template), _by_name(gt_files, gt_template)
    pairs = []
    for name in sorted(lq_names.keys() & gt_names.keys()):
        lq_group, gt_group = lq_names[name], gt_names[name]
        if len(lq_group) == len(gt_group) == 1:
            pairs.append(ImagePair(name, lq_group[0], gt_group[0]))
        else:
            pairs += _pair_by_suffix(name, lq_group, gt_group)
    return pairs, _without(lq_names, gt_names), _without(gt_names, lq_names)


def listed_pairs(meta_info_file: str | Path, lq_template: str = '{}') -> list[ImagePair]:
    """The pairs that a text file selects: each line begins with the path of a clean image.

    As in BasicSR, a degraded image lies at the top of its folder and has the clean one's suffix.
    Raises OSError if the file cannot be read.
    """
    pairs = []
    lines = Path(meta_info_file).read_text().splitlines()
    for gt in (os.path.normpath(line.strip().split(' ')[0]) for line in lines if line.strip()):
        stem, suffix = os.path.splitext(os.path.basename(gt))
        pairs.append(ImagePair(os.path.splitext(gt)[0], lq_template.format(stem) + suffix, gt))
    return pairs


def _by_name(files: Iterable[str], template: str) -> dict[str, list[str]]:
    if '{}' not in template:
        raise PairingError(f'template {template!r}: there must be a {{}} for what pairs share.')
    # A greedy first group may span folders, the others stay within one name.
    first, *others = (re.escape(part) for part in template.split('{}'))
    pattern = re.compile(first + '(.+)' + '([^/]+)'.join(others))
    names: dict[str, list[str]] = {}
    for file in files:
        match = pattern.fullmatch(os.path.splitext(file)[0])
        if match:
            names.setdefault('/'.join(match.groups()), []).append(file)
    if not names:
        raise PairingError(f'template {template!r}: no file fits it, e.g. {next(iter(files), "")}.')
    return names


def _without(ours: dict[str, list[str]], theirs: dict[str, list[str]]) -> list[str]:
    return sorted(file for name in ours.keys() - theirs.keys() for file in ours[name])


def _pair_by_suffix(name: str, lq_group: list[str], gt_group: list[str]) -> list[ImagePair]:
    lq_suffixes = {os.path.splitext(file)[1].lower(): file for file in lq_group}
    gt_suffixes = {os.path.splitext(file)[1].lower(): file for file in gt_group}
    if lq_suffixes.keys() != gt_suffixes.keys() or len(lq_suffixes) != len(lq_group):
        raise PairingError(
            f'{name}: it is not clear which of {", ".join(lq_group)} belongs to which of '
            f'{", ".join(gt_group)}.'
        )
    return [ImagePair(name + s, lq_suffixes[s], gt_suffixes[s]) for s in sorted(gt_suffixes)]


def check_sizes(
    lq_folder: str | Path, gt_folder: str | Path, pairs: Sequence[ImagePair], scale: int = 1
) -> list[tuple[int, int]]:
    """Read the headers of all files; returns height and width of each clean image.

    Raises PairingError naming the files that are no images, and pairs of different sizes.
    """
    found = sizes_or_problems(lq_folder, gt_folder, pairs, scale)
    _raise_if_any([text for text in found if isinstance(text, str)], 'pairs cannot be used')
    return [size for size in found if not isinstance(size, str)]


def sizes_or_problems(
    lq_folder: str | Path, gt_folder: str | Path, pairs: Sequence[ImagePair], scale: int = 1
) -> list[tuple[int, int] | str]:
    """For each pair, height and width of its clean image, or in words why it cannot be used."""

    def check(pair: ImagePair) -> tuple[int, int] | str:
        lq, gt = Path(lq_folder, pair.lq), Path(gt_folder, pair.gt)
        try:
            lq_size, gt_size = image_size(lq), image_size(gt)
        except ImageReadError as error:
            return str(error)
        if (lq_size[0] * scale, lq_size[1] * scale) == gt_size:
            return gt_size
        return f'{lq} is {_size(lq_size)}, {gt} is {_size(gt_size)}.'

    with ThreadPoolExecutor(8) as threads:
        return list(threads.map(check, pairs))


def _size(size: tuple[int, int]) -> str:
    return f'{size[1]} x {size[0]}'


def _raise_if_any(problems: list[str], what: str) -> None:
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


def read_meta_info(folder: str | Path) -> dict[str, tuple[int, int]]:
    """Keys of an LMDB of images in BasicSR's format, with height and width.

    Only the last dot of a name separates its suffix, so that keys with dots are read rightly.

    Raises PairingError if there is no such LMDB, or it has no valid `meta_info.txt`.
    """
    folder = Path(folder)
    if not (folder / 'data.mdb').is_file():
        raise PairingError(
            f'{folder}: there is no LMDB (no data.mdb in it); scripts/prepare_lmdb.py writes one.'
        )
    meta = folder / 'meta_info.txt'
    if not meta.is_file():
        raise PairingError(
            f'{folder}: meta_info.txt is missing, so it is unfinished or not an LMDB of images in '
            "BasicSR's format; write it again with scripts/prepare_lmdb.py."
        )
    sizes = {}
    for number, line in enumerate(meta.read_text(encoding='utf-8').splitlines(), 1):
        match = _META_LINE.fullmatch(line)
        if match is None:
            raise PairingError(
                f'{meta}: line {number} is {line[:60]!r}; "name.png (height,width,channels) '
                'compression" is expected.'
            )
        sizes[match['key']] = (int(match['h']), int(match['w']))
    if not sizes:
        raise PairingError(f'{folder}: meta_info.txt lists no image.')
    return sizes


def pair_lmdbs(lq_folder: str | Path, gt_folder: str | Path, scale: int = 1) -> list[ImagePair]:
    """The pairs of two LMDBs, sorted by key, after checking them for completeness.

    Raises PairingError if keys or sizes differ, or if an LMDB lacks an image that it lists.
    """
    lq, gt = read_meta_info(lq_folder), read_meta_info(gt_folder)
    if lq.keys() != gt.keys():
        only_lq, only_gt = sorted(lq.keys() - gt.keys()), sorted(gt.keys() - lq.keys())
        raise PairingError(
            f'{lq_folder} and {gt_folder} are not of one image set: '
            f'{len(only_lq)} keys are in the first alone ({shortened(only_lq)}), '
            f'{len(only_gt)} in the second alone ({shortened(only_gt)}).'
        )
    problems = [
        f'{key}: {_size(lq[key])} in {lq_folder}, {_size(gt[key])} in {gt_folder}.'
        for key in sorted(gt)
        if (lq[key][0] * scale, lq[key][1] * scale) != gt[key]
    ]
    _raise_if_any(problems, 'pairs are of different sizes')
    for folder in (lq_folder, gt_folder):
        _check_entries(folder, gt)
    return [ImagePair(key, key, key) for key in sorted(gt)]


def _check_entries(folder: str | Path, keys: Iterable[str]) -> None:
    try:
        with (
            lmdb.open(str(folder), readonly=True, lock=False, readahead=False) as environment,
            environment.begin() as transaction,
            transaction.cursor() as cursor,
        ):
            missing = [key for key in keys if not cursor.set_key(key.encode())]
    except lmdb.Error as error:
        if 'already open' in str(error):  # by another data set of this process
            return
        raise PairingError(f'{folder}: the LMDB cannot be opened ({error}).') from error
    if missing:
        raise PairingError(
            f'{folder}: {len(missing)} images of meta_info.txt are not in data.mdb, e.g. '
            f'{missing[0]}: it is unfinished or of another image set; write it again with '
            'scripts/prepare_lmdb.py.'
        )
