"""What a training state says of its run, and how another run differs from it."""

from __future__ import annotations

import copy
import functools
import io

import pytest
import torch

from c2fdft_arch.dft import DFT
from c2fdft_model.checkpointing.run_description import (
    ResumeError,
    check_ranks,
    check_same_run,
    describe_run,
    differences,
)

OPT = {
    'network_g': {'type': 'DFT', 'dim': 48, 'num_blocks': [4, 6, 6, 8]},
    'train': {
        'stage': 'coarse',
        'total_iter': 100,
        'optim_g': {'type': 'AdamW', 'lr': 3e-4, 'betas': (0.9, 0.999)},
        'scheduler': {'type': 'CosineAnnealingRestartCyclicLR', 'periods': [30, 70]},
        'accumulate': 1,
        'pixel_opt': {'type': 'L1Loss'},
    },
    'diffusion': {'beta_schedule': 'linear', 'prediction': 'noise'},
    'datasets': {
        'train': {
            'type': 'PatchCyclePairedDataset',
            'gt_sizes': [32, 64],
            'mini_batch_sizes': [8, 4],
            'iters': [10],
            'io_backend': {},
        }
    },
    'manual_seed': 100,
    'world_size': 2,
    'num_gpu': 2,
}


def changed(path: str, value) -> dict:
    opt = copy.deepcopy(OPT)
    *sections, key = path.split(': ')
    section = opt
    for name in sections:
        section = section[name]
    section[key] = value
    return describe_run(opt)


def test_a_description_can_be_read_without_running_code():
    buffer = io.BytesIO()
    torch.save(describe_run(OPT), buffer)
    buffer.seek(0)
    assert torch.load(buffer, weights_only=True) == describe_run(OPT)


def test_the_same_options_differ_in_nothing():
    assert check_same_run(describe_run(OPT), describe_run(copy.deepcopy(OPT))) == []


@pytest.mark.parametrize(
    ('path', 'value'),
    [
        ('network_g: dim', 32),
        ('network_g: num_blocks', [1, 1, 1, 1]),
        ('train: stage', 'fine'),
        ('diffusion: prediction', 'clean'),
        ('train: scheduler', {'type': 'MultiStepLR', 'milestones': [50]}),
        ('train: optim_g', {'type': 'Adam', 'lr': 3e-4}),
    ],
)
def test_another_network_stage_schedule_or_optimiser_cannot_be_resumed(path, value):
    if isinstance(value, dict):
        given, path, value = changed(path, value), f'{path}: type', value['type']
    else:
        given = changed(path, value)
    old = functools.reduce(lambda section, key: section[key], path.split(': '), OPT)
    with pytest.raises(ResumeError) as error:
        check_same_run(describe_run(OPT), given)
    assert f'{path}: {old} when the state was written, {value} now' in str(error.value)


def test_the_two_names_of_one_schedule_are_no_difference():
    runs = (
        changed('train: scheduler', {'type': name, 'milestones': [50]})
        for name in ('MultiStepLR', 'MultiStepRestartLR')
    )
    assert check_same_run(*runs) == []


def find_architecture(name: str):
    def backbone(width=8, depth=(1, 2)):
        pass

    def wrapper(backbone, time=None):
        pass

    return {'DFT': DFT, 'Wrapper': wrapper, 'Backbone': backbone}.get(name)


@pytest.mark.parametrize(
    ('short', 'long'),
    [
        ({'type': 'DFT', 'dim': 8}, {'type': 'DFT', 'dim': 8, 'bias': False}),
        ({'type': 'DFT'}, {'type': 'DFT', 'num_blocks': [4, 6, 6, 8]}),
        (
            {'type': 'Wrapper', 'backbone': {'type': 'Backbone'}},
            {'type': 'Wrapper', 'time': None, 'backbone': {'type': 'Backbone', 'depth': [1, 2]}},
        ),
    ],
)
def test_a_default_of_the_network_that_is_written_out_is_no_difference(short, long):
    runs = [describe_run({**OPT, 'network_g': section}) for section in (short, long)]
    assert check_same_run(*runs, find_architecture) == []
    assert check_same_run(*reversed(runs), find_architecture) == []


