"""`scripts/benchmark.py train`, `data` and `precision` in miniature."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.training_runs import environment

SCRIPT = Path(__file__).resolve().parents[2] / 'scripts' / 'benchmark.py'


def benchmark(folder: Path, *arguments: str) -> tuple[str, dict]:
    """What a benchmark prints, and what it writes as JSON."""
    file = folder / 'figures.json'
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *arguments, '--json', str(file)],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout, json.loads(file.read_text())


@pytest.mark.subprocess
def test_every_setting_of_a_training_iteration_is_a_case_with_the_agreed_keys(tmp_path):
    settings = ['default', 'checkpoint_steps', 'checkpoint_blocks', 'grad_steps_1', 'bf16']
    printed, content = benchmark(
        *(tmp_path, 'train', '--stages', 'coarse', 'fine', '--phases', '32', '--batch', '2'),
        *('--dim', '8', '--repeat', '1', '--settings', *settings),
    )
    cases = content['cases']
    fine = ['plain', *settings]
    coarse = [name for name in fine if name not in ('checkpoint_steps', 'grad_steps_1')]
    assert [case['setting'] for case in cases] == [*coarse, *fine]
    for case in cases:
        assert list(case) == [
            *('stage', 'patch', 'batch', 'setting', 'seconds', 'plain_seconds', 'peak_memory_mb')
        ]
        assert (case['patch'], case['batch']) == (32, 2)
        assert case['seconds'] > 0 and case['plain_seconds'] > 0 and case['peak_memory_mb'] > 100
    assert printed.count('speed-up') == len(cases) - 2


@pytest.mark.subprocess
def test_without_the_plain_network_only_the_settings_are_measured(tmp_path):
    printed, content = benchmark(
        *(tmp_path, 'train', '--no-plain', '--stages', 'coarse', 'fine', '--phases', '32'),
        *('--batch', '2', '--dim', '8', '--repeat', '1', '--settings', 'checkpoint_steps'),
    )
    (case,) = content['cases']  # coarse training has no sampling steps
    assert (case['stage'], case['setting']) == ('fine', 'checkpoint_steps')
    assert case['seconds'] > 0 and case['plain_seconds'] is None
    assert 'speed-up' not in printed


@pytest.mark.subprocess
def test_the_data_benchmark_decodes_as_many_images_as_a_batch_has(tmp_path):
    _, content = benchmark(tmp_path, 'data', '--workers', '1', '--seconds', '0')
    for phase in content['phases']:
        assert phase['decoded_per_iteration'] == phase['batch']
        assert min(phase[f'{name}_ms'] for name in ('ours', 'basicsr', 'released_scheme')) > 0
    assert [phase['patch'] for phase in content['phases']] == [32, 64, 128]
    assert all(len(route['ours_ms']) == 3 for route in content['routes'])


@pytest.mark.subprocess
def test_the_precision_benchmark_compares_three_curves(tmp_path):
    arguments = [sys.executable, str(SCRIPT), 'precision', '--iterations', '2', '--window', '1']
    file = tmp_path / 'figures.json'
    done = subprocess.run(
        [*arguments, '--json', str(file)], env=environment(), capture_output=True, text=True
    )
    assert done.returncode in (0, 1), done.stderr[-3000:]  # two iterations decide nothing
    content = json.loads(file.read_text())
    means = content['means']
    assert list(means) == ['float32', 'bfloat16', 'float32, another seed']
    assert all(len(values) == 2 for values in means.values())
    assert means['bfloat16'] == pytest.approx(means['float32'], rel=0.05)
    assert content['distance']['bfloat16'] < content['distance']['another_seed']
    assert f'bfloat16 {content["distance"]["bfloat16"]:.4f}' in done.stdout
