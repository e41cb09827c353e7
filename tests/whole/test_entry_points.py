"""BasicSR's unmodified train.py and test.py, and ours, as processes: the plugin merely installed.

`python basicsr/train.py` puts the checkout's folder basicsr/ on sys.path, not the checkout: the
BasicSR that it imports is the installed one, and the checkout gives the script and the root folder
for experiments/ and results/. With the checkout on PYTHONPATH, as BasicSR's manual has it, both are
the checkout's. Both ways are run here.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from c2fdft_model.plugin.option_files import copy_options

pytestmark = pytest.mark.subprocess

MIXING = Path(__file__).resolve().parents[1] / 'data' / 'mixing'
NAMES = ['coffee', 'rocket', 'cat']
TINY_NETWORK = ['network_g:dim=8', 'network_g:num_blocks=[1,1,1,1]', 'network_g:heads=[1,2,2,4]']
TINY_TRAINING = [
    *TINY_NETWORK,
    'datasets:train:gt_sizes=[16,32]',
    'datasets:train:mini_batch_sizes=[4,2]',
    'datasets:train:iters=[2]',
    'datasets:train:batch_size_per_gpu=4',
    'logger:print_freq=1',
    'logger:save_checkpoint_freq=2',
]
FOLDERS = [
    'datasets:train:io_backend:type=disk',
    'datasets:train:dataroot_gt=datasets/demo/train/target',
    'datasets:train:dataroot_lq=datasets/demo/train/input',
]


def write_pairs(folder: Path) -> None:
    """Three small pairs of odd sizes as folders of PNG files, and as LMDBs beside them."""
    from basicsr.utils.lmdb_util import make_lmdb_from_imgs

    rng = np.random.default_rng(0)
    for number, name in enumerate(NAMES):
        noise = rng.integers(0, 256, (40 + number, 51, 3), dtype=np.uint8)
        clean = cv2.GaussianBlur(noise, (0, 0), 3)
        for side, image in (('target', clean), ('input', cv2.add(clean, noise // 4))):
            (folder / side).mkdir(parents=True, exist_ok=True)
            assert cv2.imwrite(str(folder / side / f'{name}.png'), image)
    files = [f'{name}.png' for name in NAMES]
    for side in ('target', 'input'):
        make_lmdb_from_imgs(str(folder / side), str(folder / f'{side}.lmdb'), files, NAMES)


def run(arguments: list[str], folder: Path, **variables: str) -> str:
    """Run Python in `folder`; returns its output, and fails with it if the run fails."""
    dropped = {'PYTHONPATH', 'C2FDFT_AUTOLOAD', 'PYTHONWARNINGS'}
    environment = {name: value for name, value in os.environ.items() if name not in dropped}
    environment.update(OMP_NUM_THREADS='1', CUDA_VISIBLE_DEVICES='', **variables)
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-6000:]
    return done.stdout


def iterations(output: str) -> list[int]:
    """The iterations that BasicSR's logger reported, in order."""
    return [int(number) for number in re.findall(r'iter:\s*([\d,]+), lr', output)]


def digest(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob('*.py'))
    }


@pytest.fixture(scope='module')
def checkout(tmp_path_factory, basicsr_sdist) -> Path:
    """An unpacked BasicSR with our option files and small photographs; nothing else."""
    folder = tmp_path_factory.mktemp('checkout') / 'BasicSR'
    shutil.copytree(basicsr_sdist, folder)
    copy_options(folder)
    for split in ('train', 'test'):
        write_pairs(folder / 'datasets' / 'demo' / split)
    return folder


@pytest.fixture(scope='module')
def coarse(checkout) -> str:
    command = ['basicsr/train.py', '-opt', 'options/demo_coarse.yml', '--local-rank=0']
    changes = ['--force_yml', *TINY_TRAINING, 'train:total_iter=4']
    return run([*command, *changes], checkout)


@pytest.fixture(scope='module')
def resumed(checkout, coarse) -> str:
    command = ['basicsr/train.py', '-opt', 'options/demo_coarse.yml', '--auto_resume']
    return run([*command, '--force_yml', *TINY_TRAINING, 'train:total_iter=6'], checkout)


@pytest.fixture(scope='module')
def fine(checkout, resumed) -> str:
    command = ['basicsr/train.py', '-opt', 'options/demo_fine.yml', '--force_yml']
    changes = [*TINY_TRAINING, *FOLDERS, 'train:total_iter=3']
    return run([*command, *changes], checkout, PYTHONPATH='.')


@pytest.fixture(scope='module')
def tested(checkout, fine) -> str:
    command = ['basicsr/test.py', '-opt', 'options/demo_test.yml', '--force_yml']
    return run([*command, *TINY_NETWORK], checkout)


