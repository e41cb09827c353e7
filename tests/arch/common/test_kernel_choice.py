"""The setting `kernels`: what is chosen, and what is refused."""

import pytest
import torch

from c2fdft_arch.common import kernel_choice
from c2fdft_arch.common.kernel_choice import check_kernels, check_precision, chosen_kernels
from c2fdft_arch.common.option_parsing import OptionError
from helpers.networks import tiny_input, tiny_network

CPU, CUDA = torch.device('cpu'), torch.device('cuda')


def test_an_unknown_name_is_refused_with_the_nearest():
    with pytest.raises(OptionError, match=r"'tritn'.*did you mean \"triton\".*auto, torch"):
        check_kernels('tritn', CPU)


def test_triton_needs_a_gpu():
    with pytest.raises(OptionError, match='triton cannot be used.*the device is cpu'):
        check_kernels('triton', CPU)


def test_triton_must_be_installed(monkeypatch):
    monkeypatch.setattr(kernel_choice, 'triton_is_installed', lambda: False)
    for kernels in ('triton', 'compile'):
        with pytest.raises(OptionError, match=f'{kernels} cannot be used.*not installed'):
            check_kernels(kernels, CUDA)


def test_compile_needs_a_compiler_on_a_cpu(monkeypatch):
    monkeypatch.setenv('CXX', '/nowhere/c++')
    with pytest.raises(OptionError, match='compile cannot be used.*/nowhere/c'):
        check_kernels('compile', CPU)


@pytest.mark.parametrize('key, allowed', [('amp', 'off'), ('precision', 'auto, fp32')])
def test_a_card_without_bfloat16_is_named(monkeypatch, key, allowed):
    monkeypatch.setattr(torch.cuda, 'is_bf16_supported', lambda: False)
    monkeypatch.setattr(torch.cuda, 'get_device_name', lambda device: 'Old Card')
    with pytest.raises(OptionError, match=f'{key}: bf16.*Old Card.*{allowed}'):
        check_precision('bf16', CUDA, key)
    check_precision('fp32', CUDA, key)


def test_auto_takes_what_was_measured(monkeypatch):
    monkeypatch.setattr(kernel_choice, 'FASTEST', {('Some Card', 'training'): 'triton'})
    monkeypatch.setattr(kernel_choice, 'triton_is_installed', lambda: True)
    for name, expected in (('Some Card', 'triton'), ('Another', 'torch')):
        monkeypatch.setattr(torch.cuda, 'get_device_name', lambda device, name=name: name)
        assert chosen_kernels('auto', CUDA, 'training') == expected
    assert chosen_kernels('auto', CPU, 'training') == 'torch'


def test_torch_leaves_the_kernels_in_cpp_out_and_computes_the_same():
    network = tiny_network()
    x, t = tiny_input()
    with torch.no_grad():
        results = []
        for kernels in ('auto', 'torch'):
            with network.inference_settings(kernels=kernels):
                results.append(network(x, t))
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-4)


def test_a_network_refuses_kernels_that_its_device_lacks():
    network = tiny_network()
    x, t = tiny_input()
    network.kernels = 'triton'
    with pytest.raises(OptionError, match='triton cannot be used'):
        network(x, t)
