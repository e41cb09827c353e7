"""`benchmark.py kernels`: what is compared, and that it is different code that is compared."""

from __future__ import annotations

import importlib

import pytest
import torch

from helpers.documents import ROOT
from helpers.kernels import needs_kernels


@pytest.fixture
def benchmark(monkeypatch):
    """The benchmark's module, which takes compiling for done."""
    monkeypatch.syspath_prepend(str(ROOT / 'scripts'))
    module = importlib.import_module('benchmarks.kernels')
    monkeypatch.setattr(module, '_compile_seconds', lambda: {'cpu_seconds': 2.0, 'seconds': 1.0})
    return module


def arguments(benchmark):
    import argparse

    parser = argparse.ArgumentParser()
    benchmark.add_arguments(parser)
    return parser.parse_args(['--size', '16', '--repeat', '1', '--dim', '16'])


@needs_kernels
def test_every_precision_that_the_kernels_serve_is_measured(benchmark, capsys):
    figures, succeeded = benchmark.run(arguments(benchmark))
    assert succeeded
    assert (figures['cpu_seconds'], figures['seconds']) == (2.0, 1.0)
    cases = {(case['task'], case['precision']): case for case in figures['cases']}
    for task in ('restoring', 'training'):
        case = cases[task, 'fp32']
        assert set(case['seconds']) == {'kernels', 'pytorch', 'plain'}
        for way in ('pytorch', 'plain'):
            assert case[f'{way}_times'] == case['seconds'][way] / case['seconds']['kernels']
        bf16 = benchmark.kernels(torch.bfloat16, torch.device('cpu'))
        assert ((task, 'bf16') in cases) == (bf16 is not None)
    assert 'there are no kernels for it' in capsys.readouterr().out or len(cases) == 4


@needs_kernels
@pytest.mark.parametrize('call', ['_restore', '_train'])
@pytest.mark.parametrize(('way', 'called'), [('auto', True), ('torch', False)])
def test_only_auto_calls_the_kernels(benchmark, monkeypatch, call, way, called):
    from c2fdft_arch.native.bindings import Kernels

    calls = []
    real = Kernels._call
    monkeypatch.setattr(Kernels, '_call', lambda *given: calls.append(given[1]) or real(*given))
    network = benchmark.DFT(dim=16)
    x, t = torch.randn(2, 6, 16, 16), torch.full((2,), 500)
    getattr(benchmark, call)(network, x, t, 'fp32', way)
    assert bool(calls) == called


def test_without_kernels_it_fails(benchmark, monkeypatch):
    monkeypatch.setattr(benchmark, '_compile_seconds', lambda: None)
    assert benchmark.run(arguments(benchmark)) == ({}, False)
