"""Finding or compiling, and loading, the library of kernels.

Without a compiler, or on a machine that they do not suit, PyTorch's operations serve;
`C2FDFT_NATIVE=0` in the environment switches the kernels off.
"""

import ctypes
import functools
import itertools
import logging
import os
import platform
from pathlib import Path

import torch

from c2fdft_arch.common.atomic_write import replacing
from c2fdft_arch.common.messages import is_switched_off
from c2fdft_arch.native import cache, compiler
from c2fdft_arch.native.errors import KernelsUnavailableError
from c2fdft_arch.native.layout import CHUNK_PIXELS, HALO, MAX_MR
from c2fdft_arch.native.structures import (
    JOIN_SHUFFLE,
    SAME,
    SHUFFLE,
    STRUCTURES,
    UNSHUFFLE,
    Shared,
)

SWITCH = 'C2FDFT_NATIVE'
CONSTANTS = {
    'SAME': SAME, 'UNSHUFFLE': UNSHUFFLE, 'SHUFFLE': SHUFFLE, 'JOIN_SHUFFLE': JOIN_SHUFFLE,
    'kHalo': HALO, 'kMaxMR': MAX_MR, 'kChunk': CHUNK_PIXELS,
}  # fmt: skip
INSTRUCTIONS = ('AVX2', 'AVX512')  # as PyTorch names what a CPU has


@functools.cache
def compiled_library() -> tuple[ctypes.CDLL | None, str]:
    """The library, compiled if it has not been, or None; and where it is, or why there is none."""
    try:
        _check_machine()
        return _find_or_compile()
    except (KernelsUnavailableError, OSError) as error:
        logging.getLogger(__name__).info('the kernels in C++ are not used: %s', error)
        return None, str(error)


def _check_machine() -> None:
    if is_switched_off(SWITCH):
        raise KernelsUnavailableError(f'{SWITCH}={os.environ[SWITCH]} switches them off')
    if platform.machine().lower() not in ('x86_64', 'amd64') or os.name != 'posix':
        raise KernelsUnavailableError(f'not tried on {platform.system()} {platform.machine()}')
    if torch.backends.cpu.get_cpu_capability() not in INSTRUCTIONS:
        raise KernelsUnavailableError('this CPU has neither AVX2 nor AVX-512')


def _find_or_compile() -> tuple[ctypes.CDLL, str]:
    """In the first folder that can be used. Raises KernelsUnavailableError."""
    reasons = []
    for folder in cache.folders():
        try:
            cache.make_private(folder)
            return _of_folder(folder)
        except OSError as error:  # it cannot be written to: the next one may
            reasons.append(f'{folder}: {error.strerror or error}')
    raise KernelsUnavailableError(f'no folder to keep them in: {"; ".join(reasons)}')


def _of_folder(folder: Path) -> tuple[ctypes.CDLL, str]:
    """The library in a folder, compiled there if need be.

    Where that is not possible, one that another compiler made for this machine serves. Raises
    KernelsUnavailableError, OSError.
    """
    stem = f'kernels-{compiler.machine_digest()}'
    try:
        path = folder / f'{stem}-{compiler.compiler_digest()}.so'
        return _loaded(path) or _compiled(path)
    except KernelsUnavailableError:
        others = folder.glob(f'{stem}-*.so')
        for other in sorted(others, key=lambda path: path.stat().st_mtime, reverse=True):
            if found := _loaded(other):
                return found
        raise


def _compiled(path: Path) -> tuple[ctypes.CDLL, str]:
    with cache.one_at_a_time(path.parent):
        if found := _loaded(path):  # another process was first
            return found
        logging.getLogger(__name__).warning(
            'compiling kernels for this CPU into %s; it takes about a minute, once', path
        )
        with replacing(path, durable=True) as temporary:
            compiler.compile_library(temporary)
            cache.seal(temporary, path.name)
            load(temporary)
        return load(path), str(path)


def _loaded(path: Path) -> tuple[ctypes.CDLL, str] | None:
    """A library of the cache; None if there is none, or not a whole one of ours."""
    if not cache.is_sealed(path):
        if path.exists():
            logging.getLogger(__name__).warning('%s is damaged, or not ours: not loaded', path)
        return None
    try:
        return load(path), str(path)
    except KernelsUnavailableError as error:
        logging.getLogger(__name__).warning('%s: %s', path, error)
        return None


def load(path: Path) -> ctypes.CDLL:
    """Load a library. Raises KernelsUnavailableError if it is not one of these kernels."""
    try:
        library = ctypes.CDLL(str(path))
        theirs = _shared_of(library)
    except (OSError, ValueError) as error:
        raise KernelsUnavailableError(f'not a library of these kernels: {error}') from None
    ours = {structure.__name__: ctypes.sizeof(structure) for structure in STRUCTURES} | CONSTANTS
    for name in {**theirs, **ours}:
        if theirs.get(name) != ours.get(name):
            raise KernelsUnavailableError(
                f'not a library of these kernels: {name} is {theirs.get(name)} there, '
                f'{ours.get(name)} here'
            )
    return library


def _shared_of(library: ctypes.CDLL) -> dict[str, int]:
    """Sizes of structures, and constants, by name. Raises ValueError where there are none."""
    table = ctypes.pointer(Shared.in_dll(library, 'shared'))
    entries = itertools.takewhile(lambda entry: entry.name, map(table.__getitem__, range(99)))
    return {entry.name.decode(): entry.value for entry in entries}
