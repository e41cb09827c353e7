"""Examines the installation: what is registered, patched and missing, with a remedy for each.

    c2fdft doctor

Compiles the C++ kernels if that has not been done. Ends with 0 if all is well, 1 if not.
"""

from collections.abc import Sequence

from c2fdft_model.commands.parsers import command_parser
from c2fdft_model.plugin.doctor import examine


def main(arguments: Sequence[str] | None = None) -> int:
    """Print what was found; the exit code is 0 or 1 as the module says."""
    command_parser('doctor', __doc__).parse_args(arguments)
    report = examine()
    print('\n'.join(report.lines))
    for what, remedy in report.problems:
        print(f'\nPROBLEM  {what}\n  remedy: {remedy}')
    count = len(report.problems)
    print(f'\n{count} problem{"s" if count > 1 else ""} found.' if count else '\nAll is well.')
    return 1 if count else 0
