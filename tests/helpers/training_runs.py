"""Trainings of a tiny network through BasicSR's own `train.py`, in processes of their own."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import yaml

from helpers.paired_data import write_folders

TINY_DFT = {'type': 'DFT', 'dim': 8, 'num_blocks': [1, 1, 1, 1], 'heads': [1, 1, 1, 1]}
SWITCHES = {'C2FDFT_AUTOLOAD', 'PYTHONPATH', 'PYTHONSTARTUP', 'PYTHONWARNINGS', 'PYTHONHOME'}


def checkout(root: Path) -> Path:
    """A folder with BasicSR's unmodified `train.py`, as a checkout has it."""
    source = Path(importlib.util.find_spec('basicsr').origin).with_name('train.py')
    script = root / 'basicsr' / 'train.py'
    script.parent.mkdir(parents=True)
    shutil.copyfile(source, script)
    return root


def options(root: Path, stage: str = 'coarse', **changes: Any) -> dict[str, Any]:
    """An option file for a few seconds of training on eight small images.

    The patch cycle has phases of 3 and 2 iterations. `changes` replace whole sections or, given as
    dicts, keys of them.
    """
    folders = write_folders(root / 'pairs', 8)
    losses: dict[str, Any] = {'pixel_opt': {'type': 'L1Loss', 'loss_weight': 1}}
    if stage == 'fine':
        losses['ssim_opt'] = {'type': 'SSIMLoss', 'loss_weight': 0.84}
    opt: dict[str, Any] = {
        'name': 'run',
        'model_type': 'C2FDFTModel',
        'scale': 1,
        'num_gpu': 0,
        'manual_seed': 7,
        'datasets': {
            'train': {
                'name': 'pairs',
                'type': 'PatchCyclePairedDataset',
                **folders,
                'io_backend': {'type': 'disk'},
                'gt_sizes': [16, 24],
                'mini_batch_sizes': [4, 2],
                'iters': [3, 2],
                'batch_size_per_gpu': 4,
                'num_worker_per_gpu': 0,
            },
        },
        'network_g': TINY_DFT,
        'path': {'pretrain_network_g': None, 'resume_state': None},
        'train': {
            'stage': stage,
            'total_iter': 14,
            'ema_decay': 0.9,
            'optim_g': {'type': 'AdamW', 'lr': 1e-3, 'betas': [0.9, 0.999]},
            'scheduler': {
                'type': 'CosineAnnealingRestartCyclicLR',
                'periods': [6, 20],
                'restart_weights': [1, 1],
                'eta_mins': [1e-3, 1e-5],
            },
            **losses,
        },
        'logger': {'print_freq': 1, 'save_checkpoint_freq': 4, 'use_tb_logger': False},
        'dist_params': {'backend': 'nccl', 'port': 29500},
        'diffusion': {'sampling_timesteps': 2},
    }
    for key, value in changes.items():
        opt[key] = {**opt[key], **value} if isinstance(opt.get(key), dict) else value
    return opt


def validation_set(root: Path, count: int = 3) -> dict[str, Any]:
    """A `datasets: val` section over `count` images of different sizes."""
    folders = write_folders(root / 'validation', count, 24, 32)
    return {
        'name': 'held_out',
        'type': 'PatchCyclePairedDataset',
        **folders,
        'io_backend': {'type': 'disk'},
    }


def command(root: Path, opt: dict[str, Any], *arguments: str) -> list[str]:
    """The command line of a training, without the Python in front; writes the option file."""
    file = root / f'{opt["name"]}.yml'
    file.write_text(yaml.safe_dump(opt))
    return [str(root / 'basicsr' / 'train.py'), '-opt', str(file), *arguments]


def environment(**changes: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in SWITCHES}
    return {**kept, 'OMP_NUM_THREADS': '1', 'CUDA_VISIBLE_DEVICES': '', **changes}


def start(arguments: Sequence[str], root: Path, **changes: str) -> subprocess.Popen:
    """Start a training; its output is collected."""
    return subprocess.Popen(
        [sys.executable, *arguments],
        cwd=root,
        env=environment(**changes),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def train(root: Path, opt: dict[str, Any], *arguments: str, expect: int = 0, **env: str) -> str:
    """Run a training to its end; returns what it printed."""
    process = start(command(root, opt, *arguments), root, **env)
    printed, _ = process.communicate(timeout=1200)
    assert process.returncode == expect, printed[-6000:]
    return printed


def loss_lines(printed: str) -> dict[int, str]:
    """Epoch, learning rate, phase and losses of every logged iteration; times left out."""
    lines = {}
    for line in printed.splitlines():
        found = re.search(r'\[epoch:.*?(\d+), iter: *([\d,]+), lr:\((.*?),\)\] (.*)', line)
        if found:
            numbers = re.sub(r'\[eta.*?\] |images_per_second: \S+ ', '', found[4]).strip()
            lines[int(found[2].replace(',', ''))] = f'{found[1]} {found[3]} {numbers}'
    return lines


def weights(root: Path, label: int | str, name: str = 'run') -> dict[str, torch.Tensor]:
    """All tensors of a network file, raw and averaged."""
    path = root / 'experiments' / name / 'models' / f'net_g_{label}.pth'
    content = torch.load(path, weights_only=True)
    return {
        f'{key}.{name}': value
        for key in content.keys() & {'params', 'params_ema'}
        for name, value in content[key].items()
    }


def assert_equal_weights(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    """Bit for bit."""
    assert one.keys() == other.keys()
    different = [name for name, value in one.items() if not torch.equal(value, other[name])]
    assert not different
