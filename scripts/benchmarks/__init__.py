"""What the benchmarks share: a process for each case, its peak memory, and calls in turns."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any


def in_a_process(benchmark: str, work: dict[str, Any]) -> dict[str, Any]:
    """What `benchmark.py BENCHMARK --worker WORK` prints as JSON; empty if the process died."""
    done = subprocess.run(
        _command(benchmark, work), capture_output=True, text=True, env=_environment()
    )
    if done.returncode:
        print(done.stderr[-2000:], file=sys.stderr)
        return {}
    return json.loads(done.stdout.splitlines()[-1])


@contextlib.contextmanager
def process_for_turns(benchmark: str, work: dict[str, Any]) -> Iterator[subprocess.Popen[str]]:
    """`benchmark.py BENCHMARK --worker WORK`, which reads names of turns and answers each."""
    process = subprocess.Popen(
        _command(benchmark, work),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=_environment(),
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def take_turn(process: subprocess.Popen[str], name: str) -> None:
    """Have a process take a turn. Raises TurnFailed if it died."""
    assert process.stdin is not None and process.stdout is not None
    try:
        print(name, file=process.stdin, flush=True)
    except BrokenPipeError:
        raise TurnFailed(name) from None
    if process.stdout.readline() != 'done\n':
        raise TurnFailed(name)


class TurnFailed(Exception):
    """A process died, for lack of memory for example."""


def _command(benchmark: str, work: dict[str, Any]) -> list[str]:
    script = Path(__file__).resolve().parent.parent / 'benchmark.py'
    return [sys.executable, str(script), benchmark, '--worker', json.dumps(work)]


def _environment() -> dict[str, str]:
    return {**os.environ, 'C2FDFT_AUTOLOAD': '0'}


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

    What else goes on in the machine only ever adds time, to some calls more than to others. Those
    that fail (TurnFailed) are left out.
    """
    times: dict[str, list[float]] = {name: [] for name in turns}
    for number in range(repeat + 1):
        for name in list(times):
            try:
                elapsed = seconds_of(turns[name])
            except TurnFailed:
                del times[name]
                continue
            if number:
                times[name].append(elapsed)
    return {name: min(values) for name, values in times.items() if values}


def seconds_of(compute: Callable[[], object]) -> float:
    """How long a call takes."""
    began = time.perf_counter()
    compute()
    return time.perf_counter() - began
