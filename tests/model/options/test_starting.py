"""A start that the options forbid: said in lines, with exit code 2, and nothing is moved."""

from __future__ import annotations

import os

import pytest
import yaml

from c2fdft_model.commands import test, train
from c2fdft_model.data.pairing import PairingError
from helpers.training_runs import options


@pytest.fixture
def opt(tmp_path, monkeypatch) -> dict:
    """Options whose run has been trained already; its folder is the working one."""
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '')
    monkeypatch.chdir(tmp_path)
    finished = tmp_path / 'experiments' / 'run' / 'models' / 'net_g_latest.pth'
    finished.parent.mkdir(parents=True)
    finished.write_bytes(b'weights')
    (tmp_path / 'results' / 'run').mkdir(parents=True)
    return options(tmp_path)


def refused(opt: dict, capsys, *arguments: str, command=train.main) -> str:
    """What the command prints; it ends with 2, and every file is where it was."""
    with open('options.yml', 'w', encoding='utf-8') as stream:
        yaml.safe_dump(opt, stream)
    before = sorted(folder for folder, _, _ in os.walk('.'))
    assert command(['-opt', 'options.yml', *arguments]) == 2
    assert sorted(folder for folder, _, _ in os.walk('.')) == before
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ('section', 'key', 'value', 'words'),
    [
        ('train', 'emadecay', 0.9, 'OptionError: train: emadecay is not a known key'),
        ('network_g', 'heads', [3, 1, 1, 1], 'OptionError: network_g: heads'),
        ('path', 'pretrain_network_g', 'no.pth', 'pretrain_network_g: there is no file no.pth'),
        ('path', 'resume_state', 'no.state', 'path: resume_state: there is no file no.state'),
        ('logger', 'print_freq', 'often', "OptionError: logger: print_freq: 'often'"),
    ],
)  # fmt: skip
def test_a_wrong_option_leaves_the_finished_run_where_it_is(
    opt, capsys, section, key, value, words
):
    opt[section] = {**opt[section], key: value}
    printed = refused(opt, capsys)
    assert words in printed
    assert 'Traceback' not in printed


def test_a_misspelt_data_folder_leaves_the_finished_run_where_it_is(opt, capsys):
    opt['datasets']['train']['dataroot_lq'] = 'inptu'
    assert 'datasets: train (pairs): dataroot_lq: there is no inptu' in refused(opt, capsys)


@pytest.mark.parametrize(
    ('entries', 'words'),
    [
        (['num_gpu=1'], 'num_gpu: 1: PyTorch finds no CUDA device'),
        (['val:noise_seed=3'], 'val: val_freq is missing'),
        (['diffusion:process=ir_sdee'], 'did you mean "ir_sde"'),
        (['train:lr'], '--force_yml train:lr: key=value is expected'),
    ],
)
def test_keys_changed_on_the_command_line_are_checked_alike(opt, capsys, entries, words):
    assert words in refused(opt, capsys, '--force_yml', *entries)


def test_a_training_state_that_is_none_is_refused_in_one_line(opt, capsys):
    with open('5.state', 'w') as stream:
        stream.write('a text')
    opt['path']['resume_state'] = '5.state'
    printed = refused(opt, capsys)
    assert 'TrainingStateError: path: resume_state: 5.state cannot be read' in printed


def test_an_error_of_several_lines_is_printed_without_a_traceback(opt, capsys, monkeypatch):
    def fail(*_):
        raise PairingError('datasets: 2 pairs cannot be used:\n  a.png\n  b.png')

    monkeypatch.setattr('c2fdft_model.patch_cycle_dataset.find_pairs', fail)
    with open('options.yml', 'w', encoding='utf-8') as stream:
        yaml.safe_dump(opt, stream)
    assert train.main(['-opt', 'options.yml']) == 2
    printed = capsys.readouterr().err
    assert 'error: PairingError: datasets: 2 pairs cannot be used:\n  a.png\n  b.png\n' in printed


def test_a_test_with_a_misspelt_metric_leaves_the_old_results(opt, capsys):
    data = opt['datasets'].pop('train')
    names = ('name', 'type', 'dataroot_lq', 'dataroot_gt', 'io_backend')
    opt['datasets']['test_1'] = {name: data[name] for name in names}
    opt['val'] = {'save_img': True, 'metrics': {'psnr': {'type': 'calculate_pnsr'}}}
    assert 'did you mean "calculate_psnr"' in refused(opt, capsys, command=test.main)
