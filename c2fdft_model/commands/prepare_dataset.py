"""Check a published data set and put it where the option files expect it.

    python scripts/prepare_dataset.py rain13k --root DOWNLOADS

Counts the pairs and says exactly what is missing or odd. Then training images go into LMDBs,
datasets/train/NAME/{input,target}.lmdb, and test images are linked into the folders
datasets/test/NAME/{input,target}. A run that was interrupted goes on where it stopped if it is
started again.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from c2fdft_model.commands.prepare_lmdb import add_store_arguments, store
from c2fdft_model.data.dataset_layouts import (
    Split,
    SplitReport,
    check_dnd,
    expected_tree,
    find_part,
    gopro,
    rain13k,
    realblur,
    sidd,
    sidd_validation,
)
from c2fdft_model.data.lmdb.plan import StoreOptions, file_sources

SIDD_SIZE, SIDD_STRIDE = 512, 384
SHOWN = 30


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('dataset', choices=('rain13k', 'gopro', 'realblur', 'sidd', 'dnd'))
    parser.add_argument('--root', required=True, type=Path, help='folder it was unpacked into')
    parser.add_argument('--out', type=Path, default=Path('datasets'), help='default: datasets')
    parser.add_argument('--check', action='store_true', help='check only, write nothing')
    parser.add_argument(
        '--allow-incomplete', action='store_true', help='go on with the pairs that are there'
    )
    parser.add_argument(
        '--blur',
        choices=('blur', 'blur_gamma'),
        default='blur',
        help='GoPro: which blurred images; published results use blur, the default',
    )
    parser.add_argument('--copy', action='store_true', help='copy test images, do not link them')
    add_store_arguments(parser)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; the exit code is 1 if something is missing, odd or cannot be written."""
    arguments = parse_arguments(argv)
    try:
        if not arguments.root.is_dir():
            raise ValueError(f'--root {arguments.root}: there is no such folder.')
        problems = check_and_prepare(arguments)
    except (ValueError, OSError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print('\nInterrupted; the same command goes on from here.', file=sys.stderr)
        return 130
    return 1 if problems and not arguments.allow_incomplete else 0


def check_and_prepare(arguments: argparse.Namespace) -> list[str]:
    """Check everything first, then write, unless there are problems; returns the problems."""
    if arguments.dataset == 'dnd':
        return prepare_dnd(arguments.root)
    parts = {
        'rain13k': rain13k,
        'gopro': lambda: gopro(arguments.blur),
        'realblur': realblur,
        'sidd': sidd,
    }[arguments.dataset]()
    found = find_all(arguments.root, parts)
    problems = [problem for one in found for problem in one.problems]
    blocks: list = []
    if arguments.dataset == 'sidd':
        blocks, odd = sidd_validation(arguments.root)
        print(f'val/SIDD: {len(blocks):,} blocks')
        problems += odd
    if not found and not blocks:
        raise ValueError(
            f'{arguments.root}: nothing of {arguments.dataset} is there. Looked for\n'
            f'{expected_tree(parts)}'
        )
    report(problems)
    if problems and not arguments.allow_incomplete:
        print('Nothing was written. --allow-incomplete goes on with the pairs that are there.')
    elif not arguments.check:
        write_all(found, arguments)
        if blocks:
            store(
                blocks, arguments.out / 'val/SIDD', StoreOptions(**encoding(arguments)), arguments
            )
    return problems


def report(problems: Sequence[str]) -> None:
    """Print the first problems and how many more there are."""
    for problem in problems[:SHOWN]:
        print(f'PROBLEM: {problem}')
    if len(problems) > SHOWN:
        print(f'PROBLEM: ... and {len(problems) - SHOWN:,} more')


def find_all(root: Path, parts: Sequence[Split]) -> list[SplitReport]:
    """Look for every part and print what there is of it."""
    found = []
    for part in parts:
        one = find_part(root, part)
        if one is None:
            print(f'{part.place}: not there, skipped')
            continue
        print(f'{part.place}: {len(one.pairs):,} pairs of {part.count:,}')
        for note in one.notes:
            print(f'  {note}')
        found.append(one)
    return found


def write_all(found: Sequence[SplitReport], arguments: argparse.Namespace) -> None:
    """Training parts into LMDBs, test parts into folders."""
    for one in found:
        if not one.pairs:
            continue
        out = arguments.out / one.part.place
        if one.part.is_training:
            cut = arguments.dataset == 'sidd' and arguments.size is None
            options = StoreOptions(
                SIDD_SIZE if cut else arguments.size,
                SIDD_STRIDE if cut else arguments.stride,
                **encoding(arguments),
            )
            store(file_sources(one.lq_folder, one.gt_folder, one.pairs), out, options, arguments)
        else:
            take_over(one, out, arguments.copy)


def encoding(arguments: argparse.Namespace) -> dict:
    """Arguments of `StoreOptions` that do not depend on the data set."""
    return {'encoding': arguments.store, 'level': arguments.level}


def take_over(found: SplitReport, out: Path, copy: bool) -> None:
    """Link or copy the files of all pairs to `out`/input and `out`/target, under equal names.

    Raises ValueError if other files are there.
    """
    for side, folder in (('input', found.lq_folder), ('target', found.gt_folder)):
        place = out / side
        if place.resolve() == folder.resolve():
            print(f'{place}: {len(found.pairs):,} images, already in place')
            continue
        files = {
            pair.name.replace('/', '-') + Path(relative).suffix: folder / relative
            for pair in found.pairs
            for relative in [pair.lq if side == 'input' else pair.gt]
        }
        place.mkdir(parents=True, exist_ok=True)
        foreign = sorted({entry.name for entry in place.iterdir()} - files.keys())
        if foreign:
            raise ValueError(f'{place}: there are other files, e.g. {foreign[0]}; remove them.')
        for name, source in files.items():
            provide(source.resolve(), place / name, copy)
        print(f'{place}: {len(files):,} images {"copied" if copy else "linked"}')


def provide(source: Path, target: Path, copy: bool) -> None:
    """Make `target` a link to `source`, or a copy of it where there are no links."""
    if target.is_symlink() or target.exists():
        target.unlink()
    if not copy:
        try:
            os.symlink(source, target)
            return
        except OSError:  # the system or the disk has no links
            pass
    shutil.copy2(source, target)


def prepare_dnd(root: Path) -> list[str]:
    """DND is tested from its own files: check them and say how."""
    whole, problems = check_dnd(root)
    report(problems)
    if not problems:
        print(
            f'DND: {whole}. It has no clean images and is tested from these files; next:\n'
            f'  python scripts/denoise_mat.py dnd --input {root} --output results/dnd '
            '--weights WEIGHTS.pth'
        )
    return problems
