"""The C library's memory allocator, set up for training on a CPU."""

import ctypes
import os
from typing import Any

# Parameters of mallopt(3).
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
USERS_OWN = ('MALLOC_', 'GLIBC_TUNABLES')


def disable_malloc_trim() -> bool:
    """Make glibc keep the memory that this process frees for reuse; returns whether it does.

    glibc gives the memory of an iteration back to the system at its end, which then provides it
    again page by page, each of them cleared. Other C libraries are left alone, and so is glibc
    where the environment sets it up (`MALLOC_...`, `GLIBC_TUNABLES`).
    """
    mallopt = _function_of_glibc('mallopt')
    if mallopt is None or any(name.startswith(USERS_OWN) for name in os.environ):
        return False
    return bool(mallopt(M_TRIM_THRESHOLD, -1)) and bool(mallopt(M_MMAP_MAX, 0))


def give_back_freed_memory() -> None:
    """Return the memory that is kept for reuse to the system, this once."""
    malloc_trim = _function_of_glibc('malloc_trim')
    if malloc_trim is not None:
        malloc_trim(ctypes.c_size_t(0))


def _function_of_glibc(name: str) -> Any:
    try:
        return getattr(ctypes.CDLL(None), name)
    except (AttributeError, OSError, TypeError):
        return None
