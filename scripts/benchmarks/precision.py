"""Loss curves of the demo's coarse training in bfloat16 and in float32, and how far apart they are.

Three trainings: float32, bfloat16 with the same seed (the same images, noise and timesteps in every
iteration), and float32 with another seed, whose distance from the first is the noise that a
difference has to be measured by. The demo's data are written first, to a folder that is removed.
"""

import argparse
import re
import statistics
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import Figures
from c2fdft_model.experiments.basicsr_training import LOG, read_training, run_training
from demo.data import prepare

OPTIONS = Path(__file__).resolve().parents[2] / 'options' / 'demo_paper_coarse.yml'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `benchmark.py precision`."""
    parser.add_argument('--iterations', type=int, default=300)
    parser.add_argument('--window', type=int, default=50, help='iterations that a mean is over')
    parser.add_argument('--options', type=Path, default=OPTIONS)


def run(arguments: argparse.Namespace) -> Figures:
    """Train three times and print the losses; a failure if bfloat16 is further off than noise."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder / 'datasets' / 'demo')
        options = training_options(arguments, folder)
        in_bf16 = {**options, 'train': {**options['train'], 'amp': 'bf16'}}
        runs = {
            'float32': options,
            'bfloat16': in_bf16,
            'float32, another seed': {**options, 'manual_seed': 1},
        }
        curves = {name: loss_curve(run, folder / 'run') for name, run in runs.items()}
    means = {name: windows(curve, arguments.window) for name, curve in curves.items()}
    print(f'Mean loss of {arguments.window} iterations, up to iteration:')
    ends = range(arguments.window, arguments.iterations + 1, arguments.window)
    print(f'{"":<24}' + ''.join(f'{end:>9}' for end in ends))
    for name, values in means.items():
        print(f'{name:<24}' + ''.join(f'{value:9.4f}' for value in values))
    off = distance(means['float32'], means['bfloat16'])
    noise = distance(means['float32'], means['float32, another seed'])
    print(f'Mean distance from float32: bfloat16 {off:.4f}, another seed {noise:.4f}.')
    figures = {
        'iterations': arguments.iterations,
        'window': arguments.window,
        'means': means,
        'distance': {'bfloat16': off, 'another_seed': noise},
    }
    return figures, off <= noise


def training_options(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """The options of a training whose data are in `folder`, every iteration of it logged."""
    options = read_training(arguments.options, folder)
    options['train']['total_iter'] = arguments.iterations
    options['logger'] = {
        'print_freq': 1,
        'save_checkpoint_freq': 10 * arguments.iterations,
        'use_tb_logger': False,
    }
    return options


def loss_curve(options: dict[str, Any], folder: Path) -> list[float]:
    """The loss of every iteration of one training."""
    run_training(options, folder)
    found = re.findall(
        r'iter: *[\d,]+, .* l_noise: (\S+)', (folder / LOG).read_text(encoding='utf-8')
    )
    return [float(loss) for loss in found]


def windows(curve: list[float], length: int) -> list[float]:
    """Means of stretches of `length` iterations."""
    return [statistics.fmean(curve[k : k + length]) for k in range(0, len(curve), length)]


def distance(one: list[float], other: list[float]) -> float:
    """Mean distance of two curves of means."""
    return statistics.fmean(abs(a - b) for a, b in zip(one, other, strict=True))
