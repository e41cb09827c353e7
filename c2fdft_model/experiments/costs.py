"""What a call costs: seconds, bytes of memory, and floating-point operations."""

import contextlib
import copy
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

Result = TypeVar('Result')


def timed(call: Callable[..., Result], *arguments: Any, **settings: Any) -> tuple[Result, float]:
    """What a call returns and the seconds that it took, its work on a GPU included."""
    wait_for_gpu()
    began = time.perf_counter()
    result = call(*arguments, **settings)
    wait_for_gpu()
    return result, time.perf_counter() - began


def wait_for_gpu() -> None:
    """Wait until the GPU, if this process uses one, has done what it was given."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


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
        Path('/proc/self/clear_refs').write_text('5')  # resets the peak


def resident_memory() -> int:
    """Resident size of this process; where the system has no /proc, its peak."""
    return _status('VmRSS')


def _status(entry: str) -> int:
    """A line of the process's status; the peak where there is no such file."""
    try:
        lines = Path('/proc/self/status').read_text().splitlines()
    except OSError:
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    (line,) = (line for line in lines if line.startswith(f'{entry}:'))
    return int(line.split()[1]) * 1024


def count_flops(network: nn.Module, inputs: tuple[Tensor, ...]) -> int:
    """Operations of one call's matrix products and convolutions, two per multiply-add.

    Counted on the meta device: that computes nothing, and counts a network that works in row bands
    like the same network in one piece.
    """
    meta = copy.deepcopy(network).to('meta').eval()
    with torch.enable_grad(), FlopCounterMode(display=False) as counter:
        meta(*(x.to('meta') for x in inputs))
    return counter.get_total_flops()
