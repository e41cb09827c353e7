"""`python -m c2fdft_arch`: the doctor, and copying the option files into a BasicSR checkout."""

import argparse
import sys
from pathlib import Path

from c2fdft_model.plugin.reports import print_copied_options, print_examination


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog='python -m c2fdft_arch',
        description='Without a command: examine the installation (the same as `doctor`).',
    )
    commands = parser.add_subparsers(dest='command')
    commands.add_parser('doctor', help='examine the installation')
    copying = commands.add_parser(
        'options', help="copy the option files into a checkout's options/"
    )
    copying.add_argument('folder', type=Path, metavar='DIR', help='root of a BasicSR checkout')
    copying.add_argument('--force', action='store_true', help='overwrite files that were changed')
    given = parser.parse_args(arguments)
    if given.command == 'options':
        return print_copied_options(given.folder, given.force)
    return print_examination()


if __name__ == '__main__':
    sys.exit(main())
