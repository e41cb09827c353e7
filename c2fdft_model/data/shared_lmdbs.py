"""LMDBs that all data sets of a process share: one cannot be opened twice in a process."""

import os
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import lmdb

_environments: WeakValueDictionary[int, lmdb.Environment] = WeakValueDictionary()
_process = os.getpid()


def open_shared(folder: str, **arguments: Any) -> lmdb.Environment:
    """An LMDB opened for reading, the same for all callers of a process as long as it is in use.

    `arguments` are those of `lmdb.open`. Raises OSError if there is no such LMDB, and RuntimeError
    if something else has opened it in this process.
    """
    _close_inherited()
    file = Path(folder, 'data.mdb').stat().st_ino
    environment = _environments.get(file)
    if environment is None:
        arguments = {'readonly': True, 'lock': False, 'readahead': False, **arguments}
        try:
            environment = lmdb.open(folder, **arguments)
        except lmdb.Error as error:
            if 'already open' not in str(error):
                raise
            raise RuntimeError(
                f'{error} Another data set reads it. Use PatchCyclePairedDataset for both, or '
                'set num_worker_per_gpu above 0 for training.'
            ) from error
        _environments[file] = environment
    return environment


def _close_inherited() -> None:
    # What a process inherits by forking must not be used, nor be open if it is opened again.
    global _process
    if _process != os.getpid():
        for environment in list(_environments.values()):
            environment.close()
        _environments.clear()
        _process = os.getpid()
