"""Copies the option files that come with the package into a BasicSR checkout, or checks others.

    c2fdft options /path/to/BasicSR
    c2fdft options --check my_options.yml

They go into its folder options/. A file that is there with other contents is left alone, unless
--force is given. --check says everything that is wrong with option files, and starts nothing. Ends
with 0, with 1 if a file was left alone or is wrong, 2 if nothing could be copied or checked.
"""

from collections.abc import Sequence
from pathlib import Path

from c2fdft_model.commands.parsers import command_parser
from c2fdft_model.plugin.option_files import LEFT_ALONE, copy_options


def main(arguments: Sequence[str] | None = None) -> int:
    """Copy and say what became of each file; the exit code is 0, 1 or 2 as the module says."""
    parser = command_parser('options', __doc__)
    parser.add_argument('folder', nargs='?', type=Path, metavar='DIR', help='a BasicSR checkout')
    parser.add_argument('--check', nargs='+', metavar='FILE', help='say what is wrong with files')
    parser.add_argument('--force', action='store_true', help='overwrite files that were changed')
    args = parser.parse_args(arguments)
    if args.check:
        from c2fdft_model.commands import check_options  # needs PyTorch, and copying does not

        return check_options.main(args.check)
    if args.folder is None:
        parser.error('DIR or --check FILE is expected')
    outcomes = copy_options(args.folder, args.force)
    for path, outcome in outcomes.items():
        reason = ': it has other contents; --force overwrites it' if outcome == LEFT_ALONE else ''
        print(f'{outcome:<10} {path}{reason}')
    return int(LEFT_ALONE in outcomes.values())
