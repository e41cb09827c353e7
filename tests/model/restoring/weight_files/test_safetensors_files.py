"""Weights as safetensors: read where checkpoints are, and what is wrong with those that are not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from c2fdft_arch.dft import DFT
from c2fdft_model.diffusion.options import DiffusionOptions
from c2fdft_model.restoring.checkpoint import (
    WeightsError,
    complete_from_weights,
    read_checkpoint,
)
from c2fdft_model.restoring.description import Description
from c2fdft_model.restoring.weight_files.safetensors_files import is_safetensors, write_safetensors
from c2fdft_model.restoring.weights import load_into, load_network

TINY = {'dim': 8, 'num_blocks': [1, 1, 1, 1], 'heads': [1, 2, 2, 4]}


@pytest.fixture
def network() -> DFT:
    return DFT(**TINY, time_embedding=False)


@pytest.fixture
def description(network) -> Description:
    return Description(
        network_g={'type': 'DFT', **network.options},
        diffusion=DiffusionOptions(num_diffusion_timesteps=500, sampling_timesteps=2),
        stage='fine',
        iteration=7,
    )


@pytest.fixture
def file(tmp_path, network, description) -> Path:
    path = tmp_path / 'w.safetensors'
    write_safetensors(path, network.state_dict(), description.to_plain())
    return path


def test_parameters_and_description_come_back(file, network, description):
    checkpoint = read_checkpoint(file)
    assert checkpoint.description == description
    expected = network.state_dict()
    assert checkpoint.parameters.keys() == expected.keys()
    assert all(torch.equal(checkpoint.parameters[name], expected[name]) for name in expected)


def test_the_network_is_built_as_it_is_described(file):
    assert load_network(file).time_embedding is False


def test_a_training_starts_from_it(file, network):
    other = DFT(**TINY)
    load_into(other, file, 'params_ema', True, lambda line: None)
    assert torch.equal(other.output.weight, network.output.weight)


def test_a_test_takes_its_diffusion_from_it(file):
    opt = {'path': {'pretrain_network_g': str(file)}}
    complete_from_weights(opt, lambda line: None)
    assert opt['diffusion']['num_diffusion_timesteps'] == 500


def test_a_file_of_another_program_has_no_description(tmp_path, network):
    save_file(network.state_dict(), tmp_path / 'w.safetensors')
    assert read_checkpoint(tmp_path / 'w.safetensors').description is None


def test_the_ending_does_not_matter(file):
    renamed = file.with_suffix('.pth')
    file.rename(renamed)
    assert is_safetensors(renamed)
    assert read_checkpoint(renamed).key == 'params'


def test_a_checkpoint_is_not_taken_for_safetensors(tmp_path, network):
    torch.save({'params': network.state_dict()}, tmp_path / 'w.safetensors')
    assert not is_safetensors(tmp_path / 'w.safetensors')
    assert read_checkpoint(tmp_path / 'w.safetensors').key == 'params'


def test_another_network_is_named(tmp_path):
    save_file({'conv.weight': torch.zeros(3, 3)}, tmp_path / 'w.safetensors')
    with pytest.raises(WeightsError, match=r'weights of another network than DFT'):
        load_network(tmp_path / 'w.safetensors')


def test_a_key_that_safetensors_have_not_is_named(file):
    with pytest.raises(WeightsError, match="no weights under 'params_ema'.*under: params"):
        read_checkpoint(file, 'params_ema')


@pytest.mark.parametrize(
    'damage',
    [
        lambda content: content[: len(content) // 2],
        lambda content: content[:8] + b'{' + b'x' * (len(content) - 9),
        lambda content: content[:8] + content[8:].replace(b'"F32"', b'"Q99"', 1),
    ],
    ids=['cut short', 'header overwritten', 'unknown type'],
)
def test_a_damaged_file_is_named_in_one_line(file, damage):
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(WeightsError) as raised:
        read_checkpoint(file)
    assert str(file) in str(raised.value)
    assert '\n' not in str(raised.value)


def test_a_description_that_is_no_json_is_damage(tmp_path, network):
    save_file(network.state_dict(), tmp_path / 'w.safetensors', {'c2fdft': '{"network_g":'})
    with pytest.raises(WeightsError, match=r'w\.safetensors is damaged'):
        read_checkpoint(tmp_path / 'w.safetensors')


def test_a_description_of_a_later_version_is_named(tmp_path, network, description):
    later = description.to_plain() | {'version': '9.0', 'colours': 4}
    save_file(network.state_dict(), tmp_path / 'w.safetensors', {'c2fdft': json.dumps(later)})
    with pytest.raises(WeightsError, match=r'written by c2fdft 9\.0'):
        read_checkpoint(tmp_path / 'w.safetensors')
