"""What the paper claims in Tables 4 to 7 and what we do, and what several seeds say to it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

HOLDS, FAILS, UNDECIDED = 'holds', 'does not hold', 'not decided'
WITHOUT_LPIPS = 'not measured (LPIPS is not there)'

Metrics = dict[str, dict[int, dict[str, Any]]]
"""Metrics[training][seed], as they were written at its end."""


@dataclass(frozen=True)
class Claim:
    """That a metric of `higher` is above that of `lower`; `paper` is its difference, with the unit.

    Both are a training and, where that is what differs, a number of sampling steps. `measured` is
    where the metrics of numbers of steps stand: in Table 4's sweep over a few images, or over all.
    """

    table: str
    sentence: str
    paper: str
    higher: tuple[str, int | None]
    lower: tuple[str, int | None]
    metric: str = 'psnr'
    measured: str = 'sweep'


STEPS_2, STEPS_4, STEPS_50 = (('coarse', steps) for steps in (2, 4, 50))
COARSE, FINE, LONGER, FIXED_PATCH, NO_TIME = (
    (training, None)
    for training in ('coarse', 'fine', 'coarse_longer', 'fixed_patch', 'no_time_embedding')
)
CLAIMS = (
    Claim('4', 'PSNR is higher with 4 steps than with 2', '+19.94 dB', STEPS_4, STEPS_2),
    Claim('4', 'PSNR is higher with 4 steps than with 50', '+1.95 dB', STEPS_4, STEPS_50),
    Claim('4', 'LPIPS is lower with 50 steps than with 4', '0.0221', STEPS_4, STEPS_50, 'lpips'),
    Claim('5', 'the patch cycle beats a fixed patch', '+0.41 dB', COARSE, FIXED_PATCH),
    Claim('6', 'embedding t helps', '+4.08 dB', COARSE, NO_TIME),
    Claim('7', 'fine training improves on coarse training', '+0.69 dB', FINE, COARSE),
    Claim('7', 'coarse + fine beats coarse training of the same length', '+0.65 dB', FINE, LONGER),
)


def _ours(sentence: str, higher: tuple[str, int | None], lower: tuple[str, int | None]) -> Claim:
    return Claim('targets', sentence, '–', higher, lower, measured='steps')


OUR_CLAIMS = (
    _ours('coarse, 4 calls: clean beats noise', ('clean_coarse', 4), ('coarse', 4)),
    _ours('coarse, 4 calls: clean beats velocity', ('clean_coarse', 4), ('velocity_coarse', 4)),
    _ours('coarse, clean: one call beats 4', ('clean_coarse', 1), ('clean_coarse', 4)),
    _ours('fine, 4 calls: clean beats noise', ('clean_fine_4', None), FINE),
    _ours('fine, 4 calls: velocity beats noise', ('velocity_fine_4', None), FINE),
    _ours('fine, one call: clean beats noise', ('clean_fine_1', None), ('noise_fine_1', None)),
    _ours('fine, clean: one call beats 4', ('clean_fine_1', None), ('clean_fine_4', None)),
    _ours('clean, one call: fine beats coarse', ('clean_fine_1', None), ('clean_coarse', 1)),
    _ours('clean, one call, beats the paper: noise, 4 calls', ('clean_fine_1', None), FINE),
)
"""Of what the network predicts, at equal numbers of network evaluations."""


def paired_differences(claim: Claim, metrics: Metrics) -> list[float]:
    """The difference that a claim is about, of the seeds that have both sides of it."""
    higher, lower = (_by_seed(metrics, side, claim) for side in (claim.higher, claim.lower))
    return [higher[seed] - lower[seed] for seed in sorted(higher.keys() & lower.keys())]


def verdict(differences: Sequence[float]) -> str:
    """A claim holds if all of two or more seeds agree and the mean is twice its error."""
    values = np.asarray(differences, float)
    count = len(values)
    if count < 2 or abs(values.mean()) < 2 * values.std(ddof=1) / np.sqrt(count):
        return UNDECIDED
    if (values > 0).all():
        return HOLDS
    return FAILS if (values < 0).all() else UNDECIDED


def _by_seed(metrics: Metrics, side: tuple[str, int | None], claim: Claim) -> dict[int, float]:
    training, steps = side
    values = {}
    for seed, content in metrics.get(training, {}).items():
        measured = content if steps is None else content.get(claim.measured, {}).get(str(steps), {})
        if claim.metric in measured:
            values[seed] = measured[claim.metric]
    return values
