"""The trainings of each target, and the time that they take to the paper's quality."""

from replication.claims import Metrics

COARSE_OF = {'noise': 'coarse', 'velocity': 'velocity_coarse', 'clean': 'clean_coarse'}
FINE_OF = {
    (target, steps): 'fine' if (target, steps) == ('noise', 4) else f'{target}_fine_{steps}'
    for target in COARSE_OF
    for steps in (4, 2, 1)
}
REFERENCE = 'noise', 4
"""The paper's: whose quality at the end of its training the others are to reach."""


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
