"""Writing files so that each is there whole or not at all."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path

_LONGEST_STEM = 200  # bytes; most file systems end at 255 for a name
_TEMPORARY = re.compile(r'\..+\.[0-9a-f]{8}\.tmp(\.\w+)?')


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str], *, durable: bool = False) -> Iterator[Path]:
    """Give a new file beside `path`, which takes its place at the end of the `with` block.

    If the block raises, the new file is removed and `path` stays as it was. The new file has
    `path`'s ending. With `durable` it is on the disk before it takes the place. Folders are made
    as needed. Raises OSError.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _create_beside(path)
    try:
        yield temporary
        if durable:
            _sync(temporary)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    if durable:
        with contextlib.suppress(OSError):  # some systems cannot open a folder
            _sync(path.parent)


def write_bytes(
    path: str | os.PathLike[str], content: bytes | memoryview, *, durable: bool = False
) -> None:
    """Write a file, all of it or nothing; see `replacing`. Raises OSError."""
    with replacing(path, durable=durable) as temporary:
        temporary.write_bytes(content)


def remove_leftovers(folder: str | os.PathLike[str]) -> None:
    """Remove what writers that were killed have left behind in a folder."""
    for leftover in Path(folder).glob('.*.tmp*'):
        if _TEMPORARY.fullmatch(leftover.name):
            leftover.unlink(missing_ok=True)


def _create_beside(path: Path) -> Path:
    """An empty file that nobody else has; its name begins with a dot and cannot be foreseen."""
    stem = os.fsdecode(os.fsencode(path.stem)[:_LONGEST_STEM])
    while True:
        temporary = path.with_name(f'.{stem}.{secrets.token_hex(4)}.tmp{path.suffix}')
        with contextlib.suppress(FileExistsError):
            flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY
            os.close(os.open(temporary, flags, 0o666))
            return temporary


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
