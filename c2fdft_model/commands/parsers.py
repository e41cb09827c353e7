"""How the parsers of the commands look: their names, and help that fits a screen."""

import argparse
import shutil

from c2fdft_arch.common.messages import escape_what_cannot_be_printed

WIDEST = 100
HELP_COLUMN = 32


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Leaves descriptions as they are, and gives most options one line."""

    def __init__(self, prog: str) -> None:
        width = min(WIDEST, shutil.get_terminal_size().columns)
        super().__init__(prog, max_help_position=HELP_COLUMN, width=width)


def command_parser(
    name: str, description: str | None, usage: str | None = None, epilog: str | None = None
) -> argparse.ArgumentParser:
    """The parser of `c2fdft name`; `usage` is what follows the name, all options if not given.

    From here on, what is printed may hold names of any bytes, in any locale.
    """
    escape_what_cannot_be_printed()
    return argparse.ArgumentParser(
        prog=f'c2fdft {name}',
        usage=None if usage is None else f'c2fdft {name} {usage}',
        description=description,
        epilog=epilog,
        formatter_class=HelpFormatter,
    )
