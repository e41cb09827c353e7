"""Training under an equal budget: iterations, or minutes measured on this machine."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from c2fdft_model.experiments.basicsr_training import run_training
from c2fdft_model.experiments.systems import System, phase_lengths, with_budget

CALIBRATION = 10
"""Iterations of each patch size that are timed; the first is left out."""


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
    """Seconds per iteration over the patch cycle, from the median of each patch size's times.

    `times` in the cycle's order; `lengths` are the iterations of its phases.
    """
    each = [np.median(t[1:] or t) for t in times.values()]
    return float(np.average(each, weights=lengths if len(each) == len(lengths) else None))


def calibrate(system: System, folder: Path) -> list[float]:
    """Seconds per iteration of each stage, from a few iterations of every patch size."""
    seconds = []
    for number, options in enumerate(system.stages):
        lengths = phase_lengths(options['datasets']['train'])
        short = with_budget(options, len(lengths) * CALIBRATION, CALIBRATION)
        short['path']['pretrain_network_g'] = None
        place = folder / f'stage_{number}'
        seconds.append(mean_seconds(run_training(short, place)['by_size'], lengths))
    shutil.rmtree(folder)
    return seconds


def train(system: System, iterations: Sequence[int], folder: Path) -> dict:
    """Train the stages one after the other, each from the weights of the one before.

    Returns the `options` and the `weights` of the last stage, and all `iterations` and `seconds`.
    """
    weights: str | None = None
    seconds = 0.0
    for number, (options, count) in enumerate(zip(system.stages, iterations, strict=True)):
        stage = with_budget(options, count)
        if weights is not None:
            stage['path']['pretrain_network_g'] = weights
        place = folder / f'stage_{number}'
        seconds += run_training(stage, place)['seconds']
        weights = str(place / 'experiments' / stage['name'] / 'models' / 'net_g_latest.pth')
    return {
        'options': system.stages[-1],
        'weights': weights,
        'iterations': sum(iterations),
        'seconds': seconds,
    }
