"""The data sets of the paper: how their publishers pack them, and how many pairs they have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from c2fdft_model.data.lmdb.plan import PairSource
from c2fdft_model.data.mat_files import (
    DND_BOXES,
    DND_IMAGES,
    SIDD_BLOCKS,
    read_array,
    read_dnd_boxes,
    read_sidd_blocks,
    variable_names,
)
from c2fdft_model.data.pairing import (
    ImagePair,
    PairingError,
    list_images,
    match_files,
    shortened,
    sizes_or_problems,
)

SIDD_NOISY, SIDD_CLEAN = 'ValidationNoisyBlocksSrgb', 'ValidationGtBlocksSrgb'


@dataclass(frozen=True)
class Layout:
    """Where the pairs of a part lie below the root, and how names match (see `match_files`)."""

    lq: str
    gt: str
    lq_template: str = '{}'
    gt_template: str = '{}'

    def __str__(self) -> str:
        if self.lq == self.gt:
            return f'{self.lq}/{self.lq_template} with {self.gt_template}'
        return f'{self.lq} with {self.gt}'


@dataclass(frozen=True)
class Split:
    """A training or test set: the layouts it may have, its number of pairs, its place with us.

    Training parts become LMDBs, test parts stay folders of files.
    """

    place: str
    count: int
    layouts: tuple[Layout, ...]

    @property
    def is_training(self) -> bool:
        """Whether it is trained with."""
        return self.place.startswith('train/')


@dataclass
class SplitReport:
    """What was found of a part: the pairs, and what is missing or odd, in words."""

    part: Split
    lq_folder: Path
    gt_folder: Path
    pairs: list[ImagePair]
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def _input_target(place: str, count: int, *more: Layout) -> Split:
    return Split(place, count, (Layout(f'{place}/input', f'{place}/target'), *more))


def rain13k() -> list[Split]:
    """Rain13K and its five test sets."""
    tests = {'Test100': 100, 'Rain100H': 100, 'Rain100L': 100, 'Test1200': 1200, 'Test2800': 2800}
    return [
        _input_target('train/Rain13K', 13712),
        *(_input_target(f'test/{name}', count) for name, count in tests.items()),
    ]


def gopro(blur: str = 'blur') -> list[Split]:
    """GoPro, as folders of pairs or as the original sequences; `blur` or `blur_gamma`."""

    def part(role: str, count: int) -> Split:
        originals = (
            Layout(folder, folder, '{}/' + blur + '/{}', '{}/sharp/{}')
            for folder in (f'GOPRO_Large/{role}', role)
        )
        return _input_target(f'{role}/GoPro', count, *originals)

    return [part('train', 2103), part('test', 1111)]


def realblur() -> list[Split]:
    """The test sets of RealBlur."""
    return [_input_target(f'test/RealBlur_{kind}', 980) for kind in 'JR']


def sidd() -> list[Split]:
    """SIDD-Medium; its validation blocks are arrays, see `sidd_validation`."""
    templates = ('{}_NOISY_SRGB_{}', '{}_GT_SRGB_{}')
    folders = ('SIDD_Medium_Srgb/Data', 'Data', 'train/SIDD_Medium_Srgb/Data')
    return [Split('train/SIDD', 320, tuple(Layout(f, f, *templates) for f in folders))]


def find_part(root: Path, part: Split) -> SplitReport | None:
    """Look for a part below `root`; None if none of its layouts is there."""
    first_failure = None
    for layout in part.layouts:
        lq_folder, gt_folder = root / layout.lq, root / layout.gt
        if not (lq_folder.is_dir() or gt_folder.is_dir()):
            continue
        try:
            lq_files, gt_files = list_images(lq_folder), list_images(gt_folder)
            matched = match_files(lq_files, gt_files, layout.lq_template, layout.gt_template)
        except PairingError as error:
            # The folder may be there for another layout.
            first_failure = first_failure or SplitReport(
                part, lq_folder, gt_folder, [], [str(error)]
            )
            continue
        return _judge(SplitReport(part, lq_folder, gt_folder, matched[0]), *matched[1:], lq_files)
    return first_failure


def _judge(
    found: SplitReport, lonely_lq: Sequence[str], lonely_gt: Sequence[str], lq_files: Sequence[str]
) -> SplitReport:
    for lonely, folder, what in (
        (lonely_lq, found.lq_folder, 'clean'),
        (lonely_gt, found.gt_folder, 'degraded'),
    ):
        if lonely:
            found.problems.append(
                f'{folder}: {len(lonely)} images have no {what} partner: {shortened(lonely)}.'
            )
    if len(found.pairs) != found.part.count:
        found.problems.append(
            f'{found.part.place}: {len(found.pairs):,} pairs found, the published data set has '
            f'{found.part.count:,}.'
        )
    _drop_unusable(found)
    kinds = {kind for kind in ('blur', 'blur_gamma') if any(f'/{kind}/' in f for f in lq_files)}
    used = {Path(pair.lq).parent.name for pair in found.pairs} & {'blur', 'blur_gamma'}
    if used and kinds - used:
        found.notes.append(
            f'{found.lq_folder}: {", ".join(used)} is used, {", ".join(kinds - used)} is left out; '
            'published results use blur.'
        )
    return found


def _drop_unusable(found: SplitReport) -> None:
    looked_at = sizes_or_problems(found.lq_folder, found.gt_folder, found.pairs)
    found.problems += [text for text in looked_at if isinstance(text, str)]
    found.pairs = [
        pair for pair, size in zip(found.pairs, looked_at, strict=True) if not isinstance(size, str)
    ]


def expected_tree(parts: Sequence[Split]) -> str:
    """The layouts that were looked for, for messages."""
    return '\n'.join(f'  {layout}' for part in parts for layout in part.layouts)


def find_file(root: Path, name: str) -> Path | None:
    """The file of this name in `root` or, if not there, anywhere below it."""
    return root / name if (root / name).is_file() else next(root.rglob(name), None)


def sidd_validation(root: Path) -> tuple[list[PairSource], list[str]]:
    """SIDD's validation blocks as sources, and what is missing or odd, in words.

    Raises MatFileError for a file that cannot be read as such.
    """
    paths = [find_file(root, f'{name}.mat') for name in (SIDD_NOISY, SIDD_CLEAN)]
    names = zip(paths, (SIDD_NOISY, SIDD_CLEAN), strict=True)
    missing = [f'{root}: {name}.mat is missing.' for path, name in names if path is None]
    if missing or None in paths:
        return [], missing
    noisy_path, clean_path = (Path(str(path)) for path in paths)
    noisy = read_sidd_blocks(noisy_path, SIDD_NOISY)
    clean = read_sidd_blocks(clean_path, SIDD_CLEAN)
    if noisy.shape != clean.shape or noisy.dtype != np.uint8 or clean.dtype != np.uint8:
        return [], [
            f'{noisy_path} is {noisy.shape} {noisy.dtype}, {clean_path} {clean.shape} '
            f'{clean.dtype}; both must be uint8 and of one shape.'
        ]
    problems = []
    if noisy.shape != SIDD_BLOCKS:
        problems.append(f'{noisy_path} is {noisy.shape}, the published array is {SIDD_BLOCKS}.')
    stamp = ' '.join(f'{p.stat().st_size}:{p.stat().st_mtime_ns}' for p in (noisy_path, clean_path))
    sources = [
        _block_source(noisy[scene, block], clean[scene, block], scene, block, stamp, noisy_path)
        for scene in range(noisy.shape[0])
        for block in range(noisy.shape[1])
    ]
    return sources, problems


def _block_source(
    noisy: np.ndarray, clean: np.ndarray, scene: int, block: int, stamp: str, path: Path
) -> PairSource:
    name = f'{scene + 1:04d}_{block + 1:02d}'
    place = f'[{scene}, {block}]'
    size = (noisy.shape[0], noisy.shape[1])
    clean_name = str(path.with_name(f'{SIDD_CLEAN}.mat'))
    return PairSource(
        name, size, stamp, str(path) + place, clean_name + place, lambda: (noisy, clean)
    )


def check_dnd(root: Path) -> tuple[str, list[str]]:
    """What there is of DND in one line, and what is missing or odd, in words.

    Raises MatFileError for a file that cannot be read as such.
    """
    info = find_file(root, 'info.mat')
    if info is None:
        return '', [f'{root}: info.mat is missing.']
    problems = []
    boxes = read_dnd_boxes(info)
    if len(boxes) != DND_IMAGES:
        problems.append(f'{info}: boxes of {len(boxes)} images, not of {DND_IMAGES}.')
    problems += [
        f'{info}: image {number} has {len(box)} boxes, not {DND_BOXES}.'
        for number, box in enumerate(boxes, 1)
        if len(box) != DND_BOXES
    ]
    for number, box in enumerate(boxes, 1):
        path = info.parent / 'images_srgb' / f'{number:04d}.mat'
        problems += _check_dnd_image(path, box)
    whole = f'{len(boxes)} images, {sum(map(len, boxes))} boxes'
    return whole, problems


def _check_dnd_image(path: Path, boxes: np.ndarray) -> list[str]:
    if not path.is_file():
        return [f'{path} is missing.']
    if 'InoisySRGB' not in variable_names(path):
        return [f'{path}: there is no variable InoisySRGB.']
    height, width = read_array(path, 'InoisySRGB', (None, None, 3)).shape[:2]
    if (boxes[:, 2] > height).any() or (boxes[:, 3] > width).any():
        return [f'{path}: boxes reach beyond the image, which is {width} x {height}.']
    return []
