"""Turn two folders of images into two LMDBs for training: input.lmdb and target.lmdb.

    c2fdft prepare-lmdb --input rainy --target clean --out datasets/train/Rain

Folders of any depth, files of any names in PNG, JPEG, TIFF, BMP and others, 8 and 16 bits. A run
that was interrupted continues where it stopped if it is started again. Ends with 0 if every pair
was written, 1 if it ended early, 2 if it could not start.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from tqdm import tqdm

from c2fdft_model.commands.parsers import command_parser
from c2fdft_model.data.lmdb.plan import StoreOptions, sub_images
from c2fdft_model.data.lmdb.verify import verify_pairs
from c2fdft_model.data.lmdb.write_pairs import write_pairs
from c2fdft_model.data.pair_sources import PairSource, file_sources
from c2fdft_model.data.pairing import pair_folders


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = command_parser('prepare-lmdb', __doc__, '--input DIR --target DIR --out DIR [options]')
    add = parser.add_argument
    add('--input', '--lq', required=True, type=Path, help='folder of degraded images')
    add('--target', '--gt', required=True, type=Path, help='folder of clean images')
    add('--out', required=True, type=Path, help='folder for input.lmdb and target.lmdb')
    add(
        '--input-template',
        default='{}',
        metavar='T',
        help='name of a degraded image without suffix, {} for what it shares with the clean one',
    )
    add(
        '--target-template',
        '--gt-template',
        default='{}',
        metavar='T',
        help='the same for clean images',
    )
    add_store_arguments(parser)
    return parser.parse_args(argv)


def add_store_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments that say how images are stored."""
    add = parser.add_argument
    add('--size', type=int, help='cut images into squares of this side')
    add('--stride', type=int, help='distance of the squares (default: --size)')
    add(
        '--store',
        choices=('png', 'raw'),
        default='png',
        help='raw is uncompressed: about twice the disk space, and hardly any time to read',
    )
    add('--level', type=int, default=1, choices=range(10), help='PNG compression')
    add('--threads', type=int, help='default: one for each core')
    add('--verify', action='store_true', help='read everything back and compare')
    add('--overwrite', action='store_true', help='replace LMDBs of other images')


def store(
    sources: Sequence[PairSource], out: Path, options: StoreOptions, arguments: argparse.Namespace
) -> None:
    """Write `out`/input.lmdb and `out`/target.lmdb, showing progress, and verify them if asked.

    Raises SystemExit naming what differs if they do not hold what they should.
    """
    paths = out / 'input.lmdb', out / 'target.lmdb'
    total = sum(len(sub_images(source, options)) for source in sources)
    with tqdm(total=total, unit='pair', desc=f'Write {out}') as bar:
        summary = write_pairs(
            sources,
            *paths,
            options,
            overwrite=arguments.overwrite,
            threads=arguments.threads,
            progress=bar.update,
        )
    new = summary.entries - summary.already_there
    rate = f', {new / summary.seconds:,.0f} pairs per second' if new else ''
    sizes = (f'{p} {(p / "data.mdb").stat().st_size / 2**20:,.1f} MiB' for p in paths)
    print(
        f'{summary.images} pairs of images, {summary.entries} pairs stored: {new} now, '
        f'{summary.already_there} were there already ({summary.seconds:,.1f} s{rate}).'
    )
    print(', '.join(sizes))
    if arguments.verify:
        with tqdm(total=total, unit='pair', desc=f'Verify {out}') as bar:
            problems = verify_pairs(
                sources, *paths, options, threads=arguments.threads, progress=bar.update
            )
        if problems:
            raise SystemExit('\n'.join([f'{len(problems)} problems:', *problems[:20]]))
        print(f'Verified: all {total} pairs are as their sources.')


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; the exit code is 0, 1 or 2 as the module says."""
    args = parse_arguments(argv)

    def run() -> int:
        options = StoreOptions(args.size, args.stride, args.store, args.level)
        templates = args.input_template, args.target_template
        keys = '--input-template', '--target-template'
        pairs = pair_folders(args.input, args.target, *templates, keys)
        store(file_sources(args.input, args.target, pairs), args.out, options, args)
        return 0

    return with_errors_printed(run)


def with_errors_printed(command: Callable[[], int]) -> int:
    """The command's exit code; 2 if it cannot start, 1 if it ended early, 130 after Ctrl-C."""
    try:
        return command()
    except (ValueError, OSError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 2 if isinstance(error, ValueError) else 1
    except KeyboardInterrupt:
        print('\nInterrupted; the same command continues from here.', file=sys.stderr)
        return 130
