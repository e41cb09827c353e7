"""Training under an equal budget: iterations, or minutes measured on this machine."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from comparing.systems import ComparisonError, System, budgeted

SCRIPTS = Path(__file__).resolve().parents[1]
CALIBRATION = 4
"""Iterations of each patch size that are timed; the first is left out."""


@dataclass(frozen=True)
class Trained:
    """What a training left: the options and the weights of the last stage, and its cost."""

    options: dict[str, Any]
    weights: Path
    iterations: int
    seconds: float


def iterations_for(total_iters: Sequence[int], budget: int) -> list[int]:
    """`budget` iterations shared among the stages in the proportion of their own numbers."""
    whole = sum(total_iters)
    counts = [max(round(budget * count / whole), 1) for count in total_iters]
    counts[-1] = max(counts[-1] + budget - sum(counts), 1)
    return counts


def iterations_in(
    total_iters: Sequence[int], seconds_each: Sequence[float], seconds: float
) -> list[int]:
    """Iterations of each stage, in the proportion of their own numbers, that take `seconds`."""
    whole = sum(n * each for n, each in zip(total_iters, seconds_each, strict=True))
    return [max(round(n * seconds / whole), 1) for n in total_iters]


def mean_seconds(times: Mapping[str, Sequence[float]], lengths: Sequence[int]) -> float:
    """Seconds per iteration over the patch cycle, from the times of each patch size.

    `times` in the cycle's order; `lengths` are the iterations of its phases.
    """
    each = [sum(t[1:]) / len(t[1:]) if len(t) > 1 else t[0] for t in times.values()]
    if len(each) != len(lengths):
        return sum(each) / len(each)
    return sum(e * n for e, n in zip(each, lengths, strict=True)) / sum(lengths)


def calibrate(system: System, folder: Path) -> list[float]:
    """Seconds per iteration of each stage, from a few iterations of every patch size."""
    seconds = []
    for number, options in enumerate(system.stages):
        data = options['datasets']['train']
        phases = len(data.get('gt_sizes', [0]))
        short = budgeted(options, phases * CALIBRATION, calibrate=CALIBRATION)
        short['path']['pretrain_network_g'] = None
        times = run_training(short, folder / f'calibration_{number}')
        given = data.get('iters') or [1]
        seconds.append(
            mean_seconds(times['by_size'], given if len(given) == phases else given * phases)
        )
        shutil.rmtree(folder / f'calibration_{number}')
    return seconds


def train(system: System, iterations: Sequence[int], folder: Path) -> Trained:
    """Train the stages one after the other, each from the weights of the one before."""
    weights: Path | None = None
    seconds = 0.0
    for number, (options, count) in enumerate(zip(system.stages, iterations, strict=True)):
        stage = budgeted(options, count)
        if weights is not None:
            stage['path']['pretrain_network_g'] = str(weights)
        place = folder / f'stage_{number}'
        times = run_training(stage, place)
        seconds += times['seconds']
        weights = place / 'experiments' / stage['name'] / 'models' / 'net_g_latest.pth'
    assert weights is not None
    return Trained(system.stages[-1], weights, sum(iterations), seconds)


def run_training(options: dict[str, Any], folder: Path) -> dict[str, Any]:
    """BasicSR's training in a process of its own, in `folder`; returns its times.

    Raises ComparisonError, with the end of the log, if it fails.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    path = folder / 'options.yml'
    path.write_text(yaml.safe_dump(options, sort_keys=False))
    run_module('comparing.timed_training', [str(path), 'times.json'], folder)
    return json.loads((folder / 'times.json').read_text())


def run_module(module: str, arguments: Sequence[str], folder: Path) -> None:
    """Run one of our modules in a process of its own; ComparisonError shows how it ended."""
    paths = [str(SCRIPTS), str(SCRIPTS.parent), os.environ.get('PYTHONPATH', '')]
    environment = os.environ | {'PYTHONPATH': os.pathsep.join(filter(None, paths))}
    log = folder / f'{module.rpartition(".")[2]}.log'
    with log.open('w') as stream:
        run = subprocess.run(
            [sys.executable, '-u', '-m', module, *arguments],
            cwd=folder,
            env=environment,
            stdout=stream,
            stderr=subprocess.STDOUT,
        )
    if run.returncode:
        end = '\n'.join(log.read_text(errors='replace').splitlines()[-12:])
        raise ComparisonError(f'{module} ended with {run.returncode}; the end of {log}:\n{end}')
