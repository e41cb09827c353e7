from __future__ import annotations

import json

import pytest
import torch

import benchmark
from benchmarks import tiles
from c2fdft_arch.dft import DFT


@pytest.fixture(scope='module')
def weights(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp('weights') / 'net_g.pth'
    torch.save({'params_ema': DFT(dim=4, num_blocks=(1, 1, 1, 1)).state_dict()}, path)
    return path


def test_every_tile_and_legal_overlap_is_a_case():
    class Pointwise(torch.nn.Module):
        size_multiple = 8

        def __init__(self):
            super().__init__()
            self.scale = torch.nn.Parameter(torch.tensor(0.001))

        def forward(self, x, t):
            return x[:, 3:] * (1 - self.scale)

    image = torch.rand(3, 40, 40)
    cases = list(tiles.compare_tiles(Pointwise(), image, [16, 24, 40], [0, 8, 16]))
    assert [(c['tile'], c['overlap']) for c in cases] == [(16, 0), (16, 8), (24, 0), (24, 8)]
    assert all(case['psnr'] > 50 for case in cases)
    assert all(case['seam_ratio'] == pytest.approx(1, abs=0.05) for case in cases)


def test_a_step_at_the_edge_of_a_tile_is_seen():
    picture = torch.zeros(3, 32, 32)
    picture[:, :, 16:] = 1
    assert tiles._seam_step(picture, 16, 0) == pytest.approx(0.5)
    assert tiles._seam_step(picture, 24, 0) == 0


def test_the_command_prints_and_writes_the_table(weights, tmp_path, capsys):
    options = ['--weights', str(weights), '--size', '32', '--tiles', '16', '--overlaps', '8']
    assert benchmark.main(['tiles', *options, '--json', str(tmp_path / 'tiles.json')]) == 0
    (case,) = json.loads((tmp_path / 'tiles.json').read_text())['cases']
    assert f'{case["psnr"]:.2f} dB' in capsys.readouterr().out
