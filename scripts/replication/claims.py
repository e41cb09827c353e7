"""What the paper claims in Tables 4 to 7, and what the numbers of several seeds say to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from replication import experiments

HOLDS, FAILS, OPEN = 'holds', 'does not hold', 'not decided'


@dataclass(frozen=True)
class Claim:
    """That the training `better` has a higher PSNR than `worse`; the paper's difference in dB."""

    table: str
    sentence: str
    better: str
    worse: str
    paper: str


CLAIMS = (
    Claim('5', 'the patch cycle beats a fixed patch', 'coarse', 'fixed_patch', '+0.41'),
    Claim('6', 'embedding t helps', 'coarse', 'no_time_embedding', '+4.08'),
    Claim('7', 'fine training improves on coarse training', 'fine', 'coarse', '+0.69'),
    Claim(
        '7',
        'coarse + fine beats coarse training of the same length',
        'fine',
        'coarse_longer',
        '+0.65',
    ),
)


@dataclass(frozen=True)
class Verdict:
    """The mean and standard deviation of paired differences, and what they say."""

    differences: tuple[float, ...]
    says: str

    @property
    def mean(self) -> float:
        return float(np.mean(self.differences))

    @property
    def spread(self) -> float:
        """Standard deviation over the seeds; not a number for one."""
        count = len(self.differences)
        return float(np.std(self.differences, ddof=1)) if count > 1 else float('nan')


def judge(differences: Sequence[float]) -> Verdict:
    """A claim holds if all of two or more seeds agree and the mean is twice its standard error."""
    values = np.asarray(differences, float)
    verdict = Verdict(tuple(values.tolist()), OPEN)
    if len(values) < 2:
        return verdict
    error = values.std(ddof=1) / np.sqrt(len(values))
    if abs(values.mean()) < 2 * error or values.mean() == 0:
        return verdict
    if (values > 0).all():
        return Verdict(verdict.differences, HOLDS)
    if (values < 0).all():
        return Verdict(verdict.differences, FAILS)
    return verdict


def compare(
    numbers: Mapping[str, Mapping[int, Mapping[str, float]]], better: str, worse: str, metric: str
) -> Verdict:
    """The verdict on two trainings, of the seeds that have both."""
    first, second = numbers.get(better, {}), numbers.get(worse, {})
    seeds = sorted(first.keys() & second.keys())
    return judge([first[seed][metric] - second[seed][metric] for seed in seeds])


def few_steps_are_best(sweeps: Sequence[Mapping[str, Mapping[str, float]]]) -> Verdict:
    """Table 4: PSNR is higher at 4 steps than at 50; the differences, seed by seed."""
    few, many = str(experiments.STEPS), str(max(experiments.SWEEP_STEPS))
    return judge([sweep[few]['psnr'] - sweep[many]['psnr'] for sweep in sweeps])


def two_steps_are_worse(sweeps: Sequence[Mapping[str, Mapping[str, float]]]) -> Verdict:
    """Table 4: PSNR is higher at 4 steps than at 2; the differences, seed by seed."""
    few = str(experiments.STEPS)
    return judge([sweep[few]['psnr'] - sweep['2']['psnr'] for sweep in sweeps])


def many_steps_look_better(sweeps: Sequence[Mapping[str, Mapping[str, float]]]) -> Verdict | None:
    """Table 4: LPIPS is lower at 50 steps than at 4; None if LPIPS was not there."""
    few, many = str(experiments.STEPS), str(max(experiments.SWEEP_STEPS))
    if not all('lpips' in sweep[few] for sweep in sweeps):
        return None
    return judge([sweep[few]['lpips'] - sweep[many]['lpips'] for sweep in sweeps])
