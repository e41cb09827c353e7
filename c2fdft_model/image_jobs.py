"""Which image files a command works on, and where each result goes."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from c2fdft_model.image_files import FORMATS, is_image_name

COMPARE_FOLDER = 'compare'


class JobError(ValueError):
    """The inputs and the output do not fit together; the message says what to give instead."""


@dataclass(frozen=True)
class Job:
    """One image to restore."""

    source: Path
    target: Path
    relative: Path
    """The source below the folder that was given; its name alone if a file was given."""

    @property
    def name(self) -> str:
        """What seeds the noise: the file's name without its ending, as in validation."""
        return self.source.stem

    @property
    def comparison(self) -> Path:
        """Where a picture of the degraded and the restored image goes."""
        folder = self.target
        for _ in self.relative.parts:
            folder = folder.parent
        return folder / COMPARE_FOLDER / self.relative.parent / f'{self.target.stem}.png'


def find_jobs(inputs: Sequence[str], output: str, suffix: str | None = None) -> list[Job]:
    """The jobs for files, folders (with their subfolders) and glob patterns, in order.

    `output` is a file name if the only input is a file and the name ends like an image's; otherwise
    it is a folder, in which the inputs' subfolders are repeated. `suffix` (`.png`) replaces the
    endings of the inputs. Raises JobError if there is nothing to do or a result would replace an
    input or another result.
    """
    target = Path(output)
    sources = [found for given in inputs for found in _sources(given, target)]
    if len(inputs) == 1 and Path(inputs[0]).is_file() and is_image_name(target):
        if target.is_dir():
            raise JobError(f'{target} is a folder although it is named like a file.')
        jobs = [Job(Path(inputs[0]), target, Path(target.name))]
    else:
        _check_folder(target)
        jobs = [
            Job(source, target / _renamed(relative, suffix), _renamed(relative, suffix))
            for source, relative in dict.fromkeys(sources)
        ]
    _check_targets(jobs)
    return jobs


def _sources(given: str, output: Path) -> Iterator[tuple[Path, Path]]:
    path = Path(given)
    if path.is_dir():
        files = _images_below(path, output)
        if not files:
            raise JobError(f'{path} has no images ({" ".join(FORMATS)}).')
        yield from ((file, file.relative_to(path)) for file in files)
    elif path.exists():
        yield path, Path(path.name)
    elif glob.has_magic(given):
        yield from _matches(given)
    else:
        raise JobError(f'{given}: no such file or folder.')


def _matches(pattern: str) -> Iterator[tuple[Path, Path]]:
    parts = Path(pattern).parts
    fixed = next(i for i, part in enumerate(parts) if glob.has_magic(part))
    base = Path(*parts[:fixed])
    files = [Path(f) for f in sorted(glob.glob(pattern, recursive=True)) if os.path.isfile(f)]
    if not files:
        raise JobError(f'{pattern}: no file has such a name.')
    yield from ((file, file.relative_to(base)) for file in files)


def _images_below(folder: Path, output: Path) -> list[Path]:
    """Images in a folder and below, without earlier results, hidden files and unfinished ones."""
    results = output.resolve()
    inside = folder.resolve() in results.parents
    found = []
    for at, folders, files in os.walk(folder, followlinks=True):
        folders[:] = sorted(f for f in folders if not (inside and Path(at, f).resolve() == results))
        found += [
            Path(at, f) for f in sorted(files) if is_image_name(Path(f)) and not f.startswith('.')
        ]
    return found


def _renamed(relative: Path, suffix: str | None) -> Path:
    return relative.with_suffix(suffix) if suffix else relative


def _check_folder(target: Path) -> None:
    if target.exists() and not target.is_dir():
        raise JobError(f'{target} is a file; give a folder for the results.')
    if not target.exists() and is_image_name(target):
        raise JobError(
            f'{target} is named like one image, but the input is not one file; give a folder.'
        )


def _check_targets(jobs: Sequence[Job]) -> None:
    taken: dict[Path, Path] = {}
    sources = {job.source.resolve() for job in jobs}
    for job in jobs:
        target = job.target.resolve()
        if target in sources:
            raise JobError(f'{job.target} is an input, too; give another output.')
        if target in taken:
            raise JobError(
                f'{taken[target]} and {job.source} would both become {job.target}; restore them '
                'into different folders.'
            )
        taken[target] = job.source