def test_an_argument_left_out_is_compared_as_its_default():
    runs = [describe_run({**OPT, 'network_g': {'type': 'DFT', **s}}) for s in ({}, {'bias': True})]
    with pytest.raises(ResumeError, match='bias: False when the state was written, True now'):
        check_same_run(*runs, find_architecture)


@pytest.mark.parametrize(
    ('path', 'value'),
    [
        ('train: ema_decay', 0.999),
        ('train: mixing_augs', {'mixup': False}),
        ('train: optim_g: eps', 1e-8),
        ('diffusion: eta', 0.0),
        ('diffusion: sampling_timesteps', 4),
        ('datasets: train: crops_per_image', 1),
    ],
)
def test_a_default_that_is_written_out_is_not_mentioned(path, value):
    assert check_same_run(describe_run(OPT), changed(path, value)) == []


def test_a_default_section_of_the_ir_sde_that_is_written_out_is_not_mentioned():
    sections = ({'process': 'ir_sde'}, {'process': 'ir_sde', 'ir_sde': {'delta': 0.005}})
    runs = [describe_run({**OPT, 'diffusion': section}) for section in sections]
    assert check_same_run(*runs) == []


@pytest.mark.parametrize(
    ('path', 'value', 'used'),
    [
        ('world_size', 4, 'new'),
        ('datasets: train: gt_sizes', [32, 128], 'new'),
        ('datasets: train: iters', [20], 'new'),
        ('diffusion: beta_schedule', 'quad', 'new'),
        ('train: accumulate', 4, 'new'),
        ('train: scheduler: periods', [50, 50], 'of the state'),
        ('train: optim_g: lr', 1e-4, 'of the state'),
        ('manual_seed', 7, 'of the state'),
    ],
)
def test_another_schedule_or_world_size_is_said_with_both_values_and_which_is_used(
    path, value, used
):
    (note,) = check_same_run(describe_run(OPT), changed(path, value))
    assert note.startswith(f'{path}: ')
    assert f'{value} now' in note and used in note


@pytest.mark.parametrize(
    'path', ['train: total_iter', 'train: keep_last', 'datasets: train: io_backend']
)
def test_a_change_that_alters_no_iteration_is_not_mentioned(path):
    assert check_same_run(describe_run(OPT), changed(path, 5)) == []


@pytest.mark.parametrize(
    ('path', 'value', 'key'),
    [
        ('train: optim_g: lr', 1e-4, 'optim_g.lr'),
        ('train: scheduler: periods', [50, 50], 'scheduler'),
        ('train: scheduler: type', 'MultiStepLR', 'scheduler'),
    ],
)
def test_override_on_resume_is_the_way_out_that_the_note_names(path, value, key):
    other = changed(path, value)
    if 'type' not in path:
        (note,) = check_same_run(describe_run(OPT), other)
        assert note.endswith(f'(to use the new one, set train: override_on_resume: [{key}])')
    other['train']['override_on_resume'] = [key]
    (note,) = check_same_run(describe_run(OPT), other)
    assert note.endswith('the new one is used, as train: override_on_resume says')


def test_another_optimiser_cannot_be_overridden():
    other = changed('train: optim_g', {'type': 'Adam', 'lr': 3e-4})
    other['train']['override_on_resume'] = ['optim_g']
    with pytest.raises(ResumeError, match='optim_g: type'):
        check_same_run(describe_run(OPT), other)


def test_a_key_that_only_one_side_has_is_a_difference():
    assert list(differences({'a': {'b': 1}}, {'a': {}})) == [('a: b', 1, None)]


def test_ranks_that_found_different_states_are_refused():
    with pytest.raises(ResumeError, match=r'rank 0 8\.state, rank 1 none'):
        check_ranks(['8.state', 'none'])
