"""Triton's kernels against PyTorch's operations and the plain network, in Triton's interpreter."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip('triton')

TESTS = Path(__file__).resolve().parents[2]


@pytest.fixture(scope='module')
def differences():
    """What `helpers.triton_checks` prints; in a process of its own, for Triton's interpreter."""
    done = subprocess.run(
        [sys.executable, '-m', 'helpers.triton_checks'], cwd=TESTS, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def selected(differences, word):
    found = {name: value for name, value in differences.items() if word in name}
    assert found
    return found


@pytest.mark.parametrize(
    ('word', 'tolerance'),
    [
        ('WithBias', 1e-5), ('BiasFree', 1e-5), ('depthwise', 1e-5), ('1 heads', 1e-5),
        ('2 heads', 1e-5), ('x +', 1e-5), ('end of a block', 1e-5), ('GELU', 1e-5),
        ('network', 1e-4),
    ],
)  # fmt: skip
def test_kernels_compute_what_pytorch_computes(differences, word, tolerance):
    too_far = {n: d for n, d in selected(differences, word).items() if not d < tolerance}
    assert not too_far


def test_every_difference_is_a_number(differences):
    assert not [name for name, value in differences.items() if math.isnan(value)]
