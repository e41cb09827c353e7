"""Copies the option files that come with the package into a BasicSR checkout, or any folder.

    c2fdft options /path/to/BasicSR

They go into its folder options/. A file that is there with other contents is left alone, unless
--force is given. Ends with 0, with 1 if a file was left alone, 2 if nothing could be copied.
"""

from collections.abc import Sequence
from pathlib import Path

from c2fdft_model.commands.parsers import command_parser
from c2fdft_model.plugin.reports import print_copied_options


def main(arguments: Sequence[str] | None = None) -> int:
    """Copy and say what became of each file; the exit code is 0, 1 or 2 as the module says."""
    parser = command_parser('options', __doc__)
    parser.add_argument('folder', type=Path, metavar='DIR', help='root of a BasicSR checkout')
    parser.add_argument('--force', action='store_true', help='overwrite files that were changed')
    args = parser.parse_args(arguments)
    return print_copied_options(args.folder, args.force)
