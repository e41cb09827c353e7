"""Which degraded image belongs to which clean one, by their names."""

import os
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from c2fdft_arch.common.errors import C2FDFTError
from c2fdft_arch.common.messages import nearest, printable, shortened
from c2fdft_model.data.image_listing import list_images
from c2fdft_model.data.image_names import canonical_name

SHOWN = 10
"""So many files or problems are named in a message."""
DATASET_KEYS = ('filename_tmpl:', 'filename_tmpl_gt:')
"""The templates as an option file spells them."""
_SHAPE = re.compile(r'\s+\(\s*\d+\s*,\s*\d+\s*(,\s*\d+\s*)?\).*')


class PairingError(C2FDFTError, ValueError):
    """Two image sets that do not fit together; the text names the images."""


@dataclass(frozen=True)
class ImagePair:
    """A degraded image and its clean one: LMDB keys, or paths relative to their folders.

    `name` is what both have in common: the clean image's path without suffix, or what fills the
    templates, in Unicode's composed form.
    """

    name: str
    lq: str
    gt: str


class Matched(NamedTuple):
    """Pairs, and the degraded and the clean files without a partner."""

    pairs: list[ImagePair]
    lq_unmatched: list[str]
    gt_unmatched: list[str]


def pair_folders(
    lq_folder: str | Path,
    gt_folder: str | Path,
    lq_template: str = '{}',
    gt_template: str = '{}',
    template_keys: tuple[str, str] = DATASET_KEYS,
) -> list[ImagePair]:
    """The pairs of two folders, matched by name as `match_files` does.

    Raises ListingError if a folder has no images, and PairingError naming both folders, the images
    without a partner and, where there are some, the templates that would pair them, under the
    caller's `template_keys`.
    """
    lq_files, gt_files = list_images(lq_folder).images, list_images(gt_folder).images
    where = f'{lq_folder} and {gt_folder}'
    one_folder = os.path.samefile(lq_folder, gt_folder)
    try:
        matched = match_files(lq_files, gt_files, lq_template, gt_template, one_folder=one_folder)
    except PairingError as error:
        raise PairingError(f'{where}: {error}') from error
    sides = (
        (matched.lq_unmatched, lq_files, 'degraded images have no clean one'),
        (matched.gt_unmatched, gt_files, 'clean images have no degraded one'),
    )
    missing = [
        f'{len(unmatched)} of {len(files)} {text}: {shortened(unmatched, SHOWN)}'
        for unmatched, files, text in sides
        if unmatched
    ]
    if missing:
        hint = template_hint(lq_files, gt_files, template_keys, more_than=len(matched.pairs))
        raise PairingError(f'{where} do not pair: {"; ".join(missing)}{hint}.')
    return matched.pairs


def match_files(
    lq_files: Sequence[str],
    gt_files: Sequence[str],
    lq_template: str = '{}',
    gt_template: str = '{}',
    *,
    one_folder: bool = False,
) -> Matched:
    """Match relative paths by what stands for `{}` in their templates, which leave out suffixes.

    With `lq_template='rain-{}'` the clean `a/b.png` belongs to `a/rain-b.jpg`. A template may hold
    several `{}`, of which all must agree, and folders. Of several files that differ by suffix
    alone, those with the same suffix belong together. Files that do not fit their template have no
    partner; with `one_folder`, for files of both kinds side by side, they are passed over.

    Raises PairingError if it is not clear what belongs together, or if no file fits a template.
    """
    lq_names, gt_names = by_name(lq_files, lq_template), by_name(gt_files, gt_template)
    pairs = [
        pair
        for name in sorted(lq_names.keys() & gt_names.keys())
        for pair in _pair_group(name, lq_names[name], gt_names[name])
    ]
    candidates = (
        _all(lq_names) if one_folder else lq_files,
        _all(gt_names) if one_folder else gt_files,
    )
    paired = {pair.lq for pair in pairs}, {pair.gt for pair in pairs}
    unmatched = (sorted(set(c) - p) for c, p in zip(candidates, paired, strict=True))
    return Matched(pairs, *unmatched)


def by_name(files: Iterable[str], template: str = '{}') -> dict[str, list[str]]:
    """Files that fit a template, by what fills it (see `match_files`).

    Raises PairingError if the template has no `{}`, or fits none of the files.
    """
    if '{}' not in template:
        raise PairingError(f'template {template!r}: there must be a {{}} for what pairs share.')
    pattern = re.compile('([^/]+)'.join(map(re.escape, canonical_name(template).split('{}'))))
    depth = template.count('/') + 1
    names: dict[str, list[str]] = {}
    for file in files:
        parts = canonical_name(os.path.splitext(file)[0]).split('/')
        if match := pattern.fullmatch('/'.join(parts[-depth:])):
            names.setdefault('/'.join([*parts[:-depth], *match.groups()]), []).append(file)
    if not names:
        example = printable(next(iter(files), ''))
        raise PairingError(f'template {template!r}: no file fits it, e.g. {example}.')
    return names


