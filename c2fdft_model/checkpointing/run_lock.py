"""One run at a time in the folder of an experiment: a second of the same name is refused.

BasicSR would rename the folder of the first one, which then writes into that of the second.
"""

import contextlib
import errno
import os
import socket
import time
from pathlib import Path
from typing import IO

from c2fdft_arch.common.atomic_write import open_to_append
from c2fdft_arch.common.errors import C2FDFTError

LOCKS_NOT_SUPPORTED = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL, errno.EPERM)
_held: dict[Path, IO[str]] = {}


class RunInProgress(C2FDFTError, ValueError):
    """Another process works in the same folder; the text says which."""


def lock_folder(folder: str | os.PathLike[str]) -> bool:
    """Claim a folder of results until this process ends, however it does; whether that could be.

    The lock is on the file `.<name>.lock` beside the folder, so that it outlives a renaming, and
    belongs to this process, not to those forked from it. A disk without locks cannot be claimed.

    Raises RunInProgress if another process has it.
    """
    folder = Path(folder).absolute()
    path = folder.with_name(f'.{folder.name}.lock')
    if path in _held:
        return True
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = open_to_append(path)  # held until the process ends
    except OSError:
        return False  # whoever writes there will say why
    if not _lock(file):
        holder = _holder(file)
        raise RunInProgress(
            f'name: {folder} is in use by another process{holder}: give this run another name, or '
            'wait until that one has ended.'
        )
    with contextlib.suppress(OSError):
        file.truncate(0)
        file.write(f'{os.getpid()} {socket.gethostname()} {time.strftime("%Y-%m-%d %H:%M:%S")}\n')
        file.flush()
    _held[path] = file
    return True


def _lock(file: IO[str]) -> bool:
    """Whether the lock could be had; True as well where there are none to be had."""
    try:
        import fcntl
    except ImportError:
        return True
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno in LOCKS_NOT_SUPPORTED
    return True


def _holder(file: IO[str]) -> str:
    with contextlib.suppress(OSError, ValueError):
        file.seek(0)
        pid, host, since = file.read().strip().split(' ', 2)
        return f' ({pid} on {host}, since {since})'
    return ''
