"""What predicting the clean image is to bring, and whether it does, with the figures of each seed.

A goal is a size, not only a sign: `claims` says which of two trainings is better.
"""

import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from c2fdft_model.experiments.tables import markdown_table
from replication.claims import FAILS, HOLDS, Claim, Metrics, paired_differences
from replication.targets import COARSE_OF, FINE_OF, time_to_quality

NOT_MEASURED = 'not measured'
HEADS = ('goal', 'task', 'wanted', 'here', 'each seed', 'verdict')
RAIN_AND_NOISE, BLUR, ALL = ('rain', 'noise'), ('blur',), ('rain', 'noise', 'blur')

Side = tuple[str, int | None]
"""A training and, for a coarse one, the number of network calls that it is tested with."""


@dataclass(frozen=True)
class Goal:
    """That a figure reaches `wanted`."""

    name: str
    sentence: str
    tasks: tuple[str, ...]
    wanted: float
    unit: str
    values: Callable[[Metrics], list[float]]
    """The figure of each seed that has it; -inf where there is none to reach."""
    every_seed: bool = False
    """Whether the worst seed has to reach it; else the mean of the seeds."""

    def entry(self, task: str, metrics: Metrics) -> dict[str, Any]:
        """What was measured of it in a task, in plain types; None is what was never reached."""
        values = self.values(metrics)
        summary = min if self.every_seed else statistics.fmean
        figure = summary(values) if values else None
        reached = HOLDS if figure is not None and figure >= self.wanted else FAILS
        return {
            'name': self.name,
            'sentence': self.sentence,
            'task': task,
            'wanted': self.wanted,
            'unit': self.unit,
            'seeds': len(values),
            'figure': _finite(figure),
            'each': [_finite(value) for value in values],
            'verdict': reached if values else NOT_MEASURED,
        }


def _gain(higher: Side, lower: Side) -> Callable[[Metrics], list[float]]:
    return partial(paired_differences, Claim('', '', '', higher, lower, measured='steps'))


def _above_input(metrics: Metrics) -> list[float]:
    """Of each seed, the least that coarse and fine training gained with any number of calls."""
    names = [COARSE_OF['clean'], *(FINE_OF['clean', steps] for steps in (4, 2, 1))]
    seeds = set.intersection(*(set(metrics.get(name, {})) for name in names))
    found = []
    for seed in sorted(seeds):
        coarse, *fine = (metrics[name][seed] for name in names)
        tested = [*coarse.get('steps', {}).values(), *fine]
        found.append(min(each['psnr'] for each in tested) - coarse['degraded']['psnr'])
    return found


def _times_shorter(ratio: str, metrics: Metrics) -> list[float]:
    points = [
        time_to_quality(metrics, 'clean', 4, seed) for seed in metrics.get(COARSE_OF['clean'], {})
    ]
    return [point.get(ratio, -math.inf) for point in points if point is not None]


def _one_call_speed(metrics: Metrics) -> list[float]:
    """Four calls against one, of the same network in the same test."""
    tests = [content.get('steps', {}) for content in metrics.get(COARSE_OF['clean'], {}).values()]
    return [
        test['4']['seconds'] / test['1']['seconds'] for test in tests if {'1', '4'} <= test.keys()
    ]


CLEAN_4, CLEAN_1 = ((FINE_OF['clean', steps], None) for steps in (4, 1))
GOALS = (
    Goal(
        'coarse_gain', 'coarse, 4 calls: clean above noise', RAIN_AND_NOISE, 3.0, 'dB',
        _gain((COARSE_OF['clean'], 4), (COARSE_OF['noise'], 4)),
    ),
    Goal(
        'fine_gain', 'fine, 4 calls: clean above noise', RAIN_AND_NOISE, 3.0, 'dB',
        _gain(CLEAN_4, (FINE_OF['noise', 4], None)),
    ),
    Goal(
        'above_input', 'clean, coarse and fine, any number of calls: never below the input', BLUR,
        0.0, 'dB', _above_input, every_seed=True,
    ),
    Goal(
        'time_in_iterations', "iterations until the PSNR of the noise target's end: fewer",
        RAIN_AND_NOISE, 5.0, 'times', partial(_times_shorter, 'ratio'),
    ),
    Goal(
        'time_in_seconds', "training time until the PSNR of the noise target's end: shorter",
        RAIN_AND_NOISE, 5.0, 'times', partial(_times_shorter, 'seconds_ratio'),
    ),
    Goal(
        'one_call_speed', 'clean, one call against four: time per image shorter', ALL, 3.5, 'times',
        _one_call_speed,
    ),
    Goal(
        'one_call_psnr', 'clean, fine, one call against four: PSNR no lower', ALL, 0.0, 'dB',
        _gain(CLEAN_1, CLEAN_4),
    ),
)  # fmt: skip


def goal_entries(metrics: Mapping[str, Metrics]) -> list[dict[str, Any]]:
    """Every goal in every task that it is about, from the metrics of each task."""
    return [goal.entry(task, metrics.get(task, {})) for goal in GOALS for task in goal.tasks]


def goal_table(entries: Sequence[Mapping[str, Any]], seeds: int) -> list[str]:
    """The entries as a table; a verdict of fewer than `seeds` seeds says of how many."""
    return markdown_table(HEADS, [list(_cells(entry, seeds)) for entry in entries])


def _cells(entry: Mapping[str, Any], seeds: int) -> Iterator[str]:
    unit, measured = entry['unit'], entry['seeds']
    digits, sign = (2, '+') if unit == 'dB' else (1, '')

    def text(value: float | None, unit: str = '') -> str:
        return 'not reached' if value is None else f'{value:{sign}.{digits}f}{unit}'

    yield entry['sentence']
    yield entry['task']
    yield f'{entry["wanted"]:{sign}g} {unit}'
    yield text(entry['figure'], f' {unit}') if measured else '–'
    yield ', '.join(map(text, entry['each'])) or '–'
    yield entry['verdict'] + (f' ({measured} of {seeds} seeds)' if 0 < measured < seeds else '')


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
