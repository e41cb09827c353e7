"""The option files against the paper's settings, which are stated here once."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest
import yaml
from basicsr.utils.options import ordered_yaml

from c2fdft_arch.common.option_parsing import parse_section
from c2fdft_arch.dft import DFT
from c2fdft_model.data.dataset_options import parse_dataset
from c2fdft_model.diffusion.options import DiffusionOptions, build_process
from c2fdft_model.training.options import TrainOptions
from c2fdft_model.validation.options import ValidationOptions

OPTIONS = Path(__file__).resolve().parents[2] / 'options'

# patches, batch per GPU, iterations per phase, iterations, lr, periods, eta_mins
PAPER = {
    ('derain', 'coarse'): (
        [32, 64, 128], [360, 96, 24], 10_000, 270_000, 3e-4, [50_000, 220_000], [3e-4, 1e-5],
    ),
    ('derain', 'fine'): (
        [32, 64, 128], [96, 24, 6], 5_000, 90_000, 1e-5, [10_000, 80_000], [1e-5, 1e-7],
    ),
    ('deblur', 'coarse'): (
        [64, 128, 256], [96, 24, 6], 10_000, 330_000, 3e-4, [50_000, 280_000], [3e-4, 1e-5],
    ),
    ('deblur', 'fine'): (
        [64, 128, 256], [24, 6, 1], 5_000, 30_000, 4e-5, [10_000, 20_000], [4e-5, 1e-6],
    ),
    ('denoise', 'coarse'): (
        [64, 128, 256], [96, 24, 6], 10_000, 270_000, 3e-4, [50_000, 220_000], [3e-4, 1e-5],
    ),
    ('denoise', 'fine'): (
        [64, 128, 256], [24, 6, 1], 5_000, 90_000, 4e-5, [10_000, 80_000], [4e-5, 1e-6],
    ),
}  # fmt: skip
LAYER_NORM = {'derain': 'WithBias', 'deblur': 'WithBias', 'denoise': 'BiasFree'}
MIXUP = {'derain': False, 'deblur': True, 'denoise': True}
Y_CHANNEL = {'derain': True, 'deblur': False, 'denoise': False}
STAGES = list(PAPER)
TASKS = list(LAYER_NORM)
NETWORK = {
    'type': 'DFT',
    'inp_channels': 6,
    'out_channels': 3,
    'dim': 48,
    'num_blocks': [4, 6, 6, 8],
    'heads': [1, 2, 4, 8],
    'ffn_factor': 4.0,
    'bias': False,
    'dual_pixel_task': False,
}
DIFFUSION = {
    'beta_schedule': 'linear',
    'beta_start': 1e-4,
    'beta_end': 2e-2,
    'num_diffusion_timesteps': 1000,
    'sampling_timesteps': 4,
}
SECTIONS = [
    'name', 'model_type', 'scale', 'num_gpu', 'manual_seed', 'datasets', 'network_g', 'path',
    'train', 'val', 'logger', 'dist_params', 'diffusion',
]  # fmt: skip

# What an ablation changes of the paper's file, key by key; every other value must be the same.
ABLATIONS = {
    'fixed_patch': ('derain_coarse', {
        'datasets:train:gt_sizes': [64],
        'datasets:train:mini_batch_sizes': [96],
        'datasets:train:batch_size_per_gpu': 96,
        'datasets:train:iters': [270_000],
    }),
    'no_time_embedding': ('derain_coarse', {'network_g:time_embedding': False}),
    'coarse_360k': ('derain_coarse', {
        'train:total_iter': 360_000,
        'train:scheduler:periods': [50_000, 310_000],
    }),
    'fine_ssim_weight_0': ('derain_fine', {
        'train:ssim_opt:type': None,
        'train:ssim_opt:loss_weight': None,
        'train:ssim_opt:data_range': None,
        'train:pixel_opt:loss_weight': 1.0,
    }),
    'fine_ssim_weight_0.16': ('derain_fine', {
        'train:ssim_opt:loss_weight': 0.16,
        'train:pixel_opt:loss_weight': 0.84,
    }),
    'fine_ssim_weight_0.5': ('derain_fine', {
        'train:ssim_opt:loss_weight': 0.5,
        'train:pixel_opt:loss_weight': 0.5,
    }),
    'fine_released_constants': ('derain_fine', {'train:ssim_opt:data_range': 127.5}),
    'fine_from_raw_weights': ('derain_fine', {'path:param_key_g': 'params'}),
    'fine_grad_steps_1': ('derain_fine', {'train:grad_steps': 1}),
    'fine_8_steps': ('derain_fine', {'diffusion:sampling_timesteps': 8}),
}  # fmt: skip
# The batches of both GPUs on one.
ONE_GPU = {
    'derain_coarse_1gpu': ('derain_coarse', {
        'num_gpu': 1,
        'train:accumulate': 6,
        'datasets:train:mini_batch_sizes': [720, 192, 48],
        'datasets:train:batch_size_per_gpu': 720,
    }),
    'derain_fine_1gpu': ('derain_fine', {
        'num_gpu': 1,
        'train:accumulate': 2,
        'train:checkpoint': 'steps',
        'datasets:train:mini_batch_sizes': [192, 48, 12],
        'datasets:train:batch_size_per_gpu': 192,
        'path:pretrain_network_g': 'experiments/derain_coarse_1gpu/models/net_g_latest.pth',
    }),
}  # fmt: skip

# The clean image as the target, with the paper's schedule; and the same trained for a single call.
CLEAN = {'network_g:skip': 'degraded', 'diffusion:prediction': 'clean'}

ALL_FILES = sorted(
    path.relative_to(OPTIONS).as_posix()
    for path in OPTIONS.rglob('*.yml')
    if path.parent.name != 'baselines'
)
TRAINING_FILES = [name for name in ALL_FILES if '_test' not in name]
FINE_FILES = [name for name in TRAINING_FILES if 'fine' in name]


def load(name: str) -> dict:
    with open(OPTIONS / name) as stream:
        return yaml.load(stream, Loader=ordered_yaml()[0])  # as BasicSR's parse_options does


def flat(section: dict, path: str = '') -> dict:
    """Nested options as {'train:optim_g:lr': value}."""
    values = {}
    for key, value in section.items():
        name = f'{path}{key}'
        if isinstance(value, dict):
            values.update(flat(value, f'{name}:'))
        else:
            values[name] = value
    return values


def changes(name: str, base: str) -> dict:
    """The keys whose values differ between two files; None for a key that is missing."""
    ours, theirs = flat(load(name)), flat(load(base))
    keys = sorted(ours.keys() | theirs.keys())
    return {key: ours.get(key) for key in keys if ours.get(key) != theirs.get(key)}


@pytest.mark.parametrize(('task', 'stage'), STAGES)
def test_training_files_hold_the_papers_schedule(task, stage):
    opt = load(f'{task}_{stage}.yml')
    data, train = opt['datasets']['train'], opt['train']
    scheduler = train['scheduler']
    assert PAPER[task, stage] == (
        data['gt_sizes'],
        data['mini_batch_sizes'],
        *data['iters'],
        train['total_iter'],
        train['optim_g']['lr'],
        scheduler['periods'],
        scheduler['eta_mins'],
    )
    assert scheduler['type'] == 'CosineAnnealingRestartCyclicLR'
    assert scheduler['restart_weights'] == [1, 1]


@pytest.mark.parametrize(('task', 'stage'), STAGES)
def test_training_files_hold_the_papers_optimiser(task, stage):
    train = load(f'{task}_{stage}.yml')['train']
    optimizer = {key: value for key, value in train['optim_g'].items() if key != 'lr'}
    assert optimizer == {'type': 'AdamW', 'weight_decay': 1e-4, 'betas': [0.9, 0.999]}
    assert (train['stage'], train['ema_decay'], train['use_grad_clip']) == (stage, 0.999, False)


@pytest.mark.parametrize(('task', 'stage'), STAGES)
def test_mixup_is_for_deblurring_and_denoising(task, stage):
    mixing = load(f'{task}_{stage}.yml')['train'].get('mixing_augs')
    expected = {'mixup': True, 'mixup_beta': 1.2, 'use_identity': True}
    assert mixing == (expected if MIXUP[task] else None)


@pytest.mark.parametrize(('task', 'stage'), STAGES)
def test_the_losses_are_eq_8_and_eq_9(task, stage):
    train = load(f'{task}_{stage}.yml')['train']
    l1_weight = {'coarse': 1.0, 'fine': 0.16}[stage]
    ssim = {'type': 'SSIMLoss', 'loss_weight': 0.84, 'data_range': 1.0}
    assert train['pixel_opt'] == {'type': 'L1Loss', 'loss_weight': l1_weight, 'reduction': 'mean'}
    assert train.get('ssim_opt') == (ssim if stage == 'fine' else None)


@pytest.mark.parametrize('task', TASKS)
@pytest.mark.parametrize('kind', ['coarse', 'fine', 'test'])
def test_network_and_diffusion_are_the_same_in_every_file_of_a_task(task, kind):
    opt = load(f'{task}_{kind}.yml')
    assert opt['network_g'] == NETWORK | {'LayerNorm_type': LAYER_NORM[task]}
    assert opt['diffusion'] == DIFFUSION


@pytest.mark.parametrize('task', TASKS)
@pytest.mark.parametrize('kind', ['coarse', 'fine', 'test'])
def test_metrics_are_taken_on_the_tasks_channel(task, kind):
    metrics = load(f'{task}_{kind}.yml')['val']['metrics']
    assert {name: metric['type'] for name, metric in metrics.items()} == {
        'psnr': 'calculate_psnr',
        'ssim': 'calculate_ssim',
    }
    for metric in metrics.values():
        assert (metric['crop_border'], metric['test_y_channel']) == (0, Y_CHANNEL[task])


def test_deraining_is_tested_on_the_four_sets_of_table_1():
    datasets = load('derain_test.yml')['datasets']
    assert [d['name'] for d in datasets.values()] == ['Test100', 'Rain100H', 'Rain100L', 'Test2800']
    assert list(datasets) == ['test_1', 'test_2', 'test_3', 'test_4']


def test_deblurring_is_tested_on_gopro_and_both_realblur_sets():
    names = [d['name'] for d in load('deblur_test.yml')['datasets'].values()]
    assert names == ['GoPro', 'RealBlur_R', 'RealBlur_J']


@pytest.mark.parametrize('name', TRAINING_FILES)
def test_the_loader_batch_is_the_largest_of_the_cycle(name):
    data = load(name)['datasets']['train']
    assert data['batch_size_per_gpu'] == max(data['mini_batch_sizes'])
    assert len(data['gt_sizes']) == len(data['mini_batch_sizes'])
    assert all(size % 8 == 0 for size in data['gt_sizes'])


@pytest.mark.parametrize('name', TRAINING_FILES)
def test_the_periods_of_the_learning_rate_last_to_the_end(name):
    train = load(name)['train']
    assert sum(train['scheduler']['periods']) == train['total_iter']


@pytest.mark.parametrize('name', FINE_FILES)
def test_fine_starts_from_the_coarse_file_of_the_same_kind(name):
    path = load(name)['path']
    coarse = load(coarse_file_of(name))['name']
    assert path['pretrain_network_g'] == f'experiments/{coarse}/models/net_g_latest.pth'
    assert path['strict_load_g'] is True
    assert path['param_key_g'] == ('params' if 'raw_weights' in name else 'params_ema')


def coarse_file_of(name: str) -> str:
    if 'ablation' in name:
        return 'derain_coarse.yml'
    return re.sub('_[14]step', '', name.replace('fine', 'coarse'))


@pytest.mark.parametrize(
    'task', [*TASKS, *(f'residual/{task}' for task in TASKS), 'demo', 'demo_paper']
)
def test_the_test_file_loads_the_averaged_weights_of_the_fine_stage(task):
    path = load(f'{task}_test.yml')['path']
    fine = load(f'{task}_fine.yml')['name']
    assert path['pretrain_network_g'] == f'experiments/{fine}/models/net_g_latest.pth'
    assert (path['param_key_g'], path['strict_load_g']) == ('params_ema', True)


def test_every_ablation_file_is_known_to_this_test():
    files = {Path(name).stem for name in ALL_FILES if name.startswith('ablation/')}
    assert files == set(ABLATIONS)


@pytest.mark.parametrize('name', ABLATIONS)
def test_an_ablation_changes_what_it_says_and_nothing_else(name):
    base, expected = ABLATIONS[name]
    found = changes(f'ablation/{name}.yml', f'{base}.yml')
    assert found == expected | {'name': f'ablation_{name}'}


@pytest.mark.parametrize('task', TASKS)
@pytest.mark.parametrize('kind', ['coarse', 'fine', 'test'])
def test_a_residual_file_changes_the_target_and_nothing_else(task, kind):
    found = changes(f'residual/{task}_{kind}.yml', f'{task}_{kind}.yml')
    stage_before = {'fine': 'coarse', 'test': 'fine'}.get(kind)
    expected = CLEAN | {'name': f'residual_{task}_{kind}'}
    if stage_before:
        expected['path:pretrain_network_g'] = (
            f'experiments/residual_{task}_{stage_before}/models/net_g_latest.pth'
        )
    assert found == expected


@pytest.mark.parametrize('task', TASKS)
def test_a_one_step_file_has_as_many_evaluations_in_an_iteration_as_four_steps(task):
    found = changes(f'residual/{task}_fine_1step.yml', f'residual/{task}_fine.yml')
    batches = [4 * batch for batch in PAPER[task, 'fine'][1]]
    assert found == {
        'name': f'residual_{task}_fine_1step',
        'datasets:train:mini_batch_sizes': batches,
        'datasets:train:batch_size_per_gpu': max(batches),
        'diffusion:sampling_timesteps': 1,
    }


@pytest.mark.parametrize('task', TASKS)
def test_a_one_step_test_takes_the_weights_that_were_trained_for_one_step(task):
    found = changes(f'residual/{task}_test_1step.yml', f'residual/{task}_test.yml')
    assert found == {
        'name': f'residual_{task}_test_1step',
        'path:pretrain_network_g': (
            f'experiments/residual_{task}_fine_1step/models/net_g_latest.pth'
        ),
        'diffusion:sampling_timesteps': 1,
    }


@pytest.mark.parametrize('name', ONE_GPU)
def test_a_one_gpu_file_changes_batches_and_memory_settings_only(name):
    base, expected = ONE_GPU[name]
    found = changes(f'{name}.yml', f'{base}.yml')
    assert found == expected | {'name': name}


@pytest.mark.parametrize('name', ONE_GPU)
def test_a_one_gpu_file_has_the_effective_batch_of_two_gpus(name):
    base, _ = ONE_GPU[name]
    one_gpu = load(f'{name}.yml')['datasets']['train']['mini_batch_sizes']
    per_gpu = load(f'{base}.yml')['datasets']['train']['mini_batch_sizes']
    assert one_gpu == [2 * batch for batch in per_gpu]


@pytest.mark.parametrize('name', ALL_FILES)
def test_names_follow_the_files(name):
    assert load(name)['name'] == name.removesuffix('.yml').replace('/', '_')


@pytest.mark.parametrize('name', ALL_FILES)
def test_sections_stand_in_upstreams_order(name):
    found = list(load(name))
    assert found == [section for section in SECTIONS if section in found]


@pytest.mark.parametrize('name', ALL_FILES)
def test_the_command_in_the_header_names_the_file_itself(name):
    header = (OPTIONS / name).read_text().split('# general settings')[0]
    commands = [line for line in header.splitlines() if ' -opt ' in line]
    assert commands
    assert all(f'-opt options/{name}' in line for line in commands)


@pytest.mark.parametrize('name', ALL_FILES)
def test_our_sections_are_accepted(name):
    opt = load(name)
    if 'train' in opt:
        parse_section(TrainOptions, opt['train'], 'train')
        parse_dataset(opt['datasets']['train'])
    parse_section(ValidationOptions, opt.get('val'), 'val')
    build_process(parse_section(DiffusionOptions, opt['diffusion'], 'diffusion'))


@pytest.mark.parametrize('name', ALL_FILES)
def test_the_networks_keys_are_accepted(name):
    network = load(name)['network_g']
    assert network.pop('type') == 'DFT'
    inspect.signature(DFT).bind(**network)
