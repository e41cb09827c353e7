"""Check a published data set and put it where the option files expect it.

    c2fdft prepare-dataset rain13k --root DOWNLOADS

Counts the pairs and says exactly what is missing or odd. Then training images go into LMDBs,
datasets/train/NAME/{input,target}.lmdb, and test images are linked into the folders
datasets/test/NAME/{input,target}. A run that was interrupted continues where it stopped if it is
started again. Ends with 0 if everything is in its place, 1 if something is missing, odd or cannot
be written, 2 if nothing is there.
"""

import argparse
import contextlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from c2fdft_arch.common.atomic_write import replacing
from c2fdft_arch.common.messages import printable
from c2fdft_model.commands.parsers import command_parser
from c2fdft_model.commands.preparing.prepare_lmdb import (
    add_store_arguments,
    store,
    with_errors_printed,
)
from c2fdft_model.data.dataset_layouts import (
    BLURS,
    Split,
    SplitReport,
    check_dnd,
    find_split,
    gopro,
    rain13k,
    realblur,
    sidd,
    sidd_validation,
)
from c2fdft_model.data.image_listing import list_files
from c2fdft_model.data.lmdb.plan import StoreOptions
from c2fdft_model.data.pair_sources import PairSource, file_sources

SIDD_SIZE, SIDD_STRIDE = 512, 384
PROBLEMS_SHOWN = 30


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = command_parser('prepare-dataset', __doc__, 'DATASET --root DIR [options]')
    add = parser.add_argument
    add('dataset', choices=('rain13k', 'gopro', 'realblur', 'sidd', 'dnd'))
    add('--root', required=True, type=Path, help='folder it was unpacked into')
    add('--out', type=Path, default=Path('datasets'), help='default: datasets')
    add('--check', action='store_true', help='check only, write nothing')
    add('--allow-incomplete', action='store_true', help='continue with the pairs that are there')
    add(
        '--blur',
        choices=BLURS,
        default='blur',
        help='GoPro: which blurred images; published results use blur, the default',
    )
    add('--copy', action='store_true', help='copy test images, do not link them')
    add_store_arguments(parser)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; the exit code is 0, 1 or 2 as the module says."""
    arguments = parse_arguments(argv)

    def run() -> int:
        if not arguments.root.is_dir():
            raise ValueError(f'--root {arguments.root}: there is no such folder.')
        if arguments.dataset == 'dnd':
            problems = prepare_dnd(arguments.root)
        else:
            problems = check_and_prepare(arguments)
        return 1 if problems and not arguments.allow_incomplete else 0

    return with_errors_printed(run)


def check_and_prepare(arguments: argparse.Namespace) -> list[str]:
    """Check everything first, then write, unless there are problems; returns the problems."""
    splits = {
        'rain13k': rain13k,
        'gopro': lambda: gopro(arguments.blur),
        'realblur': realblur,
        'sidd': sidd,
    }[arguments.dataset]()
    reports = find_all(arguments.root, splits)
    problems = [problem for report in reports for problem in report.problems]
    blocks: list[PairSource] = []
    if arguments.dataset == 'sidd':
        blocks, block_problems = sidd_validation(arguments.root)
        print(f'val/SIDD: {len(blocks):,} blocks')
        problems += block_problems
    if not reports and not blocks:
        looked_for = [f'\n  {layout}' for split in splits for layout in split.layouts]
        raise ValueError(
            f'{arguments.root}: nothing of {arguments.dataset} is there. Looked for'
            + ''.join(looked_for)
        )
    print_problems(problems)
    if problems and not arguments.allow_incomplete:
        print('Nothing was written. --allow-incomplete continues with the pairs that are there.')
    elif not arguments.check:
        write_all(reports, arguments)
        if blocks:
            options = StoreOptions(encoding=arguments.store, level=arguments.level)
            store(blocks, arguments.out / 'val/SIDD', options, arguments)
    return problems


def print_problems(problems: Sequence[str]) -> None:
    """Print the first problems and how many more there are."""
    for problem in problems[:PROBLEMS_SHOWN]:
        print(f'PROBLEM: {problem}')
    if len(problems) > PROBLEMS_SHOWN:
        print(f'PROBLEM: ... and {len(problems) - PROBLEMS_SHOWN:,} more')


def find_all(root: Path, splits: Sequence[Split]) -> list[SplitReport]:
    """Look for every split and print what there is of it."""
    reports = []
    for split in splits:
        report = find_split(root, split)
        if report is None:
            print(f'{split.place}: not there, skipped')
            continue
        print(f'{split.place}: {len(report.pairs):,} pairs of {split.count:,}')
        for note in report.notes:
            print(f'  {note}')
        reports.append(report)
    return reports


def write_all(reports: Sequence[SplitReport], arguments: argparse.Namespace) -> None:
    """Training splits into LMDBs, test splits into folders."""
    size, stride = arguments.size, arguments.stride
    if arguments.dataset == 'sidd' and size is None:
        size, stride = SIDD_SIZE, SIDD_STRIDE
    for report in reports:
        out = arguments.out / report.split.place
        if not report.pairs:
            continue
        if report.split.place.startswith('train/'):
            sources = file_sources(report.lq_folder, report.gt_folder, report.pairs)
            options = StoreOptions(size, stride, arguments.store, arguments.level)
            store(sources, out, options, arguments)
        else:
            link_or_copy(report, out, arguments.copy)


def link_or_copy(report: SplitReport, out: Path, copy: bool) -> None:
    """Link or copy the files of all pairs to `out`/input and `out`/target, under equal names.

    Raises ValueError if other files are there, and for two pairs that would share a name.
    """
    for side, folder in (('input', report.lq_folder), ('target', report.gt_folder)):
        place = out / side
        if place.resolve() == folder.resolve():
            print(f'{place}: {len(report.pairs):,} images, already in place')
            continue
        files = {
            pair.name.replace('/', '-') + Path(relative).suffix: folder / relative
            for pair in report.pairs
            for relative in [pair.lq if side == 'input' else pair.gt]
        }
        if len(files) < len(report.pairs):
            raise ValueError(
                f'{folder}: {len(report.pairs)} images would become {len(files)} files in {place}, '
                'because some names differ by / and - alone; rename them.'
            )
        place.mkdir(parents=True, exist_ok=True)
        foreign = sorted(set(list_files(place)) - files.keys())
        if foreign:
            raise ValueError(
                f'{place}: there are other files, e.g. {printable(foreign[0])}; remove them.'
            )
        for name, source in files.items():
            provide(source.resolve(), place / name, copy)
        print(f'{place}: {len(files):,} images {"copied" if copy else "linked"}')


def provide(source: Path, target: Path, copy: bool) -> None:
    """Make `target` a link to `source`, or a copy of it where there are no links."""
    if not copy:
        target.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # the system or the disk has no links
            os.symlink(source, target)
            return
    with replacing(target) as temporary:
        shutil.copy2(source, temporary)


def prepare_dnd(root: Path) -> list[str]:
    """DND is tested from its own files: check them and say how."""
    whole, problems = check_dnd(root)
    print_problems(problems)
    if not problems:
        print(
            f'DND: {whole}. It has no clean images and is tested from these files; next:\n'
            f'  c2fdft denoise-mat dnd --input {root} --output results/dnd '
            '--weights WEIGHTS.pth'
        )
    return problems
