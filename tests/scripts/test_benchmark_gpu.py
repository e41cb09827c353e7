"""`scripts/benchmark.py gpu` on a CPU, in small, and its kit's arguments."""

import json
import os
import subprocess
from pathlib import Path

import benchmark
from benchmarks.gpu import PARTS

ROOT = Path(__file__).resolve().parents[2]


def test_every_part_writes_its_lines(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('OMP_NUM_THREADS', '1')
    small = ['gpu', '--device', 'cpu', '--dim', '8', '--minutes', '10', '--json', 'figures.json']
    only = 'torch fp32 2 x|torch bf16 sampling|16 x 24|matrix|copy|coarse .* torch|call torch'
    parts = ['correctness', 'iterations', 'restoring', 'profile', 'compiled']
    assert benchmark.main([*small, '--only', only, '--parts', *parts]) == 0
    lines = json.loads(Path('figures.json').read_text())['lines']
    assert {line['part'] for line in lines} == {'machine', *parts} - {'compiled'}
    by_name = {line['name']: line for line in lines}
    assert by_name['torch fp32 2 x 16 x 8']['gradient_error'] < 1e-3
    assert by_name['torch bf16 sampling']['repeatable'] is True
    assert by_name['16 x 24 torch bf16']['seconds'] > 0
    assert by_name['call torch bf16']['largest']
    assert len(Path('gpu_benchmark.jsonl').read_text().splitlines()) == len(lines)


def test_lines_without_time_left_say_so_and_fail(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    small = ['gpu', '--device', 'cpu', '--dim', '8', '--minutes', '0', '--json', 'figures.json']
    assert benchmark.main([*small, '--parts', 'restoring', '--only', 'copy']) == 1
    lines = json.loads(Path('figures.json').read_text())['lines']
    assert lines[-1] == {'part': 'restoring', 'name': 'copy', 'left_out': 'no time left'}


def test_every_part_is_a_module():
    folder = ROOT / 'scripts' / 'benchmarks' / 'gpu'
    assert {p.stem for p in folder.glob('*.py')} == {*PARTS, '__init__', 'lines', 'subjects'}


def test_the_kit_refuses_a_python_that_does_not_exist():
    done = subprocess.run(
        ['bash', str(ROOT / 'scripts' / 'gpu_kit.sh')],
        env={**os.environ, 'TARGET_PYTHON': '2.7'}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 2
    assert 'TARGET_PYTHON=2.7 given; it is 3.10, 3.11, 3.12 or 3.13' in done.stderr
