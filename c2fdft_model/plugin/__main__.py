"""`python -m c2fdft_arch`: the doctor, and copying the option files into a BasicSR checkout."""

import argparse
import sys
from pathlib import Path

from c2fdft_model.plugin.doctor import examine
from c2fdft_model.plugin.option_files import LEFT_ALONE, copy_options


def doctor() -> int:
    """Print what was found; 1 if something is wrong, with a remedy for each."""
    report = examine()
    print('\n'.join(report.lines))
    for what, remedy in report.problems:
        print(f'\nPROBLEM  {what}\n  remedy: {remedy}')
    count = len(report.problems)
    print(f'\n{count} problem{"s" if count > 1 else ""} found.' if count else '\nAll is well.')
    return 1 if count else 0


def options(folder: Path, force: bool) -> int:
    """Copy the option files; 1 if a changed file was left alone."""
    try:
        outcomes = copy_options(folder, force)
    except OSError as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    for path, outcome in outcomes.items():
        reason = ': it has other contents; --force overwrites it' if outcome == LEFT_ALONE else ''
        print(f'{outcome:<10} {path}{reason}')
    return int(LEFT_ALONE in outcomes.values())


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
    return options(given.folder, given.force) if given.command == 'options' else doctor()


if __name__ == '__main__':
    sys.exit(main())
