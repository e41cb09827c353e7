"""The check of whole option files, before anything starts."""

from __future__ import annotations

import copy
import re
from pathlib import Path

import pytest
import torch

from c2fdft_arch.common.option_parsing import OptionError
from c2fdft_model.c2fdft_model import C2FDFTModel
from c2fdft_model.options.checking import check_options, concerns_us
from c2fdft_model.options.reading import read_option_file
from c2fdft_model.plugin.patches.option_check import registries
from helpers.training_runs import options

ROOT = Path(__file__).resolve().parents[3]
FILES = sorted(path.relative_to(ROOT / 'options') for path in (ROOT / 'options').rglob('*.yml'))
PSNR = {'type': 'calculate_psnr', 'crop_border': 0}


@pytest.fixture(scope='module')
def training(tmp_path_factory) -> dict:
    """The options of a training with a validation."""
    opt = options(tmp_path_factory.mktemp('data'))
    data = opt['datasets']['train']
    names = ('type', 'dataroot_lq', 'dataroot_gt', 'io_backend')
    opt['datasets']['val'] = {'name': 'held out', **{name: data[name] for name in names}}
    opt['val'] = {'val_freq': 5, 'save_img': False, 'metrics': {'psnr': dict(PSNR)}}
    return opt


def changed(opt: dict, keys: str, value: object, instead_of: str | None = None) -> dict:
    """The options with one key, given by its path, set to another value, or renamed."""
    opt = copy.deepcopy(opt)
    *sections, key = keys.split('/')
    section = opt
    for name in sections:
        section = section[name]
    section[key] = value
    if instead_of:
        section[key] = section.pop(instead_of)
    return opt


def check(opt: dict, is_train: bool = True):
    return check_options(opt, is_train, registries(opt))


def refusal(opt: dict, is_train: bool = True) -> list[str]:
    with pytest.raises(OptionError) as error:
        check(opt, is_train)
    return str(error.value).splitlines()


@pytest.mark.parametrize('name', FILES, ids=str)
def test_every_option_file_of_ours_is_accepted_without_a_warning(name):
    opt = read_option_file(ROOT / 'options' / name)
    result = check(opt, 'train' in opt)
    assert concerns_us(opt)
    assert result.warnings == []
    before = {key: value for key, value in opt.items() if key not in ('datasets', 'val')}
    assert {key: result.opt[key] for key in before} == before


@pytest.mark.parametrize(
    ('keys', 'misspelt', 'nearest'),
    [
        ('diffusion', 'diffusoin', 'diffusion'),
        ('manual_seed', 'manual_sed', 'manual_seed'),
        ('path/pretrain_network_g', 'pretrain_network', 'pretrain_network_g'),
        ('logger/print_freq', 'print_frq', 'print_freq'),
        ('train/ema_decay', 'emadecay', 'ema_decay'),
        ('train/optim_g/betas', 'beta', 'betas'),
        ('train/scheduler/eta_mins', 'eta_min', 'eta_mins'),
        ('train/pixel_opt/loss_weight', 'loss_wieght', 'loss_weight'),
        ('val/val_freq', 'val_frequency', 'val_freq'),
        ('val/metrics/psnr/crop_border', 'crop_boarder', 'crop_border'),
        ('datasets/train/gt_sizes', 'gt_szes', 'gt_sizes'),
        ('datasets/val/io_backend', 'io_bakend', 'io_backend'),
        ('network_g/num_blocks', 'num_block', 'num_blocks'),
        ('dist_params/backend', 'backed', 'backend'),
    ],
)
def test_a_misspelt_key_is_refused_with_its_section_and_the_nearest_name(
    training, keys, misspelt, nearest
):
    *sections, key = keys.split('/')
    wrong = changed(training, '/'.join([*sections, misspelt]), None, instead_of=key)
    line = next(line for line in refusal(wrong) if f'{misspelt} is not a known key' in line)
    assert line.startswith(': '.join([*sections, misspelt]))
    assert f'(did you mean "{nearest}"?)' in line


