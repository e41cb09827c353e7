"""Measuring many items, in parallel processes, so that one bad item does not stop the rest."""

import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import cv2
import numpy as np

from c2fdft_model.evaluation.image_protocols import Measure
from c2fdft_model.evaluation.problems import Problem

Item = tuple[str, Callable[[], tuple[Any, Any]]]
"""A name, and what loads a result and its ground truth; it is sent to other processes."""

WORKER_MB = 400
"""Memory of a process that measures small images (measured: interpreter, libraries, row bands)."""


@dataclass(frozen=True)
class EvaluationSet:
    """The items of an evaluation, what was wrong before it began and what its reader must know."""

    items: list[Item]
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    largest_image: int = 0
    """Pixels of the largest image; 0 where items are small."""

    def affordable_workers(self, asked: int, free_mb: float | None, pixel_bytes: int) -> int:
        """How many of the processes asked for the free memory suffices for, at least one."""
        if free_mb is None:
            return asked
        each_mb = WORKER_MB + self.largest_image * pixel_bytes / 2**20
        return max(1, min(asked, int(free_mb // each_mb)))


@dataclass
class Measurements:
    """Metrics by item name, in the order of the names once complete, and the problems."""

    metrics: dict[str, dict[str, float]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def mean(self, metric: str) -> float:
        """The mean over the items; NaN without any."""
        values = [metrics[metric] for metrics in self.metrics.values()]
        return float(np.mean(values)) if values else float('nan')


def measure_all(
    measure: Measure,
    evaluation_set: EvaluationSet,
    workers: int = 1,
    progress: Callable[[Iterable], Iterable] = iter,
) -> Measurements:
    """Apply `measure` to every item; what an item raises becomes a problem under its name.

    The items are shared among `workers` processes; 1 measures them in this one. `progress` wraps
    the stream of outcomes, as a progress bar does.
    """
    measured = Measurements(problems=list(evaluation_set.problems))
    for outcome in progress(_outcomes(partial(_measure_item, measure), evaluation_set, workers)):
        if isinstance(outcome, Problem):
            measured.problems.append(outcome)
        else:
            name, metrics = outcome
            measured.metrics[name] = metrics
    measured.metrics = dict(sorted(measured.metrics.items()))
    return measured


def _outcomes(task: Callable, evaluation_set: EvaluationSet, workers: int) -> Iterator:
    workers = min(workers, len(evaluation_set.items))
    if workers <= 1:
        yield from map(task, evaluation_set.items)
        return
    # spawn, because forking a process that has threads (OpenCV, PyTorch) can hang it
    context = multiprocessing.get_context('spawn')
    with context.Pool(workers, initializer=cv2.setNumThreads, initargs=(1,)) as pool:
        yield from pool.imap_unordered(task, evaluation_set.items)


def _measure_item(measure: Measure, item: Item) -> tuple[str, dict[str, float]] | Problem:
    name, load = item
    try:
        return name, measure(*load())
    except (ValueError, OSError) as error:
        return Problem(getattr(error, 'kind', 'unusable'), name, str(error))
