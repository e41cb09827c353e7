"""Running BasicSR's own pipelines in the current folder."""

import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from c2fdft_arch.common.errors import C2FDFTError
from c2fdft_arch.common.option_parsing import OptionError
from c2fdft_model.commands.parsers import command_parser
from c2fdft_model.plugin import autoload


def run_pipeline(name: str, description: str | None, arguments: Sequence[str] | None = None) -> int:
    """Run BasicSR's pipeline `train` or `test`, on its own arguments (None: sys.argv's).

    The exit code is 0; 2, with one line, for options, weights or data that cannot be used; 1 for
    what ended a run that had begun.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    args = _parser(name, description).parse_args(arguments)
    if not Path(args.opt).is_file():
        print(f'error: -opt {args.opt}: no such option file.', file=sys.stderr)
        return 2
    autoload.install()
    sys.argv = [f'c2fdft {name}', *arguments]  # BasicSR reads it
    try:
        module = importlib.import_module(f'basicsr.{name}')
        getattr(module, f'{name}_pipeline')(os.getcwd())
    except C2FDFTError as error:
        lines = str(error).splitlines()
        if 'Traceback' in str(error):  # of a loader's worker
            raise
        several = isinstance(error, OptionError)  # an error in each line
        for number, line in enumerate(lines):
            first = f'error: {type(error).__name__}: ' if several or number == 0 else ''
            print(f'{first}{line}', file=sys.stderr)
        return 2 if isinstance(error, ValueError) else 1
    return 0


def _parser(name: str, description: str | None):
    parser = command_parser(name, description, '-opt FILE [options]')
    add = parser.add_argument
    add('-opt', required=True, metavar='FILE', help='option file')
    add('--auto_resume', action='store_true', help='go on where the last training state was saved')
    add('--force_yml', nargs='+', metavar='KEY=VALUE', help='other values, as train:total_iter=100')
    add('--launcher', choices=('none', 'pytorch', 'slurm'), help='pytorch under torchrun')
    add('--debug', action='store_true', help='a few iterations, with everything logged')
    add('--local_rank', '--local-rank', type=int, metavar='N', help='given by torch.distributed')
    return parser
