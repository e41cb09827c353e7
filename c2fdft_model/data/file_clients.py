"""File clients that all data sets of a process share: an LMDB cannot be opened twice in one."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import lmdb

_clients: WeakValueDictionary[str, Any] = WeakValueDictionary()
_process = os.getpid()


def file_client(make: Callable[..., Any], arguments: Mapping[str, Any]) -> Any:
    """The client of BasicSR's class `make` with these arguments, the same as long as it is in use.

    `arguments` are `type` and those of the backend of this type.

    Raises RuntimeError if another data set has opened one of its LMDBs in this process.
    """
    _close_inherited()
    files = [Path(path, 'data.mdb').stat().st_ino for path in arguments.get('db_paths', ())]
    key = repr((sorted(arguments.items()), files))
    client = _clients.get(key)
    if client is None:
        given = dict(arguments)
        try:
            client = make(given.pop('type'), **given)
        except lmdb.Error as error:
            if 'already open' not in str(error):
                raise
            raise RuntimeError(
                f'{error} Another data set reads it. Use PatchCyclePairedDataset for both, or '
                'set num_worker_per_gpu above 0 for training.'
            ) from error
        _clients[key] = client
    return client


def _close_inherited() -> None:
    # What a process inherits by forking must not be used, nor be open if it is opened again.
    global _process
    if _process == os.getpid():
        return
    for client in list(_clients.values()):
        for environment in getattr(client.client, '_client', {}).values():
            if isinstance(environment, lmdb.Environment):
                environment.close()
    _clients.clear()
    _process = os.getpid()
