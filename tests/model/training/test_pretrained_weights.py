"""What weights say of themselves against what a training or a test makes of them."""

from __future__ import annotations

import logging

import pytest
import torch
from basicsr.models import build_model

from helpers.checkpoints import (
    OTHER_SETTINGS,
    TINY,
    description,
    restored_otherwise,
    save_network,
    save_trained_otherwise,
)
from helpers.training_runs import options

RESIDUAL = {'network': {'skip': 'degraded'}, 'prediction': 'clean'}
ONE_PROCESS = {'num_gpu': 0, 'dist': False, 'rank': 0, 'world_size': 1}


@pytest.fixture
def warnings():
    """The warnings of BasicSR's log, which it keeps from other loggers."""
    found: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: found.append(record.getMessage())
    logger = logging.getLogger('basicsr')
    logger.addHandler(handler)
    yield found
    logger.removeHandler(handler)


def trained_further(tmp_path, weights, skip: str, **diffusion) -> None:
    """Build the fine training that begins with these weights."""
    folders = {name: str(tmp_path) for name in ('models', 'training_states', 'experiments_root')}
    opt = options(
        tmp_path,
        'fine',
        network_g={**TINY, 'skip': skip},
        diffusion=diffusion,
        path={'pretrain_network_g': str(weights), 'param_key_g': None, **folders},
    )
    build_model({**opt, **ONE_PROCESS, 'is_train': True})


@pytest.mark.parametrize('pretrained', [False, True])
def test_zero_init_is_where_training_and_average_begin_unless_weights_are_loaded(
    tmp_path, pretrained
):
    weights = str(save_network(tmp_path / 'net.pth', description('coarse'))) if pretrained else None
    folders = {name: str(tmp_path) for name in ('models', 'training_states', 'experiments_root')}
    opt = options(
        tmp_path,
        'coarse',
        network_g=TINY,
        path={'pretrain_network_g': weights, **folders},
        train={'zero_init': True, 'ema_warmup': True},
    )
    model = build_model({**opt, **ONE_PROCESS, 'is_train': True})
    for network in (model.net_g, model.net_g_ema):
        assert bool(network.output.weight.any()) is pretrained
    assert model.ema.decay_in(1) == 2 / 11


def model_that_tests(weights, **sections):
    """Build the test of these weights."""
    opt = {
        'model_type': 'C2FDFTModel', 'is_train': False, 'network_g': {'type': 'DFT'},
        'path': {'pretrain_network_g': str(weights), 'param_key_g': None}, 'val': {},
    }  # fmt: skip
    return build_model({**opt, **ONE_PROCESS, **sections})


def calls_of_a_test(weights, **diffusion) -> int:
    """Build the test of these weights; returns its number of network calls."""
    return len(model_that_tests(weights, diffusion=diffusion).process.timesteps)


@pytest.mark.parametrize('settings', OTHER_SETTINGS.values(), ids=OTHER_SETTINGS)
def test_a_test_without_a_section_diffusion_samples_as_the_weights_were_trained(tmp_path, settings):
    weights = save_trained_otherwise(tmp_path / 'net.pth', settings)
    image = torch.rand(3, 9, 11)
    model = model_that_tests(weights)
    model.feed_data({'lq': image[None], 'lq_path': ['photo.png']})
    model.test()
    assert torch.equal(model.output[0], restored_otherwise(weights, settings, image, 'photo'))


def test_a_fine_stage_whose_coarse_weights_have_another_target_is_warned_of_both(
    tmp_path, warnings
):
    weights = save_network(tmp_path / 'net.pth', description('coarse'))
    trained_further(tmp_path, weights, 'degraded', prediction='clean')
    said = [text for text in warnings if 'trained with' in text]
    assert said == [
        f'path: pretrain_network_g: {weights}: network_g: skip: trained with noisy, degraded is '
        'used.',
        f'path: pretrain_network_g: {weights}: diffusion: prediction: trained with noise, clean is '
        'used.',
    ]


def test_a_fine_stage_of_one_call_goes_on_from_coarse_weights_without_a_warning(tmp_path, warnings):
    weights = save_network(tmp_path / 'net.pth', description('coarse', **RESIDUAL))
    trained_further(tmp_path, weights, 'degraded', prediction='clean', sampling_timesteps=1)
    assert [text for text in warnings if 'trained with' in text] == []


def test_a_test_with_another_number_of_calls_than_trained_for_is_warned_of_both(tmp_path, warnings):
    saved = description('fine', **RESIDUAL, sampling_timesteps=1)
    weights = save_network(tmp_path / 'net.pth', saved)
    assert calls_of_a_test(weights) == 1
    assert warnings == []
    assert calls_of_a_test(weights, sampling_timesteps=4) == 4
    assert len(warnings) == 1
    assert 'trained with 1 call (999), 4 calls (999, 666, 333, 0) are used' in warnings[0]
