"""Which image files a command works on, and where each result goes."""

import glob
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from c2fdft_arch.common.errors import C2FDFTError
from c2fdft_model.data.image_listing import OnError, list_images
from c2fdft_model.data.image_names import canonical_name
from c2fdft_model.images.image_files import FORMATS, is_image_name

COMPARE_FOLDER = 'compare'
LONGEST_ENDING = 5
"""Letters of a file name's ending; a folder's name may have a dot, too."""

Targets = dict[tuple[Path, Path], Path]
"""Where the result of each (source, source below the folder that was given) goes."""


class JobError(C2FDFTError, ValueError):
    """The inputs and the output do not fit together; the message says what to give instead."""


@dataclass(frozen=True)
class RestoreJob:
    """One image to restore."""

    source: Path
    target: Path
    relative: Path
    """The source below the folder that was given; its name alone if a file was given."""
    comparison: Path
    """Where the degraded and the restored image side by side go."""

    @property
    def name(self) -> str:
        """What seeds the noise: the file's name without its ending, as in validation."""
        return canonical_name(self.source.stem)


def find_jobs(
    inputs: Sequence[str],
    output: str,
    suffix: str | None = None,
    on_error: OnError | None = None,
    left_out: Callable[[str], object] = str,
) -> list[RestoreJob]:
    """The jobs for files, folders (with their subfolders) and glob patterns, in order.

    `output` is a file name if the only input is a file and the name ends like an image's; otherwise
    it is a folder, in which the inputs' subfolders are repeated. `suffix` (`.png`) replaces the
    endings of the inputs; without it, files of formats that are not written become PNG. `on_error`
    is called for subfolders that cannot be read, which are left out, and `left_out` with the path
    of each file in a folder that is not read. Raises JobError if there is nothing to do or a result
    would replace an input or another result.
    """
    target = Path(output)
    found = [pair for given in inputs for pair in _sources(given, target, on_error, left_out)]
    if len(inputs) == 1 and Path(inputs[0]).is_file() and _is_file_name(output):
        _check_file(target, suffix)
        targets = dict.fromkeys(found, target)
    else:
        _check_folder(target)
        names = _result_names([relative for _, relative in found], suffix)
        targets = {pair: target / name for pair, name in zip(found, names, strict=True)}
    _check_targets(targets)
    comparisons = _comparisons(targets)
    return [
        RestoreJob(source, to, relative, comparison)
        for ((source, relative), to), comparison in zip(targets.items(), comparisons, strict=True)
    ]


def _result_names(files: Sequence[Path], suffix: str | None) -> list[Path]:
    """What the results are called: as the files, with another ending where it has to be.

    Of files that differ by an ending which is not written, `a.bmp` and `a.gif`, each keeps it.
    """
    preferred = [
        file.with_suffix(suffix or (file.suffix if is_image_name(file) else '.png'))
        for file in files
    ]
    counts = Counter(preferred)
    return [
        name
        if suffix or is_image_name(file) or counts[name] == 1
        else file.with_name(f'{file.name}.png')
        for file, name in zip(files, preferred, strict=True)
    ]


def _sources(
    given: str, output: Path, on_error: OnError | None, left_out: Callable[[str], object]
) -> Iterator[tuple[Path, Path]]:
    path = Path(given)
    if path.is_dir():
        # Earlier results below the input are no inputs.
        inside = [] if output.exists() and output.samefile(path) else [output]
        listing = list_images(path, without=inside, on_error=on_error)
        for name in listing.others:
            left_out(str(path / name))
        for name in listing.images:
            yield path / name, Path(name)
    elif os.path.lexists(path):
        yield path, Path(path.name)
    elif glob.has_magic(given):
        yield from _matches(given)
    else:
        raise JobError(f'{given}: no such file or folder.')


def _matches(pattern: str) -> Iterator[tuple[Path, Path]]:
    """Files of a pattern and where they are below its fixed part; `**` follows no links."""
    parts = Path(pattern).parts
    fixed = next(i for i, part in enumerate(parts) if glob.has_magic(part))
    base, below = Path(*parts[:fixed]), parts[fixed:]
    if below[-1] == '**':
        below = (*below, '*')
    asks_for_hidden = any(part.startswith('.') for part in below)

    def is_asked_for(file: Path) -> bool:
        hidden = any(part.startswith('.') for part in file.relative_to(base).parts)
        return not file.is_dir() and (asks_for_hidden or not hidden)

    found = [file for file in sorted(base.glob(str(Path(*below)))) if is_asked_for(file)]
    if not found:
        raise JobError(f'{pattern}: no file matches.')
    yield from ((file, file.relative_to(base)) for file in found)


def _is_file_name(output: str) -> bool:
    """Whether the output names a file: it has an ending of letters, and there is no such folder."""
    ending = Path(output).suffix[1:]
    named = (
        ending.isalpha() and len(ending) <= LONGEST_ENDING and not output.endswith(('/', os.sep))
    )
    return is_image_name(Path(output)) or (named and not Path(output).is_dir())


def _real_path(path: Path) -> Path:
    """Where a path leads; unlike `Path.resolve`, also for a link that leads to itself."""
    return Path(os.path.realpath(path))


def _check_file(target: Path, suffix: str | None) -> None:
    if target.is_dir():
        raise JobError(f'{target} is a folder although it is named like a file.')
    if not is_image_name(target):
        raise JobError(
            f'{target} ends in {target.suffix}; written are {" ".join(FORMATS)}. For a folder of '
            f'this name give {target}/.'
        )
    if suffix and FORMATS[suffix] != FORMATS[target.suffix.lower()]:
        raise JobError(
            f'--format {suffix.lstrip(".")} contradicts {target}: leave one out, or give a folder.'
        )


def _check_folder(target: Path) -> None:
    if target.exists() and not target.is_dir():
        raise JobError(f'{target} is a file; give a folder for the results.')
    if not target.exists() and is_image_name(target):
        raise JobError(
            f'{target} is named like one image, but the input is not one file; give a folder.'
        )


def _check_targets(targets: Targets) -> None:
    taken: dict[Path, Path] = {}
    sources = {_real_path(source) for source, _ in targets}
    for (source, _), target in targets.items():
        place = _real_path(target)
        if place in sources:
            raise JobError(f'{target} is an input, too; give another output.')
        if place in taken:
            raise JobError(
                f'{taken[place]} and {source} would both become {target}; restore them into '
                'different folders.'
            )
        taken[place] = source


def _comparisons(targets: Targets) -> Iterator[Path]:
    """Where each comparison goes: no input, result or other comparison lies there.

    A comparison is named like the result, and keeps the result's ending where it needs to.
    """
    preferred = [
        target.parents[len(relative.parts) - 1] / COMPARE_FOLDER / relative.with_name(target.stem)
        for (_, relative), target in targets.items()
    ]
    counts = Counter(preferred)
    taken = {
        _real_path(path) for (source, _), target in targets.items() for path in (source, target)
    }
    for path, target in zip(preferred, targets.values(), strict=True):
        own = path.with_name(f'{path.name}.png')
        if counts[path] > 1 or _real_path(own) in taken:
            own = path.with_name(f'{target.name}.png')
        while _real_path(own) in taken:
            own = own.with_name(f'{own.name}.png')
        taken.add(_real_path(own))
        yield own
