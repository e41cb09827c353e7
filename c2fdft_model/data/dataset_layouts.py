"""The data sets of the paper: how their publishers pack them, and how many pairs they have."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from c2fdft_arch.common.messages import shortened
from c2fdft_model.data import mat_files
from c2fdft_model.data.image_listing import ListingError, find_file, list_images
from c2fdft_model.data.pair_sources import PairSource, file_stamp, sizes_or_problems
from c2fdft_model.data.pairing import SHOWN, ImagePair, Matched, PairingError, match_files

BLURS = ('blur', 'blur_gamma')
"""GoPro's two kinds of blurred images; published results use the first."""
SIDD_NOISY, SIDD_CLEAN = 'ValidationNoisyBlocksSrgb', 'ValidationGtBlocksSrgb'


@dataclass(frozen=True)
class Layout:
    """Where the pairs of a split lie below the root, and how names match (see `match_files`).

    Folders are patterns. `test_list` is a file, anywhere below the root, that names the images of
    the split among others: lines of paths that end with `folder/image`.
    """

    lq: str
    gt: str
    lq_template: str = '{}'
    gt_template: str = '{}'
    test_list: str | None = None

    def __str__(self) -> str:
        listed = f', by {self.test_list}' if self.test_list else ''
        if self.lq == self.gt:
            return f'{self.lq}/{self.lq_template} with {self.gt_template}{listed}'
        return f'{self.lq} with {self.gt}{listed}'

    def folders(self, root: Path) -> Iterator[tuple[Path, Path]]:
        """The folders of degraded and of clean images, if at least one of them is there."""
        if self.lq == self.gt:
            yield from (
                (folder, folder) for folder in sorted(root.glob(self.lq)) if folder.is_dir()
            )
        elif (root / self.lq).is_dir() or (root / self.gt).is_dir():
            yield root / self.lq, root / self.gt


@dataclass(frozen=True)
class Split:
    """A training or test set: the layouts it may have, its number of pairs, its place with us.

    Training splits, whose place begins with `train/`, become LMDBs; test splits stay folders.
    """

    place: str
    count: int
    layouts: tuple[Layout, ...]
    downloaded_count: int | None = None
    """Pairs in the publishers' own download, where they are fewer than the papers say."""


@dataclass
class SplitReport:
    """What was found of a split: the pairs, and what is missing or odd, in words."""

    split: Split
    lq_folder: Path
    gt_folder: Path
    pairs: list[ImagePair] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def _input_target(
    place: str, count: int, *more: Layout, downloaded_count: int | None = None
) -> Split:
    layouts = (Layout(f'{place}/input', f'{place}/target'), *more)
    return Split(place, count, layouts, downloaded_count)


def rain13k() -> list[Split]:
    """Rain13K and its five test sets."""
    tests = {'Rain100H': 100, 'Rain100L': 100, 'Test1200': 1200, 'Test2800': 2800}
    return [
        _input_target('train/Rain13K', 13712, downloaded_count=13711),
        _input_target('test/Test100', 100, downloaded_count=98),
        *(_input_target(f'test/{name}', count) for name, count in tests.items()),
    ]


def gopro(blur: str = 'blur') -> list[Split]:
    """GoPro, as folders of pairs or as the original sequences; `blur` or `blur_gamma`."""

    def split(role: str, count: int) -> Split:
        originals = (
            Layout(folder, folder, '{}/' + blur + '/{}', '{}/sharp/{}')
            for folder in (f'GOPRO_Large/{role}', role)
        )
        return _input_target(f'{role}/GoPro', count, *originals)

    return [split('train', 2103), split('test', 1111)]


def realblur() -> list[Split]:
    """The test sets of RealBlur, as folders of pairs or as scenes with their test lists."""

    def split(kind: str) -> Split:
        scenes = (
            Layout(
                f'{above}RealBlur-{kind}_*',
                f'{above}RealBlur-{kind}_*',
                '{}/blur/blur_{}',
                '{}/gt/gt_{}',
                f'RealBlur_{kind}_test_list.txt',
            )
            for above in ('', 'RealBlur/')
        )
        return _input_target(f'test/RealBlur_{kind}', 980, *scenes)

    return [split(kind) for kind in 'JR']


def sidd() -> list[Split]:
    """SIDD-Medium; its validation blocks are arrays, see `sidd_validation`."""
    templates = ('{}_NOISY_SRGB_{}', '{}_GT_SRGB_{}')
    folders = ('SIDD_Medium_Srgb/Data', 'Data', 'train/SIDD_Medium_Srgb/Data')
    return [Split('train/SIDD', 320, tuple(Layout(f, f, *templates) for f in folders))]


def find_split(root: Path, split: Split) -> SplitReport | None:
    """Look for a split below `root`; None if none of its layouts is there."""
    failure = None
    for layout in split.layouts:
        for folders in layout.folders(root):
            report = SplitReport(split, *folders)
            try:
                _find_pairs(report, layout, root)
            except (ListingError, PairingError) as error:
                # The folder may be there for another layout.
                report.problems.append(str(error))
                failure = failure or report
            else:
                return report
    return failure


def _find_pairs(report: SplitReport, layout: Layout, root: Path) -> None:
    lq_files = list_images(report.lq_folder).images
    gt_files = list_images(report.gt_folder).images
    if layout.test_list:
        listed = _listed_files(root, layout.test_list, report.lq_folder)
        if missing := sorted(listed - set(lq_files)):
            report.problems.append(
                f'{report.lq_folder}: {len(missing)} images of {layout.test_list} are not there: '
                f'{shortened(missing, SHOWN)}.'
            )
        lq_files = gt_files = [file for file in lq_files if file in listed]
    one_folder = layout.lq == layout.gt
    templates = layout.lq_template, layout.gt_template
    matched = match_files(lq_files, gt_files, *templates, one_folder=one_folder)
    report.pairs = matched.pairs
    _check_completeness(report, matched)
    # Pairs of different sizes and files that are no images are named and left out.
    sizes = sizes_or_problems(report.lq_folder, report.gt_folder, report.pairs)
    report.problems += [text for text in sizes if isinstance(text, str)]
    sized = zip(report.pairs, sizes, strict=True)
    report.pairs = [pair for pair, size in sized if not isinstance(size, str)]
    _note_blur(report, lq_files)


