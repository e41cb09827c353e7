"""What the options of a training ask for is refused, by key, if the machine cannot do it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from c2fdft_arch.common import kernel_choice
from c2fdft_arch.common.option_parsing import OptionError
from c2fdft_model.training.options import TrainOptions
from c2fdft_model.training.set_up import choose_kernels, zero_last_convolution
from helpers.networks import tiny_input, tiny_network

CPU, CUDA = torch.device('cpu'), torch.device('cuda')


def options(**changes: str) -> TrainOptions:
    return TrainOptions(
        stage='coarse',
        total_iter=1,
        optim_g={'type': 'AdamW', 'lr': 1e-3},
        scheduler={'type': 'MultiStepLR', 'milestones': [1]},
        pixel_opt={'type': 'L1Loss'},
        **changes,
    )


def refusal(network: nn.Module, device: torch.device, **changes: str) -> str:
    with pytest.raises(OptionError) as refused:
        choose_kernels(options(**changes), network, device)
    (line,) = str(refused.value).splitlines()
    return line


def test_triton_without_a_gpu():
    line = refusal(tiny_network(), CPU, kernels='triton')
    assert line.startswith('train: kernels: triton cannot be used: ')
    assert line.endswith('Allowed: auto, torch.')


def test_triton_that_is_not_installed(monkeypatch):
    monkeypatch.setattr(kernel_choice, 'triton_is_installed', lambda: False)
    line = refusal(tiny_network(), CUDA, kernels='triton')
    assert line.startswith('train: kernels: triton cannot be used: Triton is not installed')


def test_compile_without_a_compiler(monkeypatch):
    monkeypatch.setenv('CXX', '/nowhere/c++')
    line = refusal(tiny_network(), CPU, kernels='compile')
    assert line.startswith('train: kernels: compile cannot be used: ')
    assert '/nowhere/c++' in line


def test_a_card_without_bfloat16(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_bf16_supported', lambda: False)
    monkeypatch.setattr(torch.cuda, 'get_device_name', lambda device: 'Old Card')
    line = refusal(tiny_network(), CUDA, amp='bf16')
    assert line.startswith('train: amp: bf16 cannot be used: Old Card')
    assert line.endswith('Allowed: off.')


def test_kernels_of_another_network_than_ours():
    line = refusal(nn.Identity(), CPU, kernels='torch')
    assert line.startswith('train: kernels: torch is not possible for network_g: Identity')


def test_what_is_possible_reaches_the_network():
    network = tiny_network()
    choose_kernels(options(kernels='torch'), network, CPU)
    assert network.kernels == 'torch'


@pytest.mark.parametrize(('skip', 'channels'), [('degraded', slice(3)), ('noisy', slice(3, None))])
def test_with_zero_init_the_network_returns_its_skip(skip, channels):
    network = tiny_network(skip=skip, bias=True)
    x, t = tiny_input()
    assert not torch.equal(network(x, t), x[:, channels])
    zero_last_convolution(network)
    torch.testing.assert_close(network(x, t), x[:, channels], rtol=0, atol=0)


def test_zero_init_of_another_network():
    with pytest.raises(OptionError, match='zero_init: true is not possible for network_g: Linear'):
        zero_last_convolution(nn.Linear(1, 1))
