"""The largest memory that a process has needed, in bytes."""

import contextlib
from pathlib import Path

import torch

STATUS = Path('/proc/self/status')
CLEAR = Path('/proc/self/clear_refs')
RESET_PEAK = '5'


def peak_memory(device: str) -> int:
    """Largest resident size of this process, or on a GPU what PyTorch had allocated."""
    if device != 'cpu':
        return torch.cuda.max_memory_allocated()
    return _status('VmHWM')  # getrusage counts the process that started this one as well


def reset_peak_memory(device: str) -> None:
    """Make the peak what is in use now; systems other than Linux keep the old one."""
    if device != 'cpu':
        torch.cuda.reset_peak_memory_stats()
        return
    with contextlib.suppress(OSError):
        CLEAR.write_text(RESET_PEAK)


def resident_memory() -> int:
    """Resident size of this process; where the system has no /proc, its peak."""
    return _status('VmRSS')


def _status(entry: str) -> int:
    """A line of the process's status; the peak where there is no such file."""
    try:
        lines = STATUS.read_text().splitlines()
    except OSError:
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    (line,) = (line for line in lines if line.startswith(f'{entry}:'))
    return int(line.split()[1]) * 1024
