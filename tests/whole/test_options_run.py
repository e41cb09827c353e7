"""Every option file, shrunk, through BasicSR's own pipelines."""

from __future__ import annotations

import copy
import shutil
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml
from basicsr.test import test_pipeline as basicsr_test
from basicsr.train import train_pipeline as basicsr_train
from basicsr.utils.lmdb_util import make_lmdb_from_imgs

from c2fdft_arch.dft import DFT

OPTIONS = Path(__file__).resolve().parents[2] / 'options'
FILES = sorted(
    path.relative_to(OPTIONS).as_posix()
    for path in OPTIONS.rglob('*.yml')
    if path.parent.name != 'baselines'
)
TEST_FILES = [name for name in FILES if name.endswith(('_test.yml', '_test_1step.yml'))]
TRAINING_FILES = [name for name in FILES if name not in TEST_FILES]
TINY_NETWORK = {'dim': 8, 'num_blocks': [1, 1, 1, 1], 'heads': [1, 2, 2, 4], 'ffn_factor': 1.0}
TINY_CYCLE = {'gt_sizes': [16, 24, 32], 'mini_batch_sizes': [4, 2, 1]}


@pytest.fixture(scope='session')
def tiny_data(tmp_path_factory) -> Path:
    """Folders `input` and `target` with five noisy images, of odd sizes, and LMDBs of the same."""
    root = tmp_path_factory.mktemp('data')
    rng = np.random.default_rng(0)
    for side in ('input', 'target'):
        (root / side).mkdir()
    for number in range(5):
        clean = rng.integers(0, 256, (37 + number, 45, 3), dtype=np.uint8)
        noisy = np.clip(clean + rng.normal(0, 20, clean.shape), 0, 255).astype(np.uint8)
        cv2.imwrite(str(root / 'target' / f'{number}.png'), clean)
        cv2.imwrite(str(root / 'input' / f'{number}.png'), noisy)
    names = [f'{number}.png' for number in range(5)]
    for side in ('input', 'target'):
        keys = [name.removesuffix('.png') for name in names]
        make_lmdb_from_imgs(str(root / side), str(root / f'{side}.lmdb'), names, keys)
    return root


def shrink(name: str, data: Path, folder: Path) -> dict:
    """The options of a file with a tiny network, tiny data and two iterations of two phases."""
    opt = yaml.safe_load((OPTIONS / name).read_text())
    opt['num_gpu'] = 0
    opt['network_g'].update(copy.deepcopy(TINY_NETWORK))
    for phase, dataset in opt['datasets'].items():
        # A copy for each: a process may not open an LMDB twice.
        copied = shutil.copytree(data, folder / phase)
        suffix = {'lmdb': '.lmdb', 'disk': ''}[dataset['io_backend']['type']]
        dataset['dataroot_lq'] = str(copied / f'input{suffix}')
        dataset['dataroot_gt'] = str(copied / f'target{suffix}')
    if opt['path']['pretrain_network_g'] is not None:
        opt['path']['pretrain_network_g'] = str(folder / 'coarse.pth')
    if 'train' in opt:
        shrink_training(opt)
    return opt


def shrink_training(opt: dict) -> None:
    loader = opt['datasets']['train']
    phases = len(loader['gt_sizes'])
    loader.update({key: values[:phases] for key, values in TINY_CYCLE.items()})
    loader.update(iters=[1], batch_size_per_gpu=4, num_worker_per_gpu=0, pin_memory=False)
    opt['train']['total_iter'] = 2
    opt['train']['scheduler']['periods'] = [1, 1]
    opt['logger'].update(print_freq=1, save_checkpoint_freq=2, use_tb_logger=False)
    if 'val' in opt:
        opt['val']['val_freq'] = 2


def weights_of(opt: dict, offset: float = 0.0) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    settings = {key: value for key, value in opt['network_g'].items() if key != 'type'}
    return {key: value + offset for key, value in DFT(**settings).state_dict().items()}


@pytest.fixture
def run(tiny_data, tmp_path, monkeypatch):
    """Shrink an option file and run a BasicSR pipeline on it in an empty folder."""

    def run_pipeline(name: str, pipeline) -> dict:
        opt = shrink(name, tiny_data, tmp_path)
        # The two sets of weights differ, so that it shows which one was loaded.
        weights = {'params': weights_of(opt), 'params_ema': weights_of(opt, offset=0.01)}
        torch.save(weights, tmp_path / 'coarse.pth')
        path = tmp_path / 'options.yml'
        path.write_text(yaml.safe_dump(opt, sort_keys=False))
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, 'argv', ['basicsr', '-opt', str(path)])
        pipeline(str(tmp_path))
        return opt

    return run_pipeline


@pytest.mark.parametrize('name', TRAINING_FILES)
def test_a_training_file_trains_two_iterations(name, run, tmp_path):
    opt = run(name, basicsr_train)
    saved = torch.load(
        tmp_path / 'experiments' / opt['name'] / 'models' / 'net_g_latest.pth', weights_only=True
    )
    start = weights_of(opt, offset=0.01 if opt['path'].get('param_key_g') == 'params_ema' else 0.0)
    assert set(saved) == {'params', 'params_ema', 'description'}
    assert set(saved['params']) == set(start)
    assert all(torch.isfinite(value).all() for value in saved['params'].values())
    if opt['train']['stage'] == 'fine':
        moved = max(float((saved['params'][key] - start[key]).abs().max()) for key in start)
        assert 0 < moved < 0.005


@pytest.mark.parametrize('name', TEST_FILES)
def test_a_test_file_restores_every_image_of_every_set(name, run, tmp_path):
    opt = run(name, basicsr_test)
    for dataset in opt['datasets'].values():
        folder = tmp_path / 'results' / opt['name'] / 'visualization' / dataset['name']
        sizes = {path.stem: cv2.imread(str(path)).shape for path in folder.glob('*.png')}
        assert sizes == {f'{k}_{opt["name"]}': (37 + k, 45, 3) for k in range(5)}