def _listed_files(root: Path, name: str, folder: Path) -> set[str]:
    """The images of `folder` that a test list names, relative to it."""
    try:
        path = find_file(root, name)
    except FileNotFoundError as error:
        raise PairingError(f'{error} It says which images of {folder} are the test set.') from error
    words = path.read_text(encoding='utf-8', errors='surrogateescape').split()
    ends = (word.partition(f'{folder.name}/') for word in words)
    listed = {after for _, found, after in ends if found}
    if not listed:
        raise PairingError(f'{path}: no line names an image in {folder.name}/.')
    return listed


def _check_completeness(report: SplitReport, matched: Matched) -> None:
    for unmatched, folder, other in (
        (matched.lq_unmatched, report.lq_folder, 'clean'),
        (matched.gt_unmatched, report.gt_folder, 'degraded'),
    ):
        if unmatched:
            report.problems.append(
                f'{folder}: {len(unmatched)} images have no {other} partner: '
                f'{shortened(unmatched, SHOWN)}.'
            )
    found, split = len(report.pairs), report.split
    if found == split.downloaded_count:
        report.notes.append(
            f'{found:,} pairs are what the download holds; the papers say {split.count:,}.'
        )
    elif found != split.count:
        report.problems.append(
            f'{split.place}: {found:,} pairs found, the published data set has {split.count:,}.'
        )


def _note_blur(report: SplitReport, lq_files: Sequence[str]) -> None:
    """Say which of GoPro's blurred images are used, if there are two kinds."""
    kinds = {kind for kind in BLURS if any(f'/{kind}/' in file for file in lq_files)}
    used = kinds & {Path(pair.lq).parent.name for pair in report.pairs}
    if used and kinds - used:
        report.notes.append(
            f'{report.lq_folder}: {", ".join(used)} is used, {", ".join(kinds - used)} is left '
            'out; published results use blur.'
        )


def sidd_validation(root: Path) -> tuple[list[PairSource], list[str]]:
    """SIDD's validation blocks as sources, and what is missing or odd, in words.

    Raises MatFileError for a file that cannot be read as such.
    """
    try:
        noisy_path, clean_path = (find_file(root, f'{n}.mat') for n in (SIDD_NOISY, SIDD_CLEAN))
    except FileNotFoundError as error:
        return [], [str(error)]
    noisy = mat_files.read_sidd_blocks(noisy_path, SIDD_NOISY)
    clean = mat_files.read_sidd_blocks(clean_path, SIDD_CLEAN)
    if noisy.shape != clean.shape or noisy.dtype != np.uint8 or clean.dtype != np.uint8:
        return [], [
            f'{noisy_path} is {noisy.shape} {noisy.dtype}, {clean_path} {clean.shape} '
            f'{clean.dtype}; both must be uint8 and of one shape.'
        ]
    problems = []
    if noisy.shape != mat_files.SIDD_BLOCKS:
        problems.append(
            f'{noisy_path} is {noisy.shape}, the published array is {mat_files.SIDD_BLOCKS}.'
        )

    def load(*place: int) -> tuple[np.ndarray, np.ndarray]:
        return noisy[place], clean[place]

    stamp = file_stamp(noisy_path, clean_path)
    sources = [
        PairSource(
            f'{scene + 1:04d}_{block + 1:02d}',
            noisy.shape[2:4],
            stamp,
            f'{noisy_path}[{scene}, {block}]',
            f'{clean_path}[{scene}, {block}]',
            partial(load, scene, block),
        )
        for scene, block in np.ndindex(noisy.shape[:2])
    ]
    return sources, problems


def check_dnd(root: Path) -> tuple[str, list[str]]:
    """What there is of DND in one line, and what is missing or odd, in words.

    Raises MatFileError for a file that cannot be read as such.
    """
    try:
        info = find_file(root, 'info.mat')
    except FileNotFoundError as error:
        return '', [str(error)]
    problems = []
    boxes = mat_files.read_dnd_boxes(info)
    if len(boxes) != mat_files.DND_IMAGES:
        problems.append(f'{info}: boxes of {len(boxes)} images, not of {mat_files.DND_IMAGES}.')
    problems += [
        f'{info}: image {number} has {len(box)} boxes, not {mat_files.DND_BOXES}.'
        for number, box in enumerate(boxes, 1)
        if len(box) != mat_files.DND_BOXES
    ]
    for number, box in enumerate(boxes, 1):
        problems += _check_dnd_image(info.parent / 'images_srgb' / f'{number:04d}.mat', box)
    return f'{len(boxes)} images, {sum(map(len, boxes))} boxes', problems


def _check_dnd_image(path: Path, boxes: np.ndarray) -> list[str]:
    if not path.is_file():
        return [f'{path} is missing.']
    if 'InoisySRGB' not in mat_files.variable_names(path):
        return [f'{path}: there is no variable InoisySRGB.']
    height, width = mat_files.read_array(path, 'InoisySRGB', (None, None, 3)).shape[:2]
    if (boxes[:, 2] > height).any() or (boxes[:, 3] > width).any():
        return [f'{path}: boxes reach beyond the image, which is {width} x {height}.']
    return []
