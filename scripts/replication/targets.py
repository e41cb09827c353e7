"""What the network predicts: quality by target and calls, and the time to the paper's quality."""

from collections.abc import Sequence
from typing import Any

from c2fdft_model.experiments.tables import markdown_table
from replication import experiments
from replication.claims import Metrics
from replication.spread import mean_spread, metric_cell

COARSE_OF = {'noise': 'coarse', 'velocity': 'velocity_coarse', 'clean': 'clean_coarse'}
FINE_OF = {
    (target, steps): 'fine' if (target, steps) == ('noise', 4) else f'{target}_fine_{steps}'
    for target in COARSE_OF
    for steps in (4, 2, 1)
}
REFERENCE = 'noise', 4
"""The paper's: whose quality at the end of its training the others are to reach."""


def target_tables(metrics: Metrics) -> list[str]:
    """The lines of both tables; none where only the paper's target was trained."""
    if not any(name in metrics for name in (COARSE_OF['velocity'], COARSE_OF['clean'])):
        return []
    heads = ('target', 'stage', 'calls', 'seeds', 'PSNR', 'SSIM', 'time per image')
    quality = [*_coarse_rows(metrics), *_fine_rows(metrics)]
    lines = ['### What the network predicts', '', *markdown_table(heads, quality), '']
    times = time_rows(metrics)
    if times:
        shorter = (
            *('target', 'calls', 'seeds', 'iterations', 'training time'),
            *('times fewer iterations', 'times less time'),
        )
        title = "### Training until the PSNR of the paper's target at its end (a few images)"
        lines += [title, '', *markdown_table(shorter, times), '']
    return lines


def _coarse_rows(metrics: Metrics) -> list[list[str]]:
    return [
        _row(target, 'coarse', steps, [content['steps'][str(steps)] for content in done])
        for target, name in COARSE_OF.items()
        if (done := [c for c in metrics.get(name, {}).values() if 'steps' in c])
        for steps in experiments.TARGET_STEPS
    ]


def _fine_rows(metrics: Metrics) -> list[list[str]]:
    return [
        _row(target, 'fine', steps, list(metrics[name].values()))
        for (target, steps), name in FINE_OF.items()
        if name in metrics
    ]


def _row(target: str, stage: str, steps: int, done: Sequence[dict[str, Any]]) -> list[str]:
    cells = (metric_cell(done, metric) for metric in ('psnr', 'ssim', 'seconds'))
    return [target, stage, str(steps), str(len(done)), *cells]


def time_rows(metrics: Metrics) -> list[list[str]]:
    """One row for each target and number of calls that reached the quality in every seed."""
    rows = []
    for (target, steps), name in FINE_OF.items():
        found = [
            point
            for seed in metrics.get(name, {})
            if (point := time_to_quality(metrics, target, steps, seed)) is not None
        ]
        if not found:
            continue
        reached = [point for point in found if point['reached']]
        head = [target, str(steps), f'{len(reached)} of {len(found)}']
        if len(reached) < len(found):
            rows.append([*head, '–', '–', 'not reached by all', 'not reached by all'])
            continue
        formats = {'iteration': (0, ''), 'seconds': (0, ' s'), 'ratio': (1, '')}
        formats['seconds_ratio'] = formats['ratio']
        cells = [mean_spread([p[key] for p in found], *form) for key, form in formats.items()]
        rows.append([*head, *cells])
    return rows


def time_to_quality(
    metrics: Metrics, target: str, steps: int, seed: int
) -> dict[str, float] | None:
    """Where the curve of coarse, then fine training reaches the reference's end.

    `ratio` is how many times fewer iterations than the reference that is, `seconds_ratio` how many
    times less training time; all iterations cost the same number of network evaluations. None where
    a curve is missing.
    """
    reference = whole_curve(metrics, *REFERENCE, seed)
    curve = whole_curve(metrics, target, steps, seed)
    if not reference or not curve:
        return None
    end = reference[-1]
    for point in curve:
        if point['psnr'] >= end['psnr']:
            ratios = {
                'ratio': end['iteration'] / point['iteration'],
                'seconds_ratio': end['seconds'] / point['seconds'],
            }
            return {**point, **ratios, 'reached': True}
    return {'reached': False}


def whole_curve(metrics: Metrics, target: str, steps: int, seed: int) -> list[dict[str, float]]:
    """The curve of coarse training and, shifted by its length, of the fine one."""
    parts = [
        metrics.get(name, {}).get(seed, {}).get('curve')
        for name in (COARSE_OF[target], FINE_OF[target, steps])
    ]
    if not all(parts):
        return []
    coarse, fine = parts
    shift = {key: coarse[-1][key] for key in ('iteration', 'seconds')}
    return coarse + [point | {key: point[key] + shift[key] for key in shift} for point in fine]