@pytest.mark.parametrize(
    ('keys', 'value', 'words'),
    [
        ('model_type', 'C2FDFTModell', 'did you mean "C2FDFTModel"'),
        ('datasets/train/type', 'PatchCyclePairedDatset', 'did you mean "PatchCyclePairedDataset"'),
        ('datasets/test_1', {'name': 'x'}, 'test_1 is not a known key'),
        ('datasets/val/name', None, 'datasets: val: name is missing'),
        ('network_g/type', 'DFFT', 'did you mean "DFT"'),
        ('network_g/heads', [3, 1, 1, 1], 'network_g: heads: 3 heads'),
        ('network_g/bias', 'no', "network_g: bias: 'no' must be true or false"),
        ('network_g/skip', 'degrade', 'network_g: skip: .*did you mean "degraded"'),
        ('network_g', {'type': 'UNetDiscriminatorSN', 'num_in_ch': 6, 'skip': 'degraded'},
         'network_g: skip is not a known key'),
        ('diffusion/prediction', 'claen', 'diffusion: prediction: .*did you mean "clean"'),
        ('train/optim_g/type', 'AdmW', 'did you mean "AdamW"'),
        ('train/optim_g/lr', -1, 'train: optim_g: Invalid learning rate: -1'),
        ('train/optim_g/betas', [0.9, 1.5], 'train: optim_g: Invalid beta'),
        ('train/optim_g/betas', [0.9], r'train: optim_g: betas: \[0.9\] must be 2 numbers'),
        ('train/scheduler/eta_mins', [1e-3, 'x'], "eta_mins: 'x' must be a number"),
        ('train/scheduler/restart_weights', [1, True], 'restart_weights: True must be a number'),
        ('manual_seed', -1, 'manual_seed: -1 must be at least 0'),
        ('name', '', "name: '' must be the name of a folder"),
        ('name', '../elsewhere', 'must be the name of a folder below experiments/'),
        ('val/metrics', ['psnr'], 'val: metrics: '),
        (
            'datasets/train/io_backend',
            {'type': 'disk', 'readonly': True},
            'datasets: train: io_backend: disk: readonly is not a known key',
        ),
        ('train/scheduler/type', 'MultiStep', 'did you mean "MultiStepLR"'),
        ('train/scheduler/periods', [4], 'one value per period'),
        ('train/scheduler/periods', [4.5, 30], 'periods: 4.5 must be a whole number'),
        ('train/pixel_opt/type', 'L1Los', 'did you mean "L1Loss"'),
        ('train/pixel_opt/reduction', 'average', 'train: pixel_opt: .*average'),
        ('train/pixel_opt/loss_weight', 'one', "loss_weight: 'one' must be a number"),
        ('val/metrics/psnr/type', 'calculate_pnsr', 'did you mean "calculate_psnr"'),
        ('val/metrics/psnr', {'type': 'calculate_psnr'}, 'psnr: crop_border is missing'),
        ('val/metrics/psnr/better', 'more', "better: 'more' must be higher or lower"),
        ('val/metrics/psnr', None, 'val: metrics: psnr: None must be a section'),
        ('logger/print_freq', 0, 'logger: print_freq: 0 must be above 0'),
        ('logger/wandb', {'project': 'p'}, 'use_tb_logger: true'),
        ('logger', None, 'logger is missing'),
        ('name', 7, 'name: 7 must be text'),
        ('name', None, 'name is missing'),
        ('num_gpu', 'all', "num_gpu: 'all' must be 'auto' or an integer"),
        ('num_gpu', None, 'num_gpu is missing'),
        ('path', None, 'path is missing'),
        ('diffusion/sampling_timesteps', 0, 'sampling_timesteps: 0'),
        ('diffusion/ir_sde', {'delta': 0.1}, 'ir_sde belongs to process: ir_sde'),
        ('datasets/train/prefetch_mode', 'cuda', 'prefetch_mode: cuda'),
        ('val', {'noise_seed': 3}, 'val: val_freq is missing'),
        ('train', None, 'train is missing'),
        ('datasets', {}, 'datasets: train is missing'),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_by_key(training, keys, value, words):
    lines = refusal(changed(training, keys, value))
    assert [line for line in lines if re.search(words, line)], lines


def test_everything_wrong_is_said_at_once(training):
    wrong = changed(training, 'manual_sed', 1)
    wrong['train']['optim_g']['type'] = 'AdamV'
    wrong['logger']['print_freq'] = 'often'
    lines = refusal(wrong)
    assert {line.split(' ')[0] for line in lines} == {'manual_sed', 'logger:', 'train:'}


@pytest.mark.parametrize(
    ('keys', 'text', 'meant'),
    [
        ('train/optim_g/lr', '1e-3', 1e-3),
        ('train/optim_g/weight_decay', '1e-4', 1e-4),
        ('train/optim_g/betas', ['9e-1', '0.999'], [0.9, 0.999]),
        ('train/scheduler/periods', ['6e0', 2e1], [6, 20]),
        ('train/scheduler/eta_mins', ['1e-3', '1e-5'], [1e-3, 1e-5]),
        ('train/total_iter', '1e1', 10),
        ('train/pixel_opt/loss_weight', '1e0', 1.0),
        ('logger/print_freq', '1e0', 1),
        ('logger/save_checkpoint_freq', 5e3, 5000),
        ('val/val_freq', '5e3', 5000),
        ('val/metrics/psnr/crop_border', '0', 0),
        ('datasets/train/batch_size_per_gpu', '4e0', 4),
        ('network_g/ffn_factor', '2e0', 2.0),
        ('network_g/dim', '1.6e1', 16),
        ('diffusion/beta_start', '1e-5', 1e-5),
        ('diffusion/sampling_timesteps', '4', 4),
        ('manual_seed', '1e2', 100),
        ('num_gpu', 'auto', 'auto'),
        ('num_gpu', '0', 0),
    ],
)
def test_numbers_written_as_text_reach_basicsr_as_numbers(training, keys, text, meant):
    value = check(changed(training, keys, text)).opt
    for name in keys.split('/'):
        value = value[name]
    assert value == meant
    assert type(value) is type(meant)


@pytest.mark.parametrize('name', ['SGD', 'RMSprop', 'NAdam', 'AdamW'])
def test_an_optimiser_that_is_accepted_can_be_built_by_the_model(training, name):
    section = {'type': name, 'lr': '1e-2'}
    meant = check(changed(training, 'train/optim_g', section)).opt['train']['optim_g']
    parameter = torch.nn.Parameter(torch.zeros(1))
    model = C2FDFTModel.__new__(C2FDFTModel)
    built = model.get_optimizer(name, [parameter], meant['lr'])
    assert (type(built).__name__, built.param_groups[0]['lr']) == (name, 0.01)


def test_milestones_as_text_decay_the_rate_and_those_out_of_reach_are_warned_of(training):
    steps = {'type': 'MultiStepLR', 'milestones': ['5e0', 100], 'gamma': '5e-1'}
    result = check(changed(training, 'train/scheduler', steps))
    assert result.opt['train']['scheduler'] == {**steps, 'milestones': [5, 100], 'gamma': 0.5}
    assert result.warnings == [
        'train: scheduler: milestones: 100 is never reached: train: total_iter is 14.'
    ]


def test_a_training_longer_than_its_schedule_is_told_what_will_happen(training):
    longer = changed(training, 'train/total_iter', 40)
    assert 'periods, 26 iterations together: from iteration 27 on' in check(longer).warnings[0]
    longer['train']['scheduler']['after_periods'] = 'continue'
    assert 'rises again' in check(longer).warnings[0]
    longer['train']['scheduler']['after_periods'] = 'stop'
    assert "after_periods: 'stop' must be hold or continue" in refusal(longer)[0]


def test_a_schedule_that_basicsr_cannot_follow_to_the_end_is_refused(training):
    cosine = {'type': 'CosineAnnealingRestartLR', 'periods': [10], 'restart_weights': [1]}
    lines = refusal(changed(training, 'train/scheduler', cosine))
    assert lines == [
        'train: total_iter: 14 is longer than scheduler: periods [10]: CosineAnnealingRestartLR '
        'has no learning rate after iteration 10. Lengthen the last period.'
    ]


def test_metrics_need_a_ground_truth(training):
    alone = {'name': 'Photos', 'type': 'SingleImageDataset', 'dataroot_lq': 'x',
             'io_backend': {'type': 'disk'}}  # fmt: skip
    test = {**training, 'datasets': {'test_1': alone}}
    assert (
        'psnr compares with the ground truth, which datasets: test_1 (Photos)'
        in (refusal(test, is_train=False)[0])
    )
    niqe = {'type': 'calculate_niqe', 'crop_border': 0}
    assert check(changed(test, 'val/metrics', {'niqe': niqe}), is_train=False).errors == []


def test_the_options_given_are_not_changed(training):
    before = copy.deepcopy(training)
    check(changed(training, 'train/optim_g/lr', '1e-3'))
    check(training)
    assert training == before


@pytest.mark.parametrize('key', ['emadecay', 'val_frq', 'pixel_op'])
def test_under_a_model_of_basicsr_an_unknown_key_is_a_warning(training, key):
    opt = changed(training, 'model_type', 'SRModel')
    opt['train'] = {k: v for k, v in opt['train'].items() if k != 'stage'}
    opt['train']['scheduler'] = {'type': 'MultiStepLR', 'milestones': ['5e0'], 'gamma': 0.5}
    assert check(opt).warnings == []
    assert check(opt).opt['train']['scheduler']['milestones'] == [5]
    warnings = check(changed(opt, f'train/{key}', 1)).warnings
    assert len(warnings) == 1
    assert warnings[0].startswith(f'train: {key} is not a known key (did you mean')


def test_under_a_model_of_basicsr_keys_that_it_reads_are_known(training):
    opt = changed(training, 'model_type', 'SRModel')
    opt['train'] = {
        **opt['train'],
        'perceptual_opt': {'type': 'PerceptualLoss', 'layer_weights': {}},
    }
    del opt['train']['stage']
    opt['train']['scheduler'] = {'type': 'MultiStepLR', 'milestones': [5]}
    opt['path']['ignore_resume_networks'] = ['network_g']
    assert check(opt).warnings == []


def test_basicsrs_data_set_under_our_model_is_checked_as_far_as_its_source_tells(training):
    data = {
        'name': 'pairs', 'type': 'PairedImageDataset', 'dataroot_lq': 'a', 'dataroot_gt': 'b',
        'io_backend': {'type': 'disk'}, 'gt_size': '1.6e1', 'use_hflip': True, 'use_rto': True,
        'batch_size_per_gpu': '2e0', 'num_worker_per_gpu': 0,
    }  # fmt: skip
    result = check(changed(training, 'datasets/train', data))
    assert result.opt['datasets']['train']['batch_size_per_gpu'] == 2
    assert result.warnings == [
        'datasets: train: use_rto is not a known key (did you mean "use_rot"?).'
    ]
    del data['batch_size_per_gpu']
    wrong = changed(training, 'datasets/train', data)
    assert 'datasets: train: batch_size_per_gpu is missing' in refusal(wrong)[0]


def test_a_file_without_our_model_and_data_set_is_not_ours():
    assert not concerns_us({'model_type': 'SRModel', 'datasets': {'train': {'type': 'Other'}}})
    assert not concerns_us({'model_type': 'SRModel', 'datasets': None})