def _all(names: dict[str, list[str]]) -> list[str]:
    return [file for files in names.values() for file in files]


def _pair_group(name: str, lq_group: list[str], gt_group: list[str]) -> list[ImagePair]:
    """Pairs among files of one name; of several, those that are called alike up to the suffix."""
    if len(lq_group) == len(gt_group) == 1:
        return [ImagePair(name, lq_group[0], gt_group[0])]
    pairs = []
    for gt in sorted(gt_group):
        alike = [lq for lq in lq_group if lq == gt]
        alike = alike or [lq for lq in lq_group if _suffix(lq) == _suffix(gt)]
        if len(alike) == 1:
            pairs.append(ImagePair(name + _suffix(gt), alike[0], gt))
    if not pairs or len({pair.lq for pair in pairs}) < len(pairs):
        raise PairingError(
            f'{printable(name)}: it is not clear which of {shortened(lq_group, SHOWN)} belongs to '
            f'which of {shortened(gt_group, SHOWN)}.'
        )
    return pairs


def _suffix(file: str) -> str:
    return os.path.splitext(file)[1].lower()


def template_hint(
    lq_files: Sequence[str], gt_files: Sequence[str], keys: tuple[str, str], more_than: int = 0
) -> str:
    """In words, the templates that pair more files than `more_than`; empty if none are found.

    They are what the names of each side have in common at their start and end.
    """
    templates = _common_template(lq_files), _common_template(gt_files)
    if templates == ('{}', '{}'):
        return ''
    try:
        count = len(match_files(lq_files, gt_files, *templates).pairs)
    except PairingError:
        return ''
    given = ' '.join(f"{key} '{t}'" for key, t in zip(keys, templates, strict=True) if t != '{}')
    return f'. With {given} there would be {count} pairs' if count > more_than else ''


def _common_template(files: Sequence[str]) -> str:
    stems = [os.path.splitext(os.path.basename(file))[0] for file in files]
    # Digits number the images, even if all of them begin or end alike.
    start = os.path.commonprefix(stems).rstrip('0123456789')
    end = os.path.commonprefix([stem[len(start) :][::-1] for stem in stems])[::-1]
    end = end.lstrip('0123456789')
    return f'{start}{{}}{end}' if all(len(stem) > len(start + end) for stem in stems) else '{}'


def listed_pairs(
    meta_info_file: str | Path,
    lq_folder: str | Path,
    gt_folder: str | Path,
    lq_template: str = '{}',
    gt_template: str = '{}',
) -> list[ImagePair]:
    """The pairs that a text file selects: each line is the path of a clean image in its folder.

    A shape may follow, as in BasicSR's lists: `a/1.png (480,480,3)`. Unlike there, names may hold
    blanks, and the degraded image lies in the same subfolder.

    Raises PairingError naming the file and the line for an image that is not there or has no
    degraded one, and ListingError for folders without images.
    """
    lq_files, gt_files = list_images(lq_folder).images, list_images(gt_folder).images
    listed = _listed_files(meta_info_file, gt_folder, gt_files)
    matched = match_files(lq_files, sorted(set(listed)), lq_template, gt_template)
    if matched.gt_unmatched:
        raise PairingError(
            f'{meta_info_file}: {len(matched.gt_unmatched)} of {len(listed)} listed images have no '
            f'degraded one in {lq_folder}: {shortened(matched.gt_unmatched, SHOWN)}'
            f'{template_hint(lq_files, listed, DATASET_KEYS, len(matched.pairs))}.'
        )
    of_file = {pair.gt: pair for pair in matched.pairs}
    return [of_file[file] for file in listed]


def _listed_files(path: str | Path, gt_folder: str | Path, gt_files: list[str]) -> list[str]:
    """The files that a list names, in its order."""
    try:
        text = Path(path).read_bytes().decode('utf-8-sig', 'surrogateescape')
    except OSError as error:
        raise PairingError(f'meta_info_file: {path}: {error.strerror or error}.') from error
    known = {canonical_name(file): file for file in gt_files}
    listed: list[str] = []
    for number, line in enumerate(text.split('\n'), 1):
        if not line.strip():
            continue
        candidates = (line.strip(), _SHAPE.sub('', line.strip()), line.split()[0])
        paths = (os.path.normpath(candidate.replace('\\', '/')) for candidate in candidates)
        names = [unicodedata.normalize('NFC', path) for path in paths]
        file = next((known[name] for name in names if name in known), None)
        if file is None:
            hint = nearest(names[1], known)
            raise PairingError(
                f'{path}, line {number}: there is no image {printable(names[1])} in {gt_folder}'
                f'{hint}.'
            )
        listed.append(file)
    if not listed:
        raise PairingError(f'{path} lists no image.')
    return listed
