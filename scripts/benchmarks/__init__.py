"""What the benchmarks share: a process for each case, and its peak memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
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
