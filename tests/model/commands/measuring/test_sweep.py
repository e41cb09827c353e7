"""The sweep over sampling steps: a row for each, with the metrics of the option file."""

from __future__ import annotations

import builtins
import csv

import cv2
import numpy as np
import pytest
import torch
import yaml

from c2fdft_arch.dft import DFT
from c2fdft_model.commands.measuring import sweep as sweep_script
from c2fdft_model.experiments.images import read_tensor
from c2fdft_model.restoring.restoration import restore
from c2fdft_model.restoring.weights import load_network
from helpers.checkpoints import OTHER_SETTINGS, restored_otherwise, save_trained_otherwise

NETWORK = {'dim': 8, 'num_blocks': [1, 1, 1, 1], 'heads': [1, 1, 1, 1], 'ffn_factor': 1.0}


@pytest.fixture
def option_file(tmp_path, monkeypatch):
    """A test of a tiny network on two images, in an empty current folder."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for folder in ('lq', 'gt'):
        (tmp_path / folder).mkdir()
        for name in ('a', 'b'):
            image = rng.integers(0, 256, (16, 24, 3), np.uint8)
            assert cv2.imwrite(str(tmp_path / folder / f'{name}.png'), image)
    torch.manual_seed(0)
    torch.save({'params_ema': DFT(**NETWORK).state_dict()}, tmp_path / 'net_g.pth')
    metric = {'crop_border': 0, 'test_y_channel': False}
    options = {
        'name': 'tiny',
        'model_type': 'C2FDFTModel',
        'scale': 1,
        'num_gpu': 0,
        'manual_seed': 0,
        'datasets': {
            'test_1': {
                'name': 'pairs',
                'type': 'PairedImageDataset',
                'dataroot_gt': str(tmp_path / 'gt'),
                'dataroot_lq': str(tmp_path / 'lq'),
                'io_backend': {'type': 'disk'},
            }
        },
        'network_g': {'type': 'DFT', **NETWORK},
        'path': {
            'pretrain_network_g': str(tmp_path / 'net_g.pth'),
            'param_key_g': 'params_ema',
            'strict_load_g': True,
        },
        'val': {
            'save_img': False,
            'metrics': {
                'psnr': {'type': 'calculate_psnr', **metric},
                'ssim': {'type': 'calculate_ssim', **metric},
            },
        },
        'diffusion': {'sampling_timesteps': 4},
    }
    path = tmp_path / 'tiny.yml'
    path.write_text(yaml.safe_dump(options))
    return path


def run(option_file, *arguments):
    return sweep_script.main(['-opt', str(option_file), '--no-lpips', *arguments])


def rows(option_file) -> list[dict]:
    table = option_file.parent / 'results' / 'tiny_sampling_steps' / 'steps.csv'
    with open(table, newline='') as file:
        return list(csv.DictReader(file))


def test_each_number_of_steps_gets_a_row_with_every_metric_and_the_time(option_file):
    pytest.importorskip('matplotlib')
    assert run(option_file, '--steps', '3', '1', '2') == 0
    table = rows(option_file)
    assert [row['steps'] for row in table] == ['1', '2', '3']
    assert list(table[0]) == ['dataset', 'images', 'steps', 'psnr', 'ssim', 'seconds']
    assert all(row['images'] == '2' and float(row['seconds']) > 0 for row in table)
    folder = option_file.parent / 'results' / 'tiny_sampling_steps'
    assert len((folder / 'steps.md').read_text().splitlines()) == 4 + 3
    assert cv2.imread(str(folder / 'steps.png')) is not None


def test_a_plot_that_cannot_be_written_is_named_beside_the_tables(option_file, capsys):
    pytest.importorskip('matplotlib')
    (option_file.parent / 'results' / 'tiny_sampling_steps' / 'steps.png').mkdir(parents=True)
    assert run(option_file, '--steps', '1', '--limit', '1') == 1
    assert 'steps.png: Is a directory.' in capsys.readouterr().err
    assert len(rows(option_file)) == 1


def first_image(option_file, folder: str) -> torch.Tensor:
    return read_tensor(option_file.parent / folder / 'a.png')


def psnr_of_8_bits(restored: torch.Tensor, gt: torch.Tensor) -> float:
    error = (restored * 255).round() - gt * 255
    return 10 * np.log10(255**2 / error.double().square().mean().item())


def test_the_metrics_are_those_of_a_restoration_with_that_many_steps(option_file):
    run(option_file, '--steps', '2', '5', '--limit', '1')
    network = load_network(option_file.parent / 'net_g.pth')
    degraded, gt = (first_image(option_file, folder) for folder in ('lq', 'gt'))
    for row in rows(option_file):
        restored = restore(network, degraded, timesteps=int(row['steps']), noise_name='a')
        psnr = psnr_of_8_bits(restored, gt)
        assert float(row['psnr']) == pytest.approx(psnr, abs=1e-2)
        assert row['images'] == '1'


@pytest.mark.parametrize('settings', OTHER_SETTINGS.values(), ids=OTHER_SETTINGS)
def test_the_metrics_are_those_of_the_network_that_the_weights_describe(option_file, settings):
    weights = save_trained_otherwise(option_file.parent / 'net_g.pth', settings)
    options = yaml.safe_load(option_file.read_text())
    del options['diffusion']
    option_file.write_text(yaml.safe_dump(options))
    assert run(option_file, '--steps', '2', '--limit', '1') == 0
    degraded, gt = (first_image(option_file, folder) for folder in ('lq', 'gt'))
    two_steps = {**settings, 'sampling_timesteps': 2}
    psnr = psnr_of_8_bits(restored_otherwise(weights, two_steps, degraded, 'a'), gt)
    assert float(rows(option_file)[0]['psnr']) == pytest.approx(psnr, abs=1e-3)


def test_arguments_of_basicsr_are_handed_on(option_file):
    assert run(option_file, '--steps', '1', '--force_yml', 'name=other') == 0
    assert (option_file.parent / 'results' / 'other_sampling_steps' / 'steps.csv').is_file()


def test_without_matplotlib_the_tables_are_written_and_the_message_names_the_command(
    option_file, monkeypatch, capsys
):
    original = builtins.__import__

    def without(name, *args, **kwargs):
        if name.startswith('matplotlib'):
            raise ImportError(name)
        return original(name, *args, **kwargs)

    monkeypatch.setattr(builtins, '__import__', without)
    assert run(option_file, '--steps', '1') == 0
    assert 'pip install c2fdft[plot]' in capsys.readouterr().out
    assert len(rows(option_file)) == 1


def test_missing_lpips_is_said_and_left_out(option_file, monkeypatch, capsys):
    def missing(*_):
        raise sweep_script.MetricUnavailable('no weights for LPIPS')

    monkeypatch.setattr('c2fdft_model.evaluation.perceptual.lpips_distance', missing)
    assert sweep_script.main(['-opt', str(option_file), '--steps', '1']) == 0
    assert 'LPIPS is left out: no weights for LPIPS' in capsys.readouterr().out
    assert 'lpips' not in rows(option_file)[0]


def test_missing_lpips_whose_weights_were_given_is_an_error(option_file, monkeypatch, capsys):
    pytest.importorskip('lpips')
    monkeypatch.setenv(sweep_script.WEIGHTS_VARIABLE, '')  # for the command to replace
    arguments = ['-opt', str(option_file), '--steps', '1', '--lpips-weights', 'absent.pth']
    assert sweep_script.main(arguments) == 2
    assert 'absent.pth do not exist' in capsys.readouterr().err


def test_lpips_that_is_there_becomes_a_column(option_file, monkeypatch):
    monkeypatch.setattr('c2fdft_model.evaluation.perceptual.lpips_distance', lambda *_: 0.0)
    monkeypatch.setattr('c2fdft_model.metrics.lpips_distance', lambda *_: 0.125)
    assert sweep_script.main(['-opt', str(option_file), '--steps', '1']) == 0
    assert rows(option_file)[0]['lpips'] == '0.125'


@pytest.mark.parametrize(
    ('change', 'arguments', 'message'),
    [
        ({}, ['--steps', '0'], '0 steps are not possible'),
        ({'model_type': 'SRModel'}, [], 'model_type is SRModel: C2FDFTModel is expected'),
        ({'path': {'pretrain_network_g': 'absent.pth'}}, [], 'absent.pth'),
    ],
)
def test_what_cannot_be_ends_with_2_and_says_why(option_file, capsys, change, arguments, message):
    options = yaml.safe_load(option_file.read_text()) | change
    option_file.write_text(yaml.safe_dump(options))
    assert run(option_file, *arguments) == 2
    assert message in capsys.readouterr().err


def test_a_missing_option_file_is_named(tmp_path, capsys):
    assert run(tmp_path / 'absent.yml') == 2
    assert 'absent.yml: no such option file' in capsys.readouterr().err
