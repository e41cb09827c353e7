"""Which files lie in a folder and below it, for everything that works on folders of images."""

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from c2fdft_arch.common.errors import C2FDFTError
from c2fdft_model.images.image_io import IMAGE_SUFFIXES

THUMBNAIL_FOLDERS = ('__MACOSX', '@eaDir')
"""Folders that macOS archives and Synology disks put beside images; their files are no images."""

OnError = Callable[[OSError], object]
Identity = tuple[int, int]
"""Device and number of a folder, which links to it share."""


class ListingError(C2FDFTError, ValueError):
    """A folder that is missing, cannot be read, or holds no images; the text names it."""


@dataclass(frozen=True)
class Listing:
    """The files of a folder and below it: sorted relative paths with forward slashes."""

    folder: Path
    images: list[str]
    others: list[str]
    """Files whose names do not end like those of images."""


def list_images(
    folder: str | os.PathLike[str],
    *,
    without: Iterable[str | os.PathLike[str]] = (),
    on_error: OnError | None = None,
) -> Listing:
    """The images of a folder and the folders below it.

    Hidden files and folders (macOS's `._1.png`, unfinished files) and `THUMBNAIL_FOLDERS` are left
    out, and so are the folders `without`. Links are followed; a folder with several names is listed
    once, under the name that is no link.

    Raises ListingError if there is no such folder or no image in it, and for a folder below it that
    cannot be read, unless `on_error` takes the error.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ListingError(f'{folder}: there is no such folder.')
    names = sorted(list_files(folder, without, on_error or _refuse))
    images = [name for name in names if name.lower().endswith(IMAGE_SUFFIXES)]
    if not images:
        raise ListingError(f'{folder} has no images ({" ".join(IMAGE_SUFFIXES)}).')
    others = [name for name in names if not name.lower().endswith(IMAGE_SUFFIXES)]
    return Listing(folder, images, others)


def list_files(
    folder: Path, without: Iterable[str | os.PathLike[str]] = (), on_error: OnError | None = None
) -> Iterator[str]:
    """Relative paths of the files that `list_images` would look at, in no order."""
    seen = {identity for path in without if (identity := _identity(path))}
    starts = [folder]
    for start in starts:  # grows: links come after all folders that are none
        for place, folders, files in os.walk(start, onerror=on_error):
            identity = _identity(place)
            folders[:] = [] if identity in seen else sorted(filter(_is_shown, folders))
            if identity is None or identity in seen:
                continue
            seen.add(identity)
            starts += [Path(place, name) for name in folders if Path(place, name).is_symlink()]
            below = Path(place).relative_to(folder)
            yield from ((below / name).as_posix() for name in files if _is_shown(name))


def find_file(path: Path, *names: str) -> Path:
    """The file itself, or the first there is of these names in a folder or anywhere below it.

    Raises FileNotFoundError naming what was looked for.
    """
    if path.is_file():
        return path
    files = sorted(list_files(path), key=lambda name: (name.count('/'), name))
    for name in names:
        if found := next((file for file in files if file.rpartition('/')[2] == name), None):
            return path / found
    raise FileNotFoundError(f'{path}: there is no {" and no ".join(names)} in it or below.')


def _is_shown(name: str) -> bool:
    return not name.startswith('.') and name not in THUMBNAIL_FOLDERS


def _identity(path: str | os.PathLike[str]) -> Identity | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _refuse(error: OSError) -> None:
    raise ListingError(f'{error.filename} cannot be read: {error.strerror or error}.') from error
