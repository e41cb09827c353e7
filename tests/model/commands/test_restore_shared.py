"""Several processes share the images of a restoration out, and the first reports for all."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from c2fdft_arch.dft import DFT

SCRIPT = Path(__file__).resolve().parents[3] / 'scripts' / 'restore.py'


def test_two_processes_write_what_one_writes(tmp_path):
    (tmp_path / 'photos').mkdir()
    for number in range(4):
        pixels = np.random.default_rng(number).integers(0, 256, (8, 9, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / 'photos' / f'{number}.png')
    # Of the second process's share; what becomes of it only the first may say.
    (tmp_path / 'photos' / '1.png').write_bytes(b'no image')
    torch.manual_seed(0)
    network = DFT(dim=4, num_blocks=(1, 1, 1, 1))
    torch.save({'params_ema': network.state_dict()}, tmp_path / 'net.pth')

    def restore(target, *launcher):
        command = [sys.executable, *launcher, str(SCRIPT), 'photos', target, '--weights', 'net.pth']
        done = subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, env=environment
        )
        assert done.returncode == 1, done.stderr
        assert done.stderr.count('failed: photos/1.png') == 1
        return done.stdout, {f.name: f.read_bytes() for f in (tmp_path / target).glob('*.png')}

    environment = {**os.environ, 'OMP_NUM_THREADS': '1', 'CUDA_VISIBLE_DEVICES': ''}
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        port = probe.getsockname()[1]
    _, alone = restore('alone')
    launcher = ['-m', 'torch.distributed.run', '--nproc_per_node=2', f'--master_port={port}']
    printed, shared = restore('shared', *launcher)
    assert len(alone) == 3
    assert shared == alone
    assert printed.count('3 restored') == printed.count('1 failed') == 1
    assert printed.count('Weights: ') == 1
