"""Trainings by the standard entry point on the device: exact resume, prefetch_mode: cuda."""

import copy
import functools
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import yaml

from benchmarks.gpu.lines import Setting, Step

ROOT = Path(__file__).resolve().parents[3]
ITERATIONS = 6


def steps(setting: Setting) -> Iterator[tuple[str, Step]]:
    """Two lines: each trains a small network two or three times."""
    yield 'exact resume', functools.partial(resume, setting)
    if setting.device != 'cpu':
        yield 'prefetch_mode: cuda', functools.partial(prefetch, setting)


def resume(setting: Setting) -> Mapping[str, Any]:
    """Whether a training that is resumed half-way ends with the bits of one that was not."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        options = options_of(setting, folder)
        whole = train(folder / 'whole', options)
        half = copy.deepcopy(options)
        half['train']['total_iter'] = ITERATIONS // 2
        train(folder / 'resumed', half)
        resumed = train(folder / 'resumed', options, '--auto_resume')
        return {'equal': equal(whole, resumed)}


def prefetch(setting: Setting) -> Mapping[str, Any]:
    """Whether batches prefetched to the GPU give the same bits."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        options = options_of(setting, folder)
        without = train(folder / 'without', options)
        options['datasets']['train'] |= {'prefetch_mode': 'cuda', 'pin_memory': True}
        return {'equal': equal(without, train(folder / 'with', options))}


def options_of(setting: Setting, folder: Path) -> dict[str, Any]:
    """The demo's options for a few iterations of a small network on random images."""
    rng = np.random.default_rng(0)
    for side in ('input', 'target'):
        (folder / side).mkdir()
        for number in range(4):
            image = rng.integers(0, 256, (96, 96, 3), np.uint8)
            cv2.imwrite(str(folder / side / f'{number}.png'), image)
    options = yaml.safe_load((ROOT / 'options' / 'demo_coarse.yml').read_text())
    train_set = options['datasets']['train']
    train_set |= {
        'dataroot_gt': str(folder / 'target'), 'dataroot_lq': str(folder / 'input'),
        'io_backend': {'type': 'disk'}, 'iters': [2],
    }  # fmt: skip
    options |= {'name': 'gpu', 'num_gpu': 0 if setting.device == 'cpu' else 1}
    options['train'] |= {'total_iter': ITERATIONS, 'deterministic': True, 'keep_last': None}
    options['train']['scheduler'] = {
        'type': 'CosineAnnealingRestartCyclicLR', 'periods': [ITERATIONS],
        'restart_weights': [1], 'eta_mins': [1e-5],
    }  # fmt: skip
    options['logger'] |= {
        'print_freq': 1,
        'save_checkpoint_freq': ITERATIONS // 2,
        'use_tb_logger': False,
    }
    return options


def train(folder: Path, options: dict[str, Any], *arguments: str) -> Path:
    """Train in a folder; the last network."""
    folder.mkdir(exist_ok=True)
    (folder / 'options.yml').write_text(yaml.safe_dump(options))
    command = [sys.executable, str(ROOT / 'scripts' / 'train.py'), '-opt', 'options.yml']
    done = subprocess.run([*command, *arguments], cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f'train.py ended with {done.returncode}: {done.stderr[-500:]}')
    return folder / 'experiments' / 'gpu' / 'models' / f'net_g_{options["train"]["total_iter"]}.pth'


def equal(first: Path, second: Path) -> bool:
    """Whether two checkpoints hold the same bits."""
    a, b = (torch.load(path, map_location='cpu', weights_only=True) for path in (first, second))
    return all(torch.equal(a[k][n], b[k][n]) for k in ('params', 'params_ema') for n in a[k])
