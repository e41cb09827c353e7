"""The largest memory that a process has needed since a moment of its choice."""

from __future__ import annotations

import contextlib
from pathlib import Path

import torch

from c2fdft_model.training.allocator import give_back_freed_memory

STATUS = Path('/proc/self/status')
CLEAR = Path('/proc/self/clear_refs')
RESET_PEAK = '5'


class MemoryMeter:
    """Peak memory above that of the moment the meter was made, in bytes.

    On a GPU the allocated memory, otherwise the resident memory of the process. Linux forgets the
    peak of what came before `restart`; elsewhere the peak is that of the whole process.
    """

    def __init__(self) -> None:
        self.on_gpu = torch.cuda.is_available()
        give_back_freed_memory()  # what would be used again would not be seen
        self.baseline = 0 if self.on_gpu else resident('VmRSS')

    def restart(self) -> None:
        """Forget the peak until now."""
        if self.on_gpu:
            torch.cuda.reset_peak_memory_stats()
            return
        with contextlib.suppress(OSError):
            CLEAR.write_text(RESET_PEAK)

    def peak(self) -> int:
        """Bytes above the baseline."""
        now = torch.cuda.max_memory_allocated() if self.on_gpu else resident('VmHWM')
        return max(now - self.baseline, 0)


def resident(entry: str) -> int:
    """A line of the process's status in bytes; the peak where there is no such file."""
    try:
        lines = STATUS.read_text().splitlines()
    except OSError:
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    (line,) = (line for line in lines if line.startswith(f'{entry}:'))
    return int(line.split()[1]) * 1024
