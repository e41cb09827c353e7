"""What the benchmarks share: a process for each case, its peak memory, and calls in turns."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def in_a_process(benchmark: str, work: dict[str, Any]) -> dict[str, Any]:
    """What `benchmark.py BENCHMARK --worker WORK` prints as JSON; empty if the process died."""
    script = Path(__file__).resolve().parent.parent / 'benchmark.py'
    done = subprocess.run(
        [sys.executable, str(script), benchmark, '--worker', json.dumps(work)],
        capture_output=True,
        text=True,
        env={**os.environ, 'C2FDFT_AUTOLOAD': '0'},
    )
    if done.returncode:
        print(done.stderr[-2000:], file=sys.stderr)
        return {}
    return json.loads(done.stdout.splitlines()[-1])


def peak_memory_mb(device: str) -> float:
    """Largest resident size of this process, or on a GPU what PyTorch had allocated, in MiB."""
    if device != 'cpu':
        import torch

        return torch.cuda.max_memory_allocated() / 2**20
    from comparing.memory_meter import resident

    # getrusage's figure would begin with that of the process that started this one
    return resident('VmHWM') / 2**20


def fastest_in_turns(turns: dict[str, Callable[[], object]], repeat: int) -> dict[str, float]:
    """Seconds of each one's fastest call of `repeat`, taken in turns after an untimed one.

    What else goes on in the machine only ever adds time, to some calls more than to others.
    """
    times: dict[str, list[float]] = {name: [] for name in turns}
    for number in range(repeat + 1):
        for name, compute in turns.items():
            elapsed = seconds_of(compute)
            if number:
                times[name].append(elapsed)
    return {name: min(values) for name, values in times.items()}


def seconds_of(compute: Callable[[], object]) -> float:
    """How long a call takes."""
    began = time.perf_counter()
    compute()
    return time.perf_counter() - began
