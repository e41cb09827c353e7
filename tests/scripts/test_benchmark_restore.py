"""`scripts/benchmark.py restore` in miniature."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from PIL import Image

import benchmark
from benchmarks import restore
from c2fdft_arch.dft import DFT

KEYS = [
    *('height', 'width', 'precision', 'seconds_per_call', 'plain_seconds_per_call'),
    *('extra_memory_mb', 'plain_extra_memory_mb', 'matmul_share'),
]


def test_every_size_and_precision_is_a_case_with_the_agreed_keys(tmp_path, capsys):
    options = ['--dim', '8', '--sizes', '131x140', '--repeat', '1']
    missing = ['--photos', str(tmp_path)]
    assert benchmark.main(['restore', *options, *missing, '--json', str(tmp_path / 'j')]) == 0
    content = json.loads((tmp_path / 'j').read_text())
    assert list(content) == ['command', 'machine', 'cases', 'psnr']
    cases = content['cases']
    assert [(c['height'], c['width'], c['precision']) for c in cases] == [
        (131, 140, 'fp32'),
        (131, 140, 'bf16'),
    ]
    for case in cases:
        assert list(case) == KEYS
        figures = [case[key] for key in KEYS[3:]]
        assert all(math.isfinite(figure) and figure > 0 for figure in figures)
    printed = capsys.readouterr().out
    assert printed.count('speed-up') == 2
    assert 'scripts/demo.sh' in printed


def test_plain_is_left_out_of_large_images(tmp_path, monkeypatch):
    monkeypatch.setattr(restore, 'PLAIN_PIXELS', 100)
    options = ['--dim', '8', '--sizes', '64', '--precisions', 'fp32', '--repeat', '1']
    options += ['--photos', str(tmp_path), '--json', str(tmp_path / 'j')]
    assert benchmark.main(['restore', *options]) == 0
    (case,) = json.loads((tmp_path / 'j').read_text())['cases']
    assert case['plain_seconds_per_call'] is None and case['plain_extra_memory_mb'] is None
    assert case['seconds_per_call'] > 0
    assert json.loads((tmp_path / 'j').read_text())['psnr'] is None
    assert benchmark.main(['restore', *options, '--plain-everywhere']) == 0
    (case,) = json.loads((tmp_path / 'j').read_text())['cases']
    assert case['plain_seconds_per_call'] > 0


@pytest.mark.parametrize('text', ['0', '12x', 'wide', '1x2x3'])
def test_sizes_that_cannot_be_are_refused(text):
    with pytest.raises(SystemExit):
        benchmark.main(['restore', '--sizes', text])


def test_psnr_of_each_precision_is_that_of_the_photographs(tmp_path):
    torch.manual_seed(0)
    weights = tmp_path / 'net_g.pth'
    torch.save({'params': DFT(dim=4, num_blocks=(1, 1, 1, 1)).state_dict()}, weights)
    for side in ('input', 'target'):
        (tmp_path / side).mkdir()
        pixels = np.random.default_rng(0).integers(0, 256, (24, 20, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / side / 'a.png')
    (scores,) = restore.psnr_by_precision(weights, tmp_path)
    assert list(scores) == ['fp32', 'bf16', 'auto']
    assert all(0 < value < 60 for value in scores.values())
    options = ['--dim', '8', '--sizes', '16', '--precisions', 'fp32', '--repeat', '1']
    options += ['--weights', str(weights), '--photos', str(tmp_path), '--json', str(tmp_path / 'j')]
    assert benchmark.main(['restore', *options]) == 0
    assert json.loads((tmp_path / 'j').read_text())['psnr'] == pytest.approx(scores)
