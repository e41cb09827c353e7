"""The ways results are compared with a ground truth, by name.

Every published number belongs to one of them: the same images differ by several dB or several
hundredths of SSIM from one to the next.
"""

from __future__ import annotations

from c2fdft_model.evaluation.evaluation_set import EvaluationSet, Measurements, measure_all
from c2fdft_model.evaluation.problems import Problem, summary
from c2fdft_model.evaluation.protocols import PROTOCOLS, UNITS, Protocol, get_protocol

__all__ = [
    'PROTOCOLS',
    'UNITS',
    'Measurements',
    'Problem',
    'Protocol',
    'EvaluationSet',
    'get_protocol',
    'measure_all',
    'summary',
]
