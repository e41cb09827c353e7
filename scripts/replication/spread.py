"""Metrics of several seeds as text: mean, spread and unit."""

from collections.abc import Sequence
from typing import Any

import numpy as np

FORMATS = {
    'psnr': (2, ' dB'),
    'ssim': (4, ''),
    'lpips': (4, ''),
    'training_seconds': (0, ' s'),
    'seconds': (2, ' s'),
}
"""Digits and unit of each metric."""


def metric_cell(done: Sequence[dict[str, Any]], metric: str) -> str:
    """A metric's mean and spread; '–' if it was not measured."""
    values = [content[metric] for content in done if metric in content]
    return mean_spread(values, *FORMATS[metric]) if values else '–'


def mean_spread(values: Sequence[float], digits: int, unit: str, sign: str = '-') -> str:
    """'31.62 ± 0.05 dB', without the spread for a single seed."""
    text = f'{np.mean(values):{sign}.{digits}f}'
    if len(values) > 1:
        text += f' ± {np.std(values, ddof=1):.{digits}f}'
    return text + unit
