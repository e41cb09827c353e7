"""The images of LMDBs in BasicSR's format: which there are, and which pair."""

import re
from collections.abc import Iterable
from pathlib import Path

import lmdb

from c2fdft_arch.common.messages import shortened
from c2fdft_model.data.pair_sources import raise_if_any, size_in_words
from c2fdft_model.data.pairing import ImagePair, PairingError

WRITE = '`c2fdft prepare-lmdb` or `c2fdft prepare-dataset`'
_META_LINE = re.compile(r'(?P<key>.+)\.[^.\s]+ \((?P<h>\d+),\s*(?P<w>\d+),\s*(?P<c>\d+)\) \d+\s*')


def read_meta_info(folder: str | Path) -> dict[str, tuple[int, int]]:
    """Keys of an LMDB of images in BasicSR's format, with height and width.

    Only the last dot of a name separates its suffix, so that keys with dots are read rightly.

    Raises PairingError if there is no such LMDB, or it has no valid `meta_info.txt`.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise PairingError(f'{folder}: there is no such folder; {WRITE} writes one.')
    if not (folder / 'data.mdb').is_file():
        raise PairingError(f'{folder}: there is no LMDB (no data.mdb in it); {WRITE} writes one.')
    meta = folder / 'meta_info.txt'
    if not meta.is_file():
        raise PairingError(
            f'{folder}: meta_info.txt is missing, so it is unfinished or not an LMDB of images in '
            f"BasicSR's format; write it again with {WRITE}."
        )
    sizes = {}
    for number, line in enumerate(_lines(meta), 1):
        if not line.strip():
            continue
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


def _lines(meta: Path) -> list[str]:
    try:
        return meta.read_text(encoding='utf-8', errors='surrogateescape').split('\n')
    except OSError as error:
        raise PairingError(f'{meta}: {error.strerror or error}.') from error


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
        f'{key}: {size_in_words(lq[key])} in {lq_folder}, {size_in_words(gt[key])} in {gt_folder}.'
        for key in sorted(gt)
        if (lq[key][0] * scale, lq[key][1] * scale) != gt[key]
    ]
    raise_if_any(problems, 'pairs are of different sizes')
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
            missing = [
                key for key in keys if not cursor.set_key(key.encode(errors='surrogateescape'))
            ]
    except lmdb.Error as error:
        if 'already open' in str(error):  # by another data set of this process
            return
        raise PairingError(f'{folder}: the LMDB cannot be opened ({error}).') from error
    if missing:
        raise PairingError(
            f'{folder}: {len(missing)} images of meta_info.txt are not in data.mdb, e.g. '
            f'{missing[0]}: it is unfinished or of another image set; write it again with '
            f'{WRITE}.'
        )
