from __future__ import annotations

import json

import pytest
import torch

from c2fdft_arch.dft import DFT
from c2fdft_model.restoring.weights import (
    WeightsError,
    build_network,
    load_network,
    network_arguments,
    read_checkpoint,
)

TINY = {'dim': 8, 'num_blocks': [1, 2, 1, 3], 'heads': [1, 2, 2, 4]}
DEFAULTS = {
    'inp_channels': 6,
    'out_channels': 3,
    'dim': 48,
    'num_blocks': [4, 6, 6, 8],
    'heads': [1, 2, 4, 8],
    'ffn_factor': 4.0,
    'bias': False,
    'LayerNorm_type': 'WithBias',
    'dual_pixel_task': False,
}


@pytest.fixture
def network():
    torch.manual_seed(0)
    return DFT(**TINY)


def prefixed(prefix, parameters):
    return {prefix + name: parameter for name, parameter in parameters.items()}


@pytest.mark.parametrize(
    'options',
    [
        {},
        {'inp_channels': 9, 'out_channels': 4},
        {'ffn_factor': 2.66},
        {'ffn_factor': 1.3},
        {'ffn_factor': 2},
        {'bias': True},
        {'LayerNorm_type': 'BiasFree'},
        {'dual_pixel_task': True},
        {'bias': True, 'LayerNorm_type': 'BiasFree', 'dual_pixel_task': True},
    ],
)
def test_the_arguments_are_read_from_the_parameters(options):
    arguments = {**DEFAULTS, **TINY, **options}
    assert network_arguments(DFT(**arguments).state_dict()) == arguments


@pytest.mark.parametrize('factor', [0.37, 1.1, 2.2, 2.66, 3.999, 8 / 3])
@pytest.mark.parametrize('dim', [6, 48])
def test_any_ffn_factor_gives_a_network_of_the_same_shapes(factor, dim):
    one_block = {'dim': dim, 'num_blocks': [1, 1, 1, 1], 'heads': [1, 1, 1, 1]}
    parameters = DFT(**one_block, ffn_factor=factor).state_dict()
    again = DFT(**network_arguments(parameters)).state_dict()
    assert {n: p.shape for n, p in again.items()} == {n: p.shape for n, p in parameters.items()}


@pytest.mark.parametrize('prefix', ['', 'module.', 'module._orig_mod.', '_orig_mod.'])
@pytest.mark.parametrize('wrapper', ['params_ema', 'params', 'state_dict', None])
def test_checkpoints_are_read_whatever_wraps_them(tmp_path, network, wrapper, prefix):
    parameters = prefixed(prefix, network.state_dict())
    torch.save({wrapper: parameters} if wrapper else parameters, tmp_path / 'net.pth')
    checkpoint = read_checkpoint(tmp_path / 'net.pth')
    assert checkpoint.key == (wrapper or '')
    loaded = build_network(checkpoint).state_dict()
    assert all(torch.equal(loaded[name], p) for name, p in network.state_dict().items())


def test_the_averaged_weights_are_preferred(tmp_path, network):
    ema = {name: parameter + 1 for name, parameter in network.state_dict().items()}
    torch.save({'params': network.state_dict(), 'params_ema': ema}, tmp_path / 'net.pth')
    name = 'patch_embed.proj.weight'
    assert torch.equal(load_network(tmp_path / 'net.pth').state_dict()[name], ema[name])
    raw = load_network(tmp_path / 'net.pth', 'params').state_dict()[name]
    assert torch.equal(raw, network.state_dict()[name])


def test_the_log_says_which_key_was_loaded(tmp_path, network, caplog):
    torch.save({'params': network.state_dict()}, tmp_path / 'net.pth')
    with caplog.at_level('INFO'):
        load_network(tmp_path / 'net.pth')
    assert 'net.pth, key params' in caplog.text


def test_half_precision_weights_become_float32(tmp_path, network):
    torch.save({'params': network.bfloat16().state_dict()}, tmp_path / 'net.pth')
    assert {p.dtype for p in load_network(tmp_path / 'net.pth').parameters()} == {torch.float32}


def test_the_network_is_ready_to_evaluate(tmp_path, network):
    torch.save(network.state_dict(), tmp_path / 'net.pth')
    assert not load_network(tmp_path / 'net.pth').training


def test_the_time_embedding_is_an_option(tmp_path, network):
    torch.save(network.state_dict(), tmp_path / 'net.pth')
    without = build_network(read_checkpoint(tmp_path / 'net.pth'), time_embedding=False)
    x = torch.rand(1, 6, 8, 8)
    assert torch.equal(without(x, torch.tensor([0])), without(x, torch.tensor([999])))


def refusal(path, content=None, **options):
    if content is not None:
        torch.save(content, path)
    with pytest.raises(WeightsError) as caught:
        load_network(path, **options)
    message = str(caught.value)
    assert str(path) in message
    assert '\n' not in message
    return message


def test_a_missing_file_is_refused(tmp_path):
    assert 'no such file' in refusal(tmp_path / 'net.pth')


def test_a_folder_is_refused(tmp_path):
    assert 'is a folder' in refusal(tmp_path)


def test_an_empty_file_is_refused(tmp_path):
    (tmp_path / 'net.pth').touch()
    assert 'empty' in refusal(tmp_path / 'net.pth')


