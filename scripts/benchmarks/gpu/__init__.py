"""What a GPU computes and how fast, in order of value: one command for a machine lent for minutes.

Correctness of every way of computing the network against PlainDFT in float32; training iterations
with the paper's batches; restoring; where the time goes. Each line is written to the JSON file as
soon as it is known, so that a run that is cut off still tells; a line that fails holds the error.
Each part has a process of its own. `--device cpu --dim 8` runs the same on a CPU, in small.
"""

import argparse
import importlib
import multiprocessing
import os
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import Figures
from benchmarks.gpu.lines import Lines, Setting, with_ratios
from c2fdft_arch.common.kernel_choice import interpreted, triton_is_installed

PARTS = ('correctness', 'iterations', 'restoring', 'profile', 'training_runs', 'compiled')


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `benchmark.py gpu`."""
    add = parser.add_argument
    add('--minutes', type=float, default=6, help='lines that would begin later are left out')
    add('--device', default='cuda', help='cuda, or cpu to try the command')
    add('--dim', type=int, default=48, help="the network's dim; 48 is full size")
    add('--parts', nargs='+', choices=PARTS, default=PARTS, metavar='PART', help=', '.join(PARTS))
    add(
        '--precisions', nargs='*', choices=('bf16', 'fp32'), default=['bf16', 'fp32'],
        help='whose Triton kernels are compiled first, side by side',
    )  # fmt: skip
    add('--only', default='', metavar='REGEX', help='only lines whose names it is found in')
    add('--lines', type=Path, default=Path('gpu_benchmark.jsonl'), help='where each line is kept')


def run(arguments: argparse.Namespace) -> Figures:
    """Measure part by part; a failure if a line holds an error or was left out."""
    began = time.time()
    setting = Setting(
        device=arguments.device,
        dim=arguments.dim,
        deadline=began + 60 * arguments.minutes,
        kernels=kernels_on(arguments.device),
    )
    arguments.lines.unlink(missing_ok=True)
    lines = Lines(arguments.lines)
    warm_up(setting, arguments.precisions)
    lines.add('machine', 'warm_up', seconds=round(time.time() - began, 1))
    for part in arguments.parts:
        in_process(part, setting, lines, arguments.only)
    found = with_ratios(lines.read())
    figures: dict[str, Any] = {'seconds': round(time.time() - began, 1), 'lines': found}
    return figures, not any('error' in line or 'left_out' in line for line in found)


def kernels_on(device: str) -> tuple[str, ...]:
    """The ways of computing that are measured on a device."""
    triton = triton_is_installed() and (device != 'cpu' or interpreted())
    return ('torch', 'triton') if triton else ('torch',)


def warm_up(setting: Setting, precisions: Sequence[str]) -> None:
    """Compile Triton's kernels, a process for each level: they are kept on the disk."""
    if 'triton' not in setting.kernels or setting.small:
        return
    context = multiprocessing.get_context('spawn')
    jobs = [
        context.Process(target=_compile_kernels, args=(setting, precision, level, training))
        for precision in precisions
        for level in range(5)
        for training in (True, False)
    ]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join(timeout=120)
        if job.is_alive():
            job.terminate()


def _compile_kernels(setting: Setting, precision: str, level: int, training: bool) -> None:
    from benchmarks.gpu import subjects

    subjects.compile_kernels(setting, precision, subjects.LEVELS[level], training)


def in_process(part: str, setting: Setting, lines: Lines, only: str) -> None:
    """Measure a part in a process of its own, and note it if the process dies."""
    process = multiprocessing.get_context('spawn').Process(
        target=_measure, args=(part, setting, lines, only)
    )
    process.start()
    process.join(timeout=max(setting.deadline - time.time(), 0) + 60)
    if process.is_alive():
        process.terminate()
        process.join()
        lines.add(part, 'process', error='ended: it took longer than the time that was left')
    elif process.exitcode:
        lines.add(part, 'process', error=f'ended with exit code {process.exitcode}')


def _measure(part: str, setting: Setting, lines: Lines, only: str) -> None:
    os.environ.setdefault('CUBLAS_WORKSPACE_CONFIG', ':4096:8')  # for deterministic algorithms
    module = importlib.import_module(f'benchmarks.gpu.{part}')
    for name, step in module.steps(setting):
        if re.search(only, name):
            lines.measure(part, name, step, setting.deadline)
