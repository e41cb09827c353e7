"""Makes the models that ship: their data, their figures, their files.

    mkdir packages
    for p in mate-backgrounds lomiri-wallpapers-16.04 lomiri-wallpapers-20.04; do
        apt-get download $p && dpkg-deb -x ${p}_*.deb packages/$p
    done
    export PYTHONPATH=scripts
    python -m zoo data --packages packages
    python scripts/train.py -opt c2fdft_model/zoo/denoise_coarse.yml
    python scripts/train.py -opt c2fdft_model/zoo/denoise_fine.yml
    python -m zoo measure denoise experiments/zoo_denoise_fine/models/net_g_latest.pth
    python -m zoo pack denoise experiments/zoo_denoise_fine/models/net_g_latest.pth

`data` writes datasets/zoo/<task>/{train,test}/{input,target}: photographs of scikit-image and of
Debian with camera noise, synthetic rain or motion blur; `measure` restores the held-out ones, by
the model and by what else one could use, and writes results/zoo/<task>.json; `pack` writes
c2fdft_model/zoo/<task>.pth, in float16.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from c2fdft_arch.common.errors import C2FDFTError
from zoo.data import TASKS, write_held_out_pairs, write_training_pairs
from zoo.measuring import left_out, measure, table
from zoo.packing import pack
from zoo.photographs import HELD_OUT, TRAINING, sources

DATA = Path('datasets/zoo')


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog='zoo', description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    actions = parser.add_subparsers(dest='action', required=True)
    data = actions.add_parser('data', help='write the photographs, degraded and clean')
    data.add_argument('--packages', type=Path, required=True, help='folder of unpacked packages')
    data.add_argument('--tasks', nargs='+', choices=TASKS, default=[*TASKS])
    data.add_argument(
        '--renderings',
        type=int,
        default=6,
        help='degraded versions of each photograph (default: 6)',
    )
    for name, text in (('measure', 'figures of a network'), ('pack', 'the file that ships')):
        action = actions.add_parser(name, help=text)
        action.add_argument('task', choices=TASKS)
        action.add_argument('weights', type=Path, help='checkpoint of the fine training')
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    args = parse_arguments(arguments)
    try:
        if args.action == 'data':
            write_data(args.packages, args.tasks, args.renderings)
        elif args.action == 'measure':
            output = Path('results/zoo') / f'{args.task}.json'
            print(table(measure(args.task, DATA / args.task / 'test', args.weights, output)))
            print(f'wrote {output}')
            for name, needed in left_out(args.task).items():
                print(f'left out: {name}, which needs {needed}', file=sys.stderr)
        else:
            path = pack(args.task, args.weights)
            print(f'wrote {path} ({path.stat().st_size / 1e6:.2f} MB)')
    except (OSError, C2FDFTError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    return 0


def write_data(packages: Path, tasks: Sequence[str], renderings: int) -> None:
    """Write the pairs of the tasks and list the photographs with their licences."""
    for task in tasks:
        trained = write_training_pairs(task, packages, DATA / task / 'train', renderings)
        held_out = write_held_out_pairs(task, packages, DATA / task / 'test')
        print(f'{DATA / task}: {trained} training tiles, {held_out} held-out photographs')
    for title, photographs in (('trained on', TRAINING), ('held out', HELD_OUT)):
        print(f'{title}:', *sources(photographs), sep='\n  ')


if __name__ == '__main__':
    raise SystemExit(main())
