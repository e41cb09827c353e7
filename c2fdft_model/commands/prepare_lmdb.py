"""Turn two folders of images into two LMDBs for training: input.lmdb and target.lmdb.

    python scripts/prepare_lmdb.py --input rainy --target clean --out datasets/train/Rain

Folders of any depth, files of any names in PNG, JPEG, TIFF, BMP and others, 8 and 16 bits. A run
that was interrupted goes on where it stopped if it is started again.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from c2fdft_model.data.lmdb.plan import PairSource, StoreOptions, file_sources, windows_of
from c2fdft_model.data.lmdb.verify import verify_pairs
from c2fdft_model.data.lmdb.write_pairs import Summary, write_pairs
from c2fdft_model.data.pairing import list_images, pair_files


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        '--input', '--lq', required=True, type=Path, help='folder of degraded images'
    )
    parser.add_argument('--target', '--gt', required=True, type=Path, help='folder of clean images')
    parser.add_argument(
        '--out', required=True, type=Path, help='folder for input.lmdb and target.lmdb'
    )
    parser.add_argument(
        '--input-template',
        default='{}',
        metavar='T',
        help='name of a degraded image without suffix, {} for what it shares with the clean one',
    )
    parser.add_argument(
        '--target-template', default='{}', metavar='T', help='the same for clean images'
    )
    add_store_arguments(parser)
    return parser.parse_args(argv)


def add_store_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments that say how images are stored."""
    parser.add_argument('--size', type=int, help='cut images into squares of this side')
    parser.add_argument('--stride', type=int, help='distance of the squares (default: --size)')
    parser.add_argument(
        '--store',
        choices=('png', 'raw'),
        default='png',
        help='raw is uncompressed: about twice the disk space, and hardly any time to read',
    )
    parser.add_argument('--level', type=int, default=1, choices=range(10), help='PNG compression')
    parser.add_argument('--threads', type=int, help='default: one for each core')
    parser.add_argument('--verify', action='store_true', help='read everything back and compare')
    parser.add_argument('--overwrite', action='store_true', help='replace LMDBs of other images')


def store(
    sources: Sequence[PairSource], out: Path, options: StoreOptions, arguments: argparse.Namespace
) -> None:
    """Write `out`/input.lmdb and `out`/target.lmdb, showing progress, and verify them if asked.

    Raises SystemExit naming what differs if they do not hold what they should.
    """
    paths = out / 'input.lmdb', out / 'target.lmdb'
    total = sum(len(windows_of(source, options)) for source in sources)
    with tqdm(total=total, unit='pair', desc=f'Write {out}') as bar:
        summary = write_pairs(
            sources,
            *paths,
            options,
            overwrite=arguments.overwrite,
            threads=arguments.threads,
            progress=bar.update,
        )
    print(describe(summary, paths))
    if arguments.verify:
        with tqdm(total=total, unit='pair', desc=f'Verify {out}') as bar:
            problems = verify_pairs(
                sources, *paths, options, threads=arguments.threads, progress=bar.update
            )
        if problems:
            raise SystemExit('\n'.join([f'{len(problems)} problems:', *problems[:20]]))
        print(f'Verified: all {total} pairs are as their sources.')


def describe(summary: Summary, paths: Sequence[Path]) -> str:
    """The summary in words."""
    sizes = ', '.join(f'{p} {(p / "data.mdb").stat().st_size / 2**20:,.1f} MiB' for p in paths)
    new = summary.entries - summary.already_there
    rate = f', {new / summary.seconds:,.0f} pairs per second' if new else ''
    return (
        f'{summary.images} pairs of images, {summary.entries} pairs stored: {new} now, '
        f'{summary.already_there} were there already ({summary.seconds:,.1f} s{rate}).\n{sizes}'
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; the exit code is 1 for an error, which is printed."""
    arguments = parse_arguments(argv)
    try:
        options = StoreOptions(arguments.size, arguments.stride, arguments.store, arguments.level)
        pairs = pair_files(
            list_images(arguments.input),
            list_images(arguments.target),
            arguments.input_template,
            arguments.target_template,
        )
        store(
            file_sources(arguments.input, arguments.target, pairs),
            arguments.out,
            options,
            arguments,
        )
    except (ValueError, OSError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print('\nInterrupted; the same command goes on from here.', file=sys.stderr)
        return 130
    return 0
