"""The option files that come with the package, and copying them into a BasicSR checkout."""

import shutil
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
WRITTEN, UNCHANGED, LEFT_ALONE = 'wrote', 'unchanged', 'LEFT ALONE'


def option_folder() -> Path:
    """Return the folder of the option files: in the package, or beside it in a source tree.

    Raises FileNotFoundError if there is neither.
    """
    folders = PACKAGE / 'options', PACKAGE.parent.parent / 'options'
    for folder in folders:
        if any(folder.rglob('*.yml')):
            return folder
    raise FileNotFoundError(f'no option files in {folders[0]} or {folders[1]}')


def copy_options(checkout: Path, force: bool = False) -> dict[Path, str]:
    """Copy the option files into `checkout`/options, or into `checkout` if it is such a folder.

    Returns what became of each: `WRITTEN`, `UNCHANGED` or, if it is there with other contents and
    without `force`, `LEFT_ALONE`. Raises NotADirectoryError if `checkout` is no folder.
    """
    if not checkout.is_dir():
        raise NotADirectoryError(f'{checkout} is not a folder; give the root of a BasicSR checkout')
    is_options = checkout.name == 'options' and not (checkout / 'options').is_dir()
    folder = checkout if is_options else checkout / 'options'
    source = option_folder()
    outcomes = {}
    for path in sorted([*source.rglob('*.yml'), source / 'schema.json']):
        copy = folder / path.relative_to(source)
        if copy.exists() and copy.read_bytes() == path.read_bytes():
            outcomes[copy] = UNCHANGED
        elif copy.exists() and not force:
            outcomes[copy] = LEFT_ALONE
        else:
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
            outcomes[copy] = WRITTEN
    return outcomes
