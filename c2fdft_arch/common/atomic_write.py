"""Writing files so that each is there whole or not at all."""

import contextlib
import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import IO

# Bytes: most file systems end at 255 for a name, encrypted ones at 143.
_LONGEST_STEM, _LONGEST_SUFFIX = 80, 20
_TEMPORARY = re.compile(r'\..+\.[0-9a-f]{8}\.tmp(\.\w+)?')


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str], *, durable: bool = False) -> Iterator[Path]:
    """Yield an empty file beside `path`, which replaces it at the end of the `with` block.

    If the block raises, the new file is removed and `path` stays as it was. The new file has
    `path`'s suffix and, with `durable`, is on the disk before it replaces `path`. Missing folders
    are created. Raises OSError, whose `filename` is that of `path`.
    """
    path = Path(path)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = _create_beside(path)
        yield temporary
        if durable:
            _sync(temporary)
        os.replace(temporary, path)
    except BaseException as error:
        if temporary is not None:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            _name(error, path, temporary)
        raise
    if durable:
        sync_folder(path.parent)


def _name(error: OSError, path: Path, temporary: Path | None) -> None:
    """Let an error of writing say which file, not which temporary one."""
    if error.filename is None or temporary is None or Path(error.filename) == temporary:
        error.filename = str(path)
        if error.filename2 is not None:
            del error.filename2


def write_bytes(
    path: str | os.PathLike[str], content: bytes | memoryview, *, durable: bool = False
) -> None:
    """Write a file, all of it or nothing; see `replacing`. Raises OSError."""
    with replacing(path, durable=durable) as temporary, open(temporary, 'wb') as file:
        file.write(content)


def open_to_append(path: str | os.PathLike[str]) -> IO[str]:
    """A text file to read and to append to; it is created, and a link is not followed.

    Raises OSError, for a link too.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, 'O_NOFOLLOW', 0)
    return os.fdopen(os.open(path, flags, 0o666), 'a+', encoding='utf-8')


def sync_folder(folder: str | os.PathLike[str]) -> None:
    """See that the names in a folder are on the disk, where the system can do that."""
    with contextlib.suppress(OSError):  # some systems cannot open a folder
        _sync(Path(folder))


def remove_leftovers(folder: str | os.PathLike[str]) -> None:
    """Remove what writers that were killed have left behind in a folder."""
    for leftover in Path(folder).glob('.*.tmp*'):
        if _TEMPORARY.fullmatch(leftover.name):
            with contextlib.suppress(OSError):  # a folder of that name, or another user's file
                leftover.unlink()


def _create_beside(path: Path) -> Path:
    """Create an empty, hidden file of a name that no other writer has and nobody can guess."""
    whole_letters = os.fsencode(path.stem)[:_LONGEST_STEM].decode('utf-8', 'ignore')
    stem = os.fsdecode(whole_letters.encode())
    suffix = path.suffix if len(os.fsencode(path.suffix)) <= _LONGEST_SUFFIX else ''
    while True:
        temporary = path.with_name(f'.{stem}.{secrets.token_hex(4)}.tmp{suffix}')
        with contextlib.suppress(FileExistsError):
            temporary.touch(exist_ok=False)  # does not follow a link either
            return temporary


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
