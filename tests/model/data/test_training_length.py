"""BasicSR's own training loop and model reach `total_iter` on the patch cycle."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
import yaml

from helpers.paired_data import dataset_opt, write_folders

pytestmark = pytest.mark.subprocess

TWO_GPUS = (
    'import torch; torch.cuda.is_available = lambda: True; torch.cuda.device_count = lambda: 2; '
)
TRAIN = 'import sys; from basicsr.train import train_pipeline; train_pipeline(sys.argv.pop(1))'


def option_file(root, pairs: int, total_iter: int, changes: dict | None = None, **section):
    """SRModel with a tiny EDSR on `pairs` pairs of patterns; returns the file's path."""
    dataset = dataset_opt(write_folders(root / 'data', pairs), **section)
    del dataset['phase'], dataset['scale']
    network = {'type': 'EDSR', 'num_in_ch': 3, 'num_out_ch': 3, 'num_feat': 4, 'num_block': 1}
    opt = {
        'name': 'length',
        'model_type': 'SRModel',
        'scale': 1,
        'num_gpu': 0,
        'manual_seed': 0,
        'datasets': {'train': dataset},
        'network_g': {**network, 'upscale': 1},
        'path': {'pretrain_network_g': None, 'resume_state': None},
        'train': {
            'optim_g': {'type': 'Adam', 'lr': 1e-4},
            'scheduler': {'type': 'MultiStepLR', 'milestones': [1000], 'gamma': 0.5},
            'total_iter': total_iter,
            'pixel_opt': {'type': 'L1Loss'},
        },
        'logger': {'print_freq': 1, 'save_checkpoint_freq': 1000, 'use_tb_logger': False},
    }
    path = root / 'length.yml'
    path.write_text(yaml.safe_dump({**opt, **(changes or {})}))
    return path


def train(option_path, environment, program=TRAIN) -> subprocess.CompletedProcess:
    command = [sys.executable, '-c', program, str(option_path.parent), '-opt', str(option_path)]
    return subprocess.run(
        command, cwd=option_path.parent, env=environment, capture_output=True, text=True
    )


# The larger the loader's batch, the fewer batches make an epoch: 2 of 2**20 samples.
@pytest.mark.parametrize(
    ('pairs', 'loader_batch'), [(5, 6), (2, 2**20)], ids=['one epoch', 'many epochs, few images']
)
def test_training_ends_at_total_iter(tmp_path, clean_environment, pairs, loader_batch):
    path = option_file(tmp_path, pairs, 5, batch_size_per_gpu=loader_batch)
    done = train(path, clean_environment)
    assert done.returncode == 0, done.stderr[-3000:]
    log = done.stdout + done.stderr
    assert [int(i) for i in re.findall(r'\[epoch:.*?iter:\s*(\d+)', log)] == [1, 2, 3, 4, 5]
    assert 'End of training' in log


def test_training_that_would_end_early_says_so_before_it_starts(tmp_path, clean_environment):
    section = {'batch_size_per_gpu': 6, 'num_worker_per_gpu': 0}
    path = option_file(tmp_path, 2, 270_000, {'num_gpu': 2}, **section)
    done = train(path, clean_environment | {'CUDA_VISIBLE_DEVICES': ''}, TWO_GPUS + TRAIN)
    assert done.returncode != 0
    assert 'Training would end after iteration 135500 of 270000' in done.stderr
    assert 'torchrun --nproc_per_node=2' in done.stderr


def test_more_gpus_than_the_machine_has_are_refused_before_it_starts(tmp_path, clean_environment):
    section = {'batch_size_per_gpu': 6, 'num_worker_per_gpu': 0}
    path = option_file(tmp_path, 2, 270_000, {'num_gpu': 2}, **section)
    done = train(path, clean_environment | {'CUDA_VISIBLE_DEVICES': ''})
    assert done.returncode != 0
    assert 'num_gpu: 2: PyTorch finds no CUDA device' in done.stderr
