"""The figures of a replication as plain data, for report.json and for the documents."""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from c2fdft_arch.common.hardware import description
from common.degradations import DEGRADATIONS
from replication import claims, experiments
from replication.claims import Claim, Metrics
from replication.goals import goal_entries
from replication.runner import Plan
from replication.targets import COARSE_OF, FINE_OF, time_to_quality

MEASURED = ('psnr', 'ssim', 'lpips', 'seconds')


def figures(plan: Plan, rows: Sequence[str], metrics: Mapping[str, Metrics]) -> dict[str, Any]:
    """Everything that was measured, by task, with means and standard deviations over the seeds.

    `metrics[task]` is what `report.read_metrics` gives. `command` makes the same trainings
    again, and `machine` is this one.
    """
    fine = experiments.FINE.iterations(plan.coarse_iterations)
    iterations = {'coarse': plan.coarse_iterations, 'fine': fine}
    tasks = [task for task in plan.tasks if metrics.get(task)]
    each = [(task, metrics[task]) for task in tasks]
    return {
        'command': command(plan, rows),
        'machine': description(),
        'plan': {'iterations': iterations, 'seeds': plan.seeds, 'tasks': list(plan.tasks)},
        'degraded': [{'task': task, **_degraded(found)} for task, found in each],
        'cases': [case for task, found in each for case in _cases(task, found)],
        'times': [time for task, found in each for time in _times(task, found)],
        'trainings': [entry for task, found in each for entry in _trainings(task, found)],
        'sweep': [entry for task, found in each for entry in _sweep(task, found)],
        'claims': [entry for task, found in each for entry in _claims(task, found)],
        'goals': goal_entries(metrics) if 'targets' in rows else [],
    }


def command(plan: Plan, rows: Sequence[str]) -> str:
    """What makes the trainings of a plan; where it writes and how fast it may go is left out."""
    words = ['python scripts/replicate.py', f'--iterations {plan.coarse_iterations}']
    words += [f'--seeds {plan.seeds}', f'--rows {" ".join(rows)}']
    if plan.tasks != tuple(DEGRADATIONS):
        words.append(f'--tasks {" ".join(plan.tasks)}')
    return ' '.join([*words, *(['--photos FOLDER'] if plan.photographs else [])])


def _degraded(metrics: Metrics) -> dict[str, float]:
    return next(iter(next(iter(metrics.values())).values()))['degraded']


def _cases(task: str, metrics: Metrics) -> Iterator[dict[str, Any]]:
    """One for each target, stage and number of calls."""
    for target, name in COARSE_OF.items():
        tests = [c['steps'] for c in metrics.get(name, {}).values() if 'steps' in c]
        for steps in experiments.TARGET_STEPS:
            done = [test[str(steps)] for test in tests if str(steps) in test]
            yield from _case(task, target, 'coarse', steps, done)
    for (target, steps), name in FINE_OF.items():
        yield from _case(task, target, 'fine', steps, list(metrics.get(name, {}).values()))


def _case(
    task: str, target: str, stage: str, calls: int, done: Sequence[Mapping[str, Any]]
) -> Iterator[dict[str, Any]]:
    if done:
        names = {'task': task, 'target': target, 'stage': stage, 'calls': calls}
        yield {**names, 'seeds': len(done), **_spreads(done, MEASURED)}


def _times(task: str, metrics: Metrics) -> Iterator[dict[str, Any]]:
    """The training until the quality of the noise target's end, of each target and calls."""
    for (target, steps), name in FINE_OF.items():
        found = [time_to_quality(metrics, target, steps, seed) for seed in metrics.get(name, {})]
        points = [point for point in found if point is not None]
        reached = [point for point in points if point['reached']]
        if points:
            entry = {'task': task, 'target': target, 'calls': steps, 'seeds': len(points)}
            keys = ('iteration', 'seconds', 'ratio', 'seconds_ratio')
            yield {**entry, 'reached': len(reached), **_spreads(reached, keys)}


def _trainings(task: str, metrics: Metrics) -> Iterator[dict[str, Any]]:
    for name, by_seed in metrics.items():
        done = list(by_seed.values())
        entry = {'task': task, 'name': name, 'title': experiments.TRAININGS[name].title}
        entry |= {'seeds': len(done), 'iterations': done[0]['iterations']}
        yield {**entry, **_spreads(done, (*MEASURED, 'training_seconds'))}


def _sweep(task: str, metrics: Metrics) -> Iterator[dict[str, Any]]:
    """One for each number of steps of Table 4, on a few images."""
    sweeps = [content['sweep'] for content in metrics.get(experiments.COARSE.name, {}).values()]
    for steps in sweeps[0] if sweeps else ():
        done = [sweep[steps] for sweep in sweeps]
        yield {'task': task, 'steps': int(steps), **_spreads(done, MEASURED)}


def _claims(task: str, metrics: Metrics) -> Iterator[dict[str, Any]]:
    for claim in (*claims.CLAIMS, *claims.OUR_CLAIMS):
        differences = claims.paired_differences(claim, metrics)
        if differences:
            yield _claim(task, claim, differences, claims.verdict(differences))
        elif claim.metric == 'lpips' and experiments.COARSE.name in metrics:
            yield _claim(task, claim, differences, claims.WITHOUT_LPIPS)


def _claim(task: str, claim: Claim, differences: list[float], verdict: str) -> dict[str, Any]:
    return {
        'task': task,
        'table': claim.table,
        'sentence': claim.sentence,
        'paper': claim.paper,
        'metric': claim.metric,
        'difference': spread(differences) if differences else None,
        'each': differences,
        'verdict': verdict,
    }


def _spreads(done: Sequence[Mapping[str, Any]], names: Sequence[str]) -> dict[str, Any]:
    """Of each metric that was measured, mean and spread."""
    values = {name: [each[name] for each in done if name in each] for name in names}
    return {name: spread(found) for name, found in values.items() if found}


def spread(values: Sequence[float]) -> dict[str, float | None]:
    """Mean, and standard deviation of a sample; None for a single value."""
    deviation = statistics.stdev(values) if len(values) > 1 else None
    return {'mean': statistics.fmean(values), 'std': deviation}