WHICH = 'import importlib.util; print("FOUND", importlib.util.find_spec("basicsr").origin)'


def test_script_of_a_checkout_imports_the_installed_basicsr(tmp_path):
    (tmp_path / 'basicsr').mkdir()
    (tmp_path / 'basicsr' / '__init__.py').touch()
    (tmp_path / 'basicsr' / 'which.py').write_text(WHICH)
    found = run(['basicsr/which.py'], tmp_path).split('FOUND ')[1].strip()
    assert tmp_path not in Path(found).parents


def test_script_of_a_checkout_on_pythonpath_imports_the_checkout(checkout):
    found = run(['-c', WHICH], checkout, PYTHONPATH='.').split('FOUND ')[1].strip()
    assert (checkout / found).resolve() == checkout.resolve() / 'basicsr' / '__init__.py'


def test_unmodified_train_runs_the_coarse_stage_to_its_last_iteration(coarse):
    assert iterations(coarse) == [1, 2, 3, 4]
    assert 'l_clean' in coarse


def test_training_warns_of_nothing_about_registration(coarse):
    assert 'could not add itself' not in coarse


def test_checkpoint_of_the_checkout_holds_both_weights_and_describes_itself(checkout, coarse):
    path = checkout / 'experiments' / 'demo_coarse' / 'models' / 'net_g_4.pth'
    weights = torch.load(path, weights_only=True)
    assert set(weights) == {'params', 'params_ema', 'description'}


def test_unmodified_train_resumes_without_a_gpu(resumed):
    assert 'Resuming training from epoch' in resumed
    assert iterations(resumed) == [5, 6]


def test_unmodified_train_runs_the_fine_stage_from_the_averaged_weights(fine):
    assert iterations(fine) == [1, 2, 3]
    assert 'l_ssim' in fine
    assert 'params_ema' in fine


def test_unmodified_test_restores_and_measures_every_photograph(checkout, tested):
    folder = checkout / 'results' / 'demo_test' / 'visualization'
    names = {path.name for path in folder.rglob('*.png')}
    assert len(names) == len(NAMES)
    assert re.search(r'# psnr: \d+\.\d+', tested)
    assert re.search(r'# ssim: 0\.\d+', tested)


def test_nothing_in_the_checkout_was_edited(checkout, basicsr_sdist, tested):
    assert digest(checkout / 'basicsr') == digest(basicsr_sdist / 'basicsr')


def test_two_processes_train_on_the_cpu(checkout):
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    launch = ['-m', 'torch.distributed.run', '--nproc_per_node=2', f'--master_port={port}']
    command = ['basicsr/train.py', '-opt', 'options/demo_coarse.yml', '--launcher', 'pytorch']
    changes = ['--force_yml', 'name=two_processes', *TINY_TRAINING, 'train:total_iter=3']
    output = run([*launch, *command, *changes], checkout)
    assert 'World size (gpu number): 2' in output
    assert iterations(output) == [1, 2, 3]
    assert (checkout / 'experiments' / 'two_processes' / 'models' / 'net_g_latest.pth').is_file()


def test_own_scripts_write_into_the_current_folder(checkout, coarse, project_root, tmp_path):
    (tmp_path / 'datasets').symlink_to(checkout / 'datasets')
    options = str(checkout / 'options')
    train = [str(project_root / 'scripts' / 'train.py'), '-opt', f'{options}/demo_coarse.yml']
    output = run([*train, '--force_yml', *TINY_TRAINING, 'train:total_iter=2'], tmp_path)
    assert iterations(output) == [1, 2]
    weights = tmp_path / 'experiments' / 'demo_coarse' / 'models' / 'net_g_latest.pth'
    assert weights.is_file()
    test = [str(project_root / 'scripts' / 'test.py'), '-opt', f'{options}/demo_test.yml']
    changes = [*TINY_NETWORK, f'path:pretrain_network_g={weights}']
    assert '# psnr:' in run([*test, '--force_yml', *changes], tmp_path)
    assert len(list((tmp_path / 'results' / 'demo_test').rglob('*.png'))) == len(NAMES)


@pytest.mark.parametrize('name', ['edsr_on_patch_cycle', 'c2fdft_on_paired_image_dataset'])
def test_parts_mix_with_those_of_basicsr(name, checkout, tmp_path):
    shutil.copytree(checkout / 'basicsr', tmp_path / 'basicsr')
    (tmp_path / 'datasets').mkdir()
    (tmp_path / 'datasets' / 'pairs').symlink_to(checkout / 'datasets' / 'demo' / 'train')
    output = run(['basicsr/train.py', '-opt', str(MIXING / f'{name}.yml')], tmp_path)
    assert iterations(output) == [1, 2, 3, 4, 5]
    assert re.search(r'# psnr: \d+\.\d+', output)
