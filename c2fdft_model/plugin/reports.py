"""What the doctor found, and what became of copied option files, on the terminal."""

import sys
from pathlib import Path

from c2fdft_model.plugin.doctor import examine
from c2fdft_model.plugin.option_files import LEFT_ALONE, copy_options


def print_examination() -> int:
    """Examine the installation; the exit code is 1 if something is wrong."""
    report = examine()
    print('\n'.join(report.lines))
    for what, remedy in report.problems:
        print(f'\nPROBLEM  {what}\n  remedy: {remedy}')
    count = len(report.problems)
    print(f'\n{count} problem{"s" if count > 1 else ""} found.' if count else '\nAll is well.')
    return 1 if count else 0


def print_copied_options(folder: Path, force: bool) -> int:
    """Copy the option files; the exit code is 1 if one was left alone, 2 for no folder."""
    try:
        outcomes = copy_options(folder, force)
    except OSError as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    for path, outcome in outcomes.items():
        reason = ': it has other contents; --force overwrites it' if outcome == LEFT_ALONE else ''
        print(f'{outcome:<10} {path}{reason}')
    return int(LEFT_ALONE in outcomes.values())
