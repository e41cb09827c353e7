"""Writing files so that each is there whole or not at all."""

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
    """Yield an empty file beside `path`, which replaces it at the end of the `with` block.

    If the block raises, the new file is removed and `path` stays as it was. The new file has
    `path`'s suffix and, with `durable`, is on the disk before it replaces `path`. Missing folders
    are created. Raises OSError.
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
        sync_folder(path.parent)


def write_bytes(
    path: str | os.PathLike[str], content: bytes | memoryview, *, durable: bool = False
) -> None:
    """Write a file, all of it or nothing; see `replacing`. Raises OSError."""
    with replacing(path, durable=durable) as temporary:
        temporary.write_bytes(content)


def sync_folder(folder: str | os.PathLike[str]) -> None:
    """See that the names in a folder are on the disk, where the system can do that."""
    with contextlib.suppress(OSError):  # some systems cannot open a folder
        _sync(Path(folder))


def remove_leftovers(folder: str | os.PathLike[str]) -> None:
    """Remove what writers that were killed have left behind in a folder."""
    for leftover in Path(folder).glob('.*.tmp*'):
        if _TEMPORARY.fullmatch(leftover.name):
            leftover.unlink(missing_ok=True)


def _create_beside(path: Path) -> Path:
    """Create an empty, hidden file of a name that no other writer has and nobody can guess."""
    stem = os.fsencode(path.stem)[:_LONGEST_STEM].decode('utf-8', 'ignore')
    while True:
        temporary = path.with_name(f'.{stem}.{secrets.token_hex(4)}.tmp{path.suffix}')
        with contextlib.suppress(FileExistsError):
            temporary.touch(exist_ok=False)  # does not follow a link either
            return temporary


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
