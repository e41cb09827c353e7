"""The demo's stages: BasicSR runs in processes of their own, resumed or reused where possible."""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from c2fdft_arch.common.errors import C2FDFTError
from c2fdft_model.experiments.files import digest, read_json, write_json
from c2fdft_model.experiments.processes import end_of


class StageFailed(C2FDFTError, RuntimeError):
    """A stage's process ended with an error; the text names its log and shows its end."""


@dataclass(frozen=True)
class Stage:
    """One run of BasicSR.

    `key` names the stage in files, `title` on the screen. `product` is what is there when the
    run is over. `inputs` is a digest of what the run starts from.
    """

    key: str
    title: str
    script: str
    options: Path
    experiment: Path
    product: Path
    inputs: str
    arguments: tuple[str, ...] = ()

    def fingerprint(self) -> str:
        """A digest of all that determines the product: options, arguments and inputs."""
        return digest([self.options.read_text(), self.arguments, self.inputs])

    def total_iter(self) -> int | None:
        """Iterations of a training stage, None for a test."""
        options = yaml.safe_load(self.options.read_text())
        return options.get('train', {}).get('total_iter')


def perform(stage: Stage, record: Path, log: Path) -> float:
    """Run, resume or reuse a stage; return the seconds that it took, now or when it was run.

    The JSON file `record` holds what has been run, from which fingerprint and in how many seconds.
    Raises StageFailed.
    """
    entries = read_json(record) or {}
    entry = entries.get(stage.key, {})
    fingerprint, seconds_before = stage.fingerprint(), entry.get('seconds', 0.0)
    is_same = entry.get('fingerprint') == fingerprint
    if is_same and entry['finished'] and stage.product.exists():
        print(f'{stage.title}: reused ({readable(seconds_before)} when it was run)', flush=True)
        return seconds_before
    resume = is_same and any(stage.experiment.glob('training_states/*.state'))
    if not resume:
        shutil.rmtree(stage.experiment, ignore_errors=True)
        seconds_before = 0.0
    announce(stage, resume, log)
    start = time.monotonic()

    def keep_time(finished: bool = False) -> float:
        seconds = round(seconds_before + time.monotonic() - start, 3)
        entry = {'fingerprint': fingerprint, 'seconds': seconds, 'finished': finished}
        write_json(record, {**entries, stage.key: entry})
        return seconds

    keep_time()
    try:
        follow(command(stage, resume), log, stage.total_iter(), on_line=keep_time)
    finally:
        keep_time()
    if not stage.product.exists():
        raise StageFailed(f'{stage.title} ended without {stage.product}. Its log: {log}')
    seconds = keep_time(finished=True)
    print(f'{stage.title}: {readable(seconds)}', flush=True)
    return seconds


def announce(stage: Stage, resume: bool, log: Path) -> None:
    """Say what starts now and where its full output goes."""
    iterations = stage.total_iter()
    extent = f', {iterations} iterations' if iterations else ''
    print(f'\n{stage.title}{extent}{" (resumed)" if resume else ""}')
    print(f'  {" ".join(command(stage, resume)[1:])}')
    print(f'  full log: {log}', flush=True)


def command(stage: Stage, resume: bool = False) -> list[str]:
    """The stage's command line."""
    auto_resume = ['--auto_resume'] if resume else []
    options = str(stage.options)
    return [sys.executable, stage.script, '-opt', options, *auto_resume, *stage.arguments]


def environment() -> dict[str, str]:
    """The environment of a stage, with settings for small tensors where the user has none.

    Threads that wait asleep: on a machine that does other work beside, or has fewer free cores
    than threads, waiting in a loop makes such small operations ten times slower. More than four
    threads would not help them.
    """
    threads = str(min(4, len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else 4))
    return {'OMP_WAIT_POLICY': 'PASSIVE', 'OMP_NUM_THREADS': threads, **os.environ}


ITERATION = re.compile(
    r'iter: *([\d,]+), lr:\(([^,]+),.*\[eta: (-?)((?:\d+ days?, )?[\d:]+), .*?\)\] *(.*)'
)
WORTH_SHOWING = (' WARNING: ', ' ERROR: ', 'Resuming training', 'Loading ', 'Testing ', ' # ')


def progress(line: str, total_iter: int | None) -> str | None:
    """What a newcomer's screen shows of a line of BasicSR's output; None for nothing.

    Not the dumps of options and network layers, which are in the log.
    """
    found = ITERATION.search(line)
    if found is None:
        message = line.split(' INFO: ')[-1].strip()
        return message if any(mark in line for mark in WORTH_SHOWING) else None
    iteration, lr, negative, eta, values = found.groups()
    phase = re.search(r'phase: (\S+ \([^)]*\))', values)
    losses = re.findall(r'(l_\w+): (\S+)', values)
    parts = [
        f'iteration {iteration.replace(",", "")}/{total_iter}',
        f'left {"0:00:00" if negative else eta}',
        *([f'phase {phase[1]}'] if phase else []),
        *(f'{name} {float(value):.4f}' for name, value in losses),
        f'lr {lr}',
    ]
    return '  '.join(parts)


def follow(
    arguments: Sequence[str],
    log: Path,
    total_iter: int | None = None,
    on_line: Callable[[], object] = lambda: None,
) -> None:
    """Run a command, show its progress lines and write everything to `log`.

    Raises StageFailed, with the last lines, if the command fails. Ends the command with this
    process.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with (
        open(log, 'a', encoding='utf-8') as full,
        subprocess.Popen(
            arguments,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors='replace',
        ) as process,
    ):
        assert process.stdout is not None
        try:
            for line in process.stdout:
                full.write(line)
                shown = progress(line, total_iter)
                if shown is not None:
                    print(f'  {shown}', flush=True)
                    full.flush()
                    on_line()
        except BaseException:
            process.terminate()
            raise
    if process.returncode:
        raise StageFailed(
            f'{" ".join(arguments)} failed with exit code {process.returncode}; {end_of(log)}'
        )


def readable(seconds: float) -> str:
    """A duration as '3 min 05 s'."""
    minutes, rest = divmod(round(seconds), 60)
    return f'{minutes} min {rest:02d} s' if minutes else f'{rest} s'
