"""Measuring many items, in parallel processes, so that one bad item does not stop the rest."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import cv2
import numpy as np

from c2fdft_model.evaluation.problems import Problem

Measure = Callable[[Any, Any], dict[str, float]]


class Item(Protocol):
    """Something with a name that loads a result and its truth; it is sent to other processes."""

    @property
    def name(self) -> str: ...

    def load(self) -> tuple[Any, Any]: ...


@dataclass(frozen=True)
class EvaluationSet:
    """The items of an evaluation, what was wrong before it began and what its reader must know."""

    count: int
    items: Callable[[], Iterator[Any]]
    problems: list[Problem]
    notes: list[str]


@dataclass
class Measurements:
    """Numbers by item name, in the order of the names once complete, and the problems."""

    numbers: dict[str, dict[str, float]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def mean(self, number: str) -> float:
        """The mean over the items; not a number without any."""
        values = [numbers[number] for numbers in self.numbers.values()]
        return float(np.mean(values)) if values else float('nan')


def measure_all(
    measure: Measure,
    work: EvaluationSet,
    workers: int = 1,
    progress: Callable[[Iterable], Iterable] = iter,
) -> Measurements:
    """Applies `measure` to every item; what an item raises becomes a problem under its name.

    `workers` processes share the work, 1 does it here. `progress` wraps the stream of outcomes, as
    a progress bar does.
    """
    done = Measurements(problems=list(work.problems))
    for outcome in progress(_outcomes(partial(_measure_item, measure), work, workers)):
        if isinstance(outcome, Problem):
            done.problems.append(outcome)
        else:
            name, numbers = outcome
            done.numbers[name] = numbers
    done.numbers = dict(sorted(done.numbers.items()))
    return done


def _outcomes(task: Callable, work: EvaluationSet, workers: int) -> Iterator:
    workers = min(workers, work.count)
    if workers <= 1:
        yield from map(task, work.items())
        return
    # spawn, because forking a process that has threads (OpenCV, PyTorch) can hang it
    context = multiprocessing.get_context('spawn')
    with context.Pool(workers, initializer=cv2.setNumThreads, initargs=(1,)) as pool:
        yield from pool.imap_unordered(task, work.items())


def _measure_item(measure: Measure, item: Item) -> tuple[str, dict[str, float]] | Problem:
    try:
        return item.name, measure(*item.load())
    except (ValueError, OSError) as error:
        return Problem(getattr(error, 'kind', 'unusable'), item.name, str(error))
