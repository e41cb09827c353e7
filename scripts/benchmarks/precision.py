"""Loss curves of the demo's coarse training in bfloat16 and in float32, and how far apart they are.

Three trainings: float32, bfloat16 with the same seed (the same images, noise and timesteps in every
iteration), and float32 with another seed, whose distance from the first is the noise that a
difference has to be measured by. The demo's data are written first, to a folder that is removed.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from demo.data import DataSettings, prepare

ROOT = Path(__file__).resolve().parent.parent.parent
RUNS = {
    'float32': {},
    'bfloat16': {'train:amp': 'bf16'},
    'float32, another seed': {'manual_seed': '1'},
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `benchmark.py precision`."""
    parser.add_argument('--iterations', type=int, default=300)
    parser.add_argument('--window', type=int, default=50, help='iterations that a mean is over')
    parser.add_argument('--options', type=Path, default=ROOT / 'options' / 'demo_coarse.yml')
    parser.add_argument('--json', type=Path, metavar='FILE', help='write the curves there')


def run(arguments: argparse.Namespace) -> int:
    """Train three times and print the losses; 0 if bfloat16 is no further off than the noise."""
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder) / 'datasets' / 'demo', DataSettings())
        curves = {name: train(arguments, changes, folder) for name, changes in RUNS.items()}
    means = {name: windows(curve, arguments.window) for name, curve in curves.items()}
    print(f'Mean loss of {arguments.window} iterations, up to iteration:')
    print(f'{"":<24}' + ''.join(f'{n:>9}' for n in ends(arguments)))
    for name, values in means.items():
        print(f'{name:<24}' + ''.join(f'{value:9.4f}' for value in values))
    off = distance(means['float32'], means['bfloat16'])
    noise = distance(means['float32'], means['float32, another seed'])
    print(f'Mean distance from float32: bfloat16 {off:.4f}, another seed {noise:.4f}.')
    if arguments.json:
        content = {'curves': curves, 'distance': {'bfloat16': off, 'another_seed': noise}}
        arguments.json.write_text(json.dumps(content) + '\n')
    return 0 if off <= noise else 1


def train(arguments: argparse.Namespace, changes: dict[str, str], folder: str) -> list[float]:
    """The loss of every iteration of one training in a folder with the demo's data."""
    settings = {
        'train:total_iter': str(arguments.iterations),
        'logger:print_freq': '1',
        'logger:save_checkpoint_freq': str(10 * arguments.iterations),
        'logger:use_tb_logger': 'false',
        **changes,
        'name': f'precision_{len(changes)}_{changes.get("manual_seed", 0)}',
    }
    done = subprocess.run(
        [
            *(sys.executable, str(ROOT / 'scripts' / 'train.py')),
            *('-opt', str(arguments.options.resolve()), '--force_yml'),
            *(f'{key}={value}' for key, value in settings.items()),
        ],
        cwd=folder,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise SystemExit(done.stdout[-2000:] + done.stderr[-4000:])
    found = re.findall(r'iter: *([\d,]+), .* l_noise: (\S+)', done.stdout + done.stderr)
    return [float(loss) for _, loss in found]


def windows(curve: list[float], length: int) -> list[float]:
    """Means of stretches of `length` iterations."""
    return [statistics.fmean(curve[k : k + length]) for k in range(0, len(curve), length)]


def ends(arguments: argparse.Namespace) -> range:
    """The last iteration of each window."""
    return range(arguments.window, arguments.iterations + 1, arguments.window)


def distance(one: list[float], other: list[float]) -> float:
    """Mean distance of two curves of means."""
    return statistics.fmean(abs(a - b) for a, b in zip(one, other, strict=True))
