"""The option files that travel with the package, and their way into a BasicSR checkout."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent


def option_folder() -> Path:
    """Return the folder of the option files: in the package, or beside it in a source tree.

    Raises FileNotFoundError if there is neither.
    """
    for folder in (PACKAGE / 'options', PACKAGE.parent.parent / 'options'):
        if any(folder.rglob('*.yml')):
            return folder
    raise FileNotFoundError(
        f'no option files in {PACKAGE}/options or {PACKAGE.parent.parent}/options'
    )


@dataclass
class Copied:
    """What became of each option file, by its path inside the target folder."""

    target: Path
    written: list[Path] = field(default_factory=list)
    unchanged: list[Path] = field(default_factory=list)
    refused: list[Path] = field(default_factory=list)


def copy_options(checkout: Path, force: bool = False) -> Copied:
    """Copy the option files into `checkout`/options, or into `checkout` if it is such a folder.

    A file that is there with other contents is left alone and listed as refused, unless `force`.
    Raises NotADirectoryError if `checkout` is no folder.
    """
    if not checkout.is_dir():
        raise NotADirectoryError(f'{checkout} is not a folder; give the root of a BasicSR checkout')
    source = option_folder()
    inside = checkout.name == 'options' and not (checkout / 'options').is_dir()
    copied = Copied(checkout if inside else checkout / 'options')
    for path in sorted(source.rglob('*.yml')):
        name = path.relative_to(source)
        target = copied.target / name
        if target.exists() and target.read_bytes() == path.read_bytes():
            copied.unchanged.append(name)
        elif target.exists() and not force:
            copied.refused.append(name)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
            copied.written.append(name)
    return copied
