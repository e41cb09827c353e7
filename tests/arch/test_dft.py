"""The network against the released implementation's values, and DFT against PlainDFT."""

from __future__ import annotations

import json

import pytest
import torch

from c2fdft_arch.dft import DFT
from c2fdft_arch.network.plain_dft import PlainDFT
from helpers.networks import (
    DATA,
    REFERENCES,
    TINY,
    predict,
    reference_network,
    tiny_input,
    tiny_network,
)

NETWORKS = [PlainDFT, DFT]


@pytest.mark.parametrize('network', NETWORKS)
@pytest.mark.parametrize('name', REFERENCES)
def test_predicted_noise_agrees_with_the_released_implementation(network, name):
    net, tensors, _ = reference_network(network, name)
    torch.testing.assert_close(predict(net, tensors), tensors['predicted_noise'], rtol=0, atol=1e-5)


@pytest.mark.parametrize('name', REFERENCES)
def test_predicted_noise_without_gradients_agrees_with_the_released_implementation(name):
    net, tensors, _ = reference_network(DFT, name)
    with torch.no_grad():
        predicted = predict(net, tensors)
    torch.testing.assert_close(predicted, tensors['predicted_noise'], rtol=0, atol=1e-5)


@pytest.mark.parametrize('network', NETWORKS)
@pytest.mark.parametrize('name', REFERENCES)
def test_l1_noise_loss_agrees_with_the_released_implementation(network, name):
    net, tensors, _ = reference_network(network, name)
    loss = (predict(net, tensors) - tensors['noise']).abs().mean()
    torch.testing.assert_close(loss, tensors['l1_noise_loss'], rtol=1e-5, atol=0)


@pytest.mark.parametrize('network', NETWORKS)
@pytest.mark.parametrize('name', REFERENCES)
def test_gradient_norms_agree_with_the_released_implementation(network, name):
    net, tensors, texts = reference_network(network, name)
    (predict(net, tensors) - tensors['noise']).abs().mean().backward()
    norms = {k: p.grad.norm().item() for k, p in net.named_parameters()}
    assert norms == pytest.approx(texts['grad_norms'], rel=1e-3)


@pytest.mark.parametrize('network', NETWORKS)
def test_checkpoint_format_is_the_released_one(network):
    expected = json.loads((DATA / 'official_state_dict_shapes.json').read_text())
    with torch.device('meta'):
        net = network()
    assert {k: list(v.shape) for k, v in net.state_dict().items()} == expected
    assert sum(p.numel() for p in net.parameters()) == 25_363_344


@pytest.mark.parametrize('options', [{}, {'dual_pixel_task': True}, {'bias': True}])
def test_every_parameter_receives_a_gradient(options):
    net = tiny_network(**options)
    net(*tiny_input()).square().mean().backward()
    assert [k for k, p in net.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_prediction_depends_on_the_timestep():
    net = tiny_network()
    x, _ = tiny_input()
    assert not torch.allclose(net(x, torch.tensor([0, 0])), net(x, torch.tensor([0, 500])))


def test_prediction_without_time_embedding_ignores_the_timestep():
    net = tiny_network(time_embedding=False)
    x, _ = tiny_input()
    assert torch.equal(net(x, torch.tensor([0, 0])), net(x, torch.tensor([7, 500])))


def test_integer_and_float_timesteps_are_the_same():
    net = tiny_network()
    x, t = tiny_input()
    assert torch.equal(net(x, t), net(x, t.double()))


@pytest.mark.parametrize('height, width', [(20, 16), (16, 12), (0, 8)])
def test_illegal_sides_are_refused(height, width):
    with pytest.raises(ValueError, match=f'multiples of 8; got {height} x {width}'):
        tiny_network()(torch.zeros(1, 6, height, width), torch.zeros(1))


def test_wrong_channel_count_is_refused():
    with pytest.raises(ValueError, match=r'\(B, 6, H, W\).*\(1, 3, 16, 16\)'):
        tiny_network()(torch.zeros(1, 3, 16, 16), torch.zeros(1))


@pytest.mark.parametrize('t', [torch.zeros(()), torch.zeros(1), torch.zeros(2, 1)])
def test_timesteps_of_a_wrong_shape_are_refused(t):
    with pytest.raises(ValueError, match='one timestep per image'):
        tiny_network()(torch.zeros(2, 6, 16, 16), t)


@pytest.mark.parametrize(
    'options, message',
    [
        ({'LayerNorm_type': 'withbias'}, 'did you mean "WithBias"'),
        ({'LayerNorm_type': 'BiasFre'}, 'did you mean "BiasFree"'),
        ({'num_blocks': [1, 1, 1]}, 'num_blocks'),
        ({'num_blocks': [1, 1, 0, 1]}, 'num_blocks'),
        ({'heads': [1, 2, 4, 8, 8]}, 'heads'),
        ({'heads': [3, 2, 4, 8]}, '3 heads of level 1 do not divide its 8 channels'),
        ({'dim': 7}, 'dim: 7'),
        ({'ffn_factor': 0}, 'ffn_factor'),
        ({'inp_channels': 2}, 'inp_channels: 2'),
        ({'skip': 'degrade'}, 'skip: .degrade. given.*did you mean "degraded"'),
        ({'skip': 'degraded', 'dual_pixel_task': True}, 'skip: degraded given; with dual'),
    ],
)
def test_options_that_cannot_be_built_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        DFT(**{**TINY, **options})


def test_shapes_are_found_without_computing():
    with torch.device('meta'):
        network = DFT(dim=4, num_blocks=(1, 1, 1, 1))
        noise = network(torch.zeros(2, 6, 16, 8), torch.zeros(2))
    assert noise.is_meta and noise.shape == (2, 3, 16, 8)
