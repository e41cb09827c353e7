"""The C library's memory allocator, set up for training on a CPU."""

from __future__ import annotations

import ctypes
import os

# Parameters of mallopt(3).
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
OWN_SETTINGS = ('MALLOC_', 'GLIBC_TUNABLES')


def keep_freed_memory() -> bool:
    """Have the process keep what it frees for what it allocates next; returns whether it will.

    An iteration frees and allocates as much as its peak, which glibc gives back to the system in
    between, and the system provides again page by page, each of them cleared. Other C libraries
    are left alone, and so is glibc where the environment sets it up (`MALLOC_...`,
    `GLIBC_TUNABLES`).
    """
    if any(name.startswith(OWN_SETTINGS) for name in os.environ):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return bool(mallopt(M_TRIM_THRESHOLD, -1)) and bool(mallopt(M_MMAP_MAX, 0))