@pytest.mark.parametrize('content', [b'hello world', b'\x89PNG\r\n' + bytes(100), b'\x80\x02}'])
def test_a_file_that_is_no_checkpoint_is_refused(tmp_path, content):
    (tmp_path / 'net.pth').write_bytes(content)
    refusal(tmp_path / 'net.pth')


def test_a_truncated_checkpoint_is_refused(tmp_path, network):
    torch.save(network.state_dict(), tmp_path / 'whole.pth')
    whole = (tmp_path / 'whole.pth').read_bytes()
    (tmp_path / 'net.pth').write_bytes(whole[: len(whole) // 2])
    assert 'cut short' in refusal(tmp_path / 'net.pth')


def test_python_objects_are_not_unpickled(tmp_path, network):
    assert 'Python objects' in refusal(tmp_path / 'net.pth', {'params': network})


def test_a_training_state_is_refused_with_advice(tmp_path):
    message = refusal(tmp_path / '90.state', {'epoch': 1, 'iter': 90, 'optimizers': []})
    assert 'training state' in message and 'net_g' in message


@pytest.mark.parametrize('content', [{}, {'a': 1}, [1], torch.zeros(2)])
def test_a_checkpoint_without_weights_is_refused(tmp_path, content):
    refusal(tmp_path / 'net.pth', content)


def test_a_missing_key_is_refused_with_the_keys_that_exist(tmp_path, network):
    content = {'params': network.state_dict()}
    assert 'under: params.' in refusal(tmp_path / 'net.pth', content, param_key='params_ema')


def test_weights_of_another_network_are_refused(tmp_path):
    message = refusal(tmp_path / 'net.pth', torch.nn.Linear(2, 2).state_dict())
    assert 'missing: patch_embed.proj.weight' in message and 'given: weight, bias' in message
    assert len(message) < 400


def test_a_missing_block_is_refused_by_name(tmp_path, network):
    parameters = network.state_dict()
    del parameters['latent.1.ffn.project_in.weight']
    assert 'missing: latent.1.ffn.project_in.weight' in refusal(tmp_path / 'net.pth', parameters)


def test_a_wrong_shape_is_refused_by_name(tmp_path, network):
    parameters = network.state_dict()
    parameters['down1_2.body.0.weight'] = torch.zeros(2, 2, 3, 3)
    message = refusal(tmp_path / 'net.pth', parameters)
    assert 'of another shape: down1_2.body.0.weight (2, 2, 3, 3) instead of' in message


def test_weights_of_a_diverged_training_are_refused(tmp_path, network):
    parameters = network.state_dict()
    parameters['output.weight'][0, 0] = float('nan')
    assert 'output.weight not finite' in refusal(tmp_path / 'net.pth', parameters)


def test_no_permission_is_named(tmp_path, network, monkeypatch):
    torch.save(network.state_dict(), tmp_path / 'net.pth')

    def refuse(*_, **__):
        raise PermissionError(13, 'Permission denied')

    monkeypatch.setattr(torch, 'load', refuse)
    assert 'no permission' in refusal(tmp_path / 'net.pth')


def test_a_released_checkpoint_needs_no_option_file(project_root):
    shapes = json.loads((project_root / 'tests/data/official_state_dict_shapes.json').read_text())
    parameters = {name: torch.empty(shape, device='meta') for name, shape in shapes.items()}
    assert network_arguments(parameters) == DEFAULTS


class Growing(torch.nn.Module):
    """A network of another project, whose size its options say."""

    def __init__(self, channels: int = 8, blocks: int = 1, is_lazy: bool = True) -> None:
        super().__init__()
        if not is_lazy:
            torch.zeros(1).item()  # meta tensors have no values
        self.body = torch.nn.ModuleList(torch.nn.Linear(channels, channels) for _ in range(blocks))


def described(path, **options):
    """A checkpoint of `Growing()` that says it was built with these options."""
    description = {'network_g': {'type': 'Growing', **options}, 'diffusion': {}}
    torch.save({'params': Growing().state_dict(), 'description': description}, path)
    return read_checkpoint(path)


@pytest.mark.parametrize('options', [{}, {'is_lazy': False}])
def test_a_registered_network_is_built_as_the_file_says(tmp_path, options):
    network = build_network(
        described(tmp_path / 'w.pth', **options), lambda: [('Growing', Growing)]
    )
    assert not next(network.parameters()).is_meta


@pytest.mark.parametrize(
    'options',
    [
        {'channels': 10**6},
        {'blocks': 10**9},
        {'blocks': 10**9, 'is_lazy': False},
    ],
)
def test_a_registered_network_far_larger_than_its_file_is_not_built(tmp_path, options):
    checkpoint = described(tmp_path / 'w.pth', **options)
    with pytest.raises(WeightsError, match=r'another network than Growing .* the 72 numbers'):
        build_network(checkpoint, lambda: [('Growing', Growing)])


def test_a_registered_network_of_other_shapes_is_refused_by_name(tmp_path):
    checkpoint = described(tmp_path / 'w.pth', channels=16)
    with pytest.raises(WeightsError, match=r'of another shape: body\.0\.weight'):
        build_network(checkpoint, lambda: [('Growing', Growing)])
