"""What options ask of the machine."""

from __future__ import annotations

import os
import shutil
from collections import namedtuple

import pytest
import torch

from c2fdft_model.options import machine

Usage = namedtuple('Usage', 'total used free')
PAPER = {
    'name': 'Rain13K', 'gt_sizes': [32, 64, 128], 'mini_batch_sizes': [360, 96, 24],
    'batch_size_per_gpu': 360, 'num_worker_per_gpu': 8,
}  # fmt: skip


@pytest.fixture
def opt(tmp_path, monkeypatch) -> dict:
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 0)
    monkeypatch.delenv('LOCAL_WORLD_SIZE', raising=False)
    return {
        'is_train': True,
        'dist': False,
        'num_gpu': 0,
        'datasets': {'train': dict(PAPER)},
        'path': {'experiments_root': str(tmp_path / 'experiments' / 'run')},
        'train': {'total_iter': 1000, 'ema_decay': 0.999},
        'logger': {'save_checkpoint_freq': 100},
    }


def with_free(monkeypatch, megabytes: float) -> None:
    monkeypatch.setattr(shutil, 'disk_usage', lambda path: Usage(0, 0, int(megabytes * 1e6)))
    monkeypatch.setattr(os.path, 'isdir', lambda path: True)


def problems(opt: dict, parameters: int | None = None) -> list[str]:
    return list(machine.machine_problems(opt, parameters))


def test_the_largest_batch_counts_with_both_images_in_float32():
    assert machine.batch_bytes(PAPER) == 96 * 64 * 64 * 3 * 4 * 2
    assert machine.batch_bytes({'batch_size_per_gpu': 4, 'gt_size': 8, 'scale': 2}) == (
        4 * 64 * 12 * 5 // 4
    )


def test_workers_whose_batches_do_not_fit_shared_memory_are_refused_with_advice(opt, monkeypatch):
    with_free(monkeypatch, 64)
    (line,) = problems(opt)
    assert line.startswith('datasets: train: num_worker_per_gpu: 8: ')
    assert 'take 151 MB of shared memory, and /dev/shm has 64 MB free' in line
    assert '--shm-size=1g' in line
    assert line.endswith('set num_worker_per_gpu: 3.')
    opt['datasets']['train']['num_worker_per_gpu'] = 3
    assert problems(opt) == []


def test_the_processes_of_a_machine_share_its_memory(opt, monkeypatch):
    with_free(monkeypatch, 200)
    assert problems(opt) == []
    monkeypatch.setenv('LOCAL_WORLD_SIZE', '2')
    assert 'has 100 MB free' in problems(opt)[0]


def test_cuda_that_is_not_there_is_named(opt, monkeypatch):
    with_free(monkeypatch, 1e6)
    opt['num_gpu'] = 1
    opt['datasets']['train']['prefetch_mode'] = 'cuda'
    first, second = problems(opt)
    assert first.startswith('num_gpu: 1: ')
    assert 'prefetch_mode: cuda' in second


def test_files_and_folders_that_are_not_there_are_named_with_set_and_key(opt, tmp_path):
    opt['datasets']['train'] |= {'dataroot_lq': str(tmp_path / 'inptu'), 'num_worker_per_gpu': 0}
    opt['path'] |= {'pretrain_network_g': 'net.pth', 'resume_state': None}
    first, second = problems(opt)
    assert first.startswith(f'datasets: train (Rain13K): dataroot_lq: there is no {tmp_path}')
    assert second.startswith('path: pretrain_network_g: there is no file net.pth')


def test_weights_to_start_from_are_not_needed_to_resume(opt, tmp_path):
    opt['datasets']['train']['num_worker_per_gpu'] = 0
    states = tmp_path / 'training_states'
    opt['path'] |= {'pretrain_network_g': 'net.pth', 'training_states': str(states)}
    opt['auto_resume'] = True
    assert len(problems(opt)) == 1
    states.mkdir()
    (states / '5.state').touch()
    assert problems(opt) == []


def test_a_checkpoint_that_does_not_fit_on_the_disk_is_refused_and_all_together_warned_of(
    opt, monkeypatch
):
    opt['datasets']['train']['num_worker_per_gpu'] = 0
    with_free(monkeypatch, 100)
    assert problems(opt, 10_000_000)[0].startswith('logger: save_checkpoint_freq')
    assert problems(opt, 5_000_000) == []
    warning = machine.disk_warning(opt, 5_000_000)
    assert warning is not None
    assert 'The 11 checkpoints of this training will take 880 MB' in warning
    opt['train']['keep_last'] = 1
    assert '3 checkpoints' in str(machine.disk_warning(opt, 5_000_000))
    assert machine.disk_warning(opt, 1_000_000) is None
    assert machine.disk_warning(opt, None) is None
