"""The training path: outputs and gradients are those of the plain network."""

from __future__ import annotations

import copy

import pytest
import torch

from c2fdft_arch.common import hardware
from c2fdft_arch.network.plain_dft import PlainDFT
from helpers.gradients import assert_same_gradients, gradients, relative_error, run
from helpers.networks import OPTIONS, tiny_input, tiny_network


@pytest.mark.parametrize('options', OPTIONS, ids=str)
def test_gradients_are_the_plain_ones_for_every_option(options):
    net = tiny_network(**options)
    plain, expected = gradients(net, PlainDFT.forward)
    prediction, result = gradients(net, run)
    assert relative_error(prediction, plain) < 1e-5
    # The gradient of a single number, a temperature, is a float32 sum of terms that cancel.
    assert_same_gradients(result, expected, 1e-3)


@pytest.mark.parametrize('height, width, batch', [(8, 8, 1), (8, 40, 3), (32, 16, 4)])
def test_gradients_are_the_plain_ones_for_every_size(height, width, batch):
    net = tiny_network()
    _, expected = gradients(net, PlainDFT.forward, height, width, batch)
    assert_same_gradients(gradients(net, run, height, width, batch)[1], expected, 1e-4)


@pytest.mark.parametrize('precision', [torch.float32, torch.bfloat16])
def test_checkpointed_blocks_give_the_same_gradients(precision):
    net = tiny_network()
    _, expected = gradients(net, run, precision=precision)
    net.checkpoint_blocks = True
    _, result = gradients(net, run, precision=precision)
    assert_same_gradients(result, expected, 1e-6)


def test_autocast_computes_products_in_bf16_and_the_rest_in_float32(monkeypatch):
    monkeypatch.setattr(hardware, 'has_fast_bf16', lambda device_type: True)
    net = tiny_network()
    plain, expected = gradients(net, PlainDFT.forward, 32, 32)
    prediction, result = gradients(net, run, 32, 32, precision=torch.bfloat16)
    assert prediction.dtype == torch.float32
    assert 1e-5 < relative_error(prediction, plain) < 0.02
    assert all(g.dtype == torch.float32 for g in result.values())
    assert_same_gradients(result, expected, 0.15)


def test_gradients_of_the_input_alone():
    net = tiny_network().requires_grad_(False)
    x, t = tiny_input()
    x.requires_grad_()
    net(x, t).square().sum().backward()
    result = x.grad.clone()
    x.grad = None
    PlainDFT.forward(net, x, t).square().sum().backward()
    assert relative_error(result, x.grad) < 1e-4


def test_frozen_parameters_get_no_gradient():
    net = tiny_network()
    frozen = net.encoder_level1[0].attn.qkv.weight.requires_grad_(False)
    x, t = tiny_input()
    net(x, t).sum().backward()
    assert frozen.grad is None and net.output.weight.grad is not None


def test_a_copy_predicts_the_same_and_shares_nothing():
    net = tiny_network()
    twin = copy.deepcopy(net)
    x, t = tiny_input()
    assert torch.equal(net(x, t), twin(x, t))
    twin(x, t).sum().backward()
    assert all(p.grad is None for p in net.parameters())


def test_compiled_network_has_the_same_gradients():
    net = tiny_network()
    _, expected = gradients(net, run)
    compiled = torch.compile(net.forward, backend='aot_eager')
    _, result = gradients(net, lambda _, x, t: compiled(x, t))
    assert_same_gradients(result, expected, 1e-4)


def test_exported_program_predicts_the_same():
    net = tiny_network()
    x, t = tiny_input()
    with torch.no_grad():
        program = torch.export.export(net, (x, t)).module()
        torch.testing.assert_close(program(x, t), net(x, t), rtol=1e-4, atol=1e-5)
