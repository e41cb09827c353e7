"""The folders in which compiled kernels are kept, and whether a file in one can be trusted.

A library is executed as it is loaded. So its folder must be its user's alone, and a library ends
with a seal: a digest of its name and content, by which one that is cut short, damaged or not ours
is told before it is loaded.
"""

import contextlib
import hashlib
import logging
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import filelock
import platformdirs

from c2fdft_arch.common.atomic_write import remove_leftovers
from c2fdft_arch.native.errors import KernelsUnavailableError

NAME = 'c2fdft'
WAIT_SECONDS = 2400
_SEAL_BYTES = hashlib.sha256().digest_size


def folders() -> list[Path]:
    """Where libraries are kept: the first of these that can be written to is used.

    `$XDG_CACHE_HOME/c2fdft` or `~/.cache/c2fdft`; then, for users without a home, one in the
    folder of temporary files.
    """
    found = []
    with contextlib.suppress(RuntimeError):  # no home folder
        found.append(platformdirs.user_cache_path(NAME))
    found.append(Path(tempfile.gettempdir()) / f'{NAME}-{os.getuid()}')
    return [folder for folder in found if folder.is_absolute()]


def make_private(folder: Path) -> None:
    """Create a folder for its user alone, or see that it is; other users could replace what is run.

    Raises KernelsUnavailableError for one that another user owns or may write to, OSError.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = folder.stat()
    remedy = 'move it away, or name another place in XDG_CACHE_HOME'
    if status.st_uid not in (os.getuid(), 0):
        raise KernelsUnavailableError(
            f'{folder} belongs to another user (number {status.st_uid}), whose code would be run: '
            f'{remedy}'
        )
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise KernelsUnavailableError(
            f'others may write to {folder} (mode {stat.S_IMODE(status.st_mode):04o}), and their '
            f'code would be run: {remedy}'
        )


@contextlib.contextmanager
def one_at_a_time(folder: Path) -> Iterator[None]:
    """Let one process work in a folder, in a `with` block; the others wait.

    Where the file system has no locks they work at the same time, which takes longer but harms
    nothing. Raises KernelsUnavailableError after forty minutes.
    """
    log = logging.getLogger(__name__)
    lock = filelock.FileLock(folder / 'compile.lock')
    with contextlib.ExitStack() as held:
        try:
            try:
                held.enter_context(lock.acquire(timeout=0))
            except filelock.Timeout:
                log.warning('waiting for another process that compiles kernels in %s', folder)
                held.enter_context(lock.acquire(timeout=WAIT_SECONDS))
            remove_leftovers(folder)
        except filelock.Timeout:
            raise KernelsUnavailableError(
                f'{lock.lock_file} has been locked for over {WAIT_SECONDS} s by another process'
            ) from None
        except (OSError, NotImplementedError) as error:
            log.info('%s has no locks (%s): compiling without one', folder, error)
        yield


def seal(file: Path, name: str) -> None:
    """Mark a library as whole, under the name that it will have; the loader ignores the mark."""
    mark = _digest(name, file.read_bytes())
    with file.open('ab') as appended:
        appended.write(mark)


def is_sealed(file: Path) -> bool:
    """Whether a library is there, whole, and was made by us under this name."""
    try:
        content = file.read_bytes()
    except OSError:
        return False
    return content[-_SEAL_BYTES:] == _digest(file.name, content[:-_SEAL_BYTES])


def _digest(name: str, content: bytes) -> bytes:
    return hashlib.sha256(f'{name}\0'.encode() + content).digest()
