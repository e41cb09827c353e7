"""BasicSR's log does not say which copy of it runs, the installed one or a checkout."""

import sys
from pathlib import Path

from c2fdft_model.plugin.patches.patch import patch, replaces

PACKAGE = 'basicsr'


@patch(
    fault='the log does not say which of several copies of BasicSR runs',
    upstream='none',
    module='basicsr.utils.logger',
)
def log_copies() -> bool:
    """Add the folders of BasicSR and of this package to the log's first lines."""
    from basicsr.utils import logger

    from c2fdft_arch import __version__

    @replaces(logger, 'get_env_info')
    def get_env_info(original) -> str:
        places = [
            f'BasicSR in: {folder_in_use()}',
            *(f'not used: another copy of BasicSR in {folder}' for folder in other_copies()),
            f'c2fdft: {__version__} in {Path(__file__).resolve().parents[3]}',
        ]
        return '\n\t'.join([original(), *places])

    return True


def folder_in_use() -> Path:
    """The folder of the BasicSR that this process has imported."""
    return Path(str(sys.modules[PACKAGE].__file__)).resolve().parent


def other_copies() -> list[Path]:
    """Folders of other BasicSRs that could have been meant, the nearest first.

    They are looked for where Python looks for modules, in the working directory, and around the
    running script, which of a checkout is basicsr/train.py and finds modules elsewhere.
    """
    script = Path(sys.argv[0] or '.').resolve()
    places = [Path.cwd(), script.parent.parent, *map(Path, sys.path)]
    copies = [(place / PACKAGE).resolve() for place in places]
    found = [copy for copy in copies if (copy / '__init__.py').is_file()]
    return [copy for copy in dict.fromkeys(found) if copy != folder_in_use()]
