"""What the two stages compute from a batch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from c2fdft_arch.common.option_parsing import parse_section
from c2fdft_model.diffusion.options import DiffusionOptions, build_process
from c2fdft_model.diffusion.process import DDPMProcess
from c2fdft_model.losses import SSIMLoss
from c2fdft_model.training.stages import CoarseStage, FineStage, mixup, to_unit
from helpers.networks import REFERENCES, reference_network, tiny_network


def batch(size=16, count=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    lq, gt = torch.rand(2, count, 3, size, size, generator=generator)
    eps = torch.randn(gt.shape, generator=generator)
    return lq, gt, eps, torch.tensor([10, 900][:count])


@pytest.mark.parametrize('name', REFERENCES)
def test_coarse_loss_agrees_with_the_released_implementation(name):
    net, tensors, _ = reference_network(type(tiny_network()), name)
    stage = CoarseStage(net, DDPMProcess(), nn.L1Loss())
    lq, gt = to_unit(tensors['lq']), to_unit(tensors['gt'])
    terms = stage(lq, gt, tensors['noise'], tensors['timesteps'])
    assert terms['l_noise'].item() == pytest.approx(tensors['l1_noise_loss'].item(), rel=1e-5)


@pytest.mark.parametrize('name', REFERENCES)
def test_fine_loss_compares_the_sampled_image(name):
    net, tensors, _ = reference_network(type(tiny_network()), name)
    stage = FineStage(net, DDPMProcess(), {'l_pix': nn.L1Loss()}, {'l_ssim': SSIMLoss()})
    lq, gt = to_unit(tensors['lq']), to_unit(tensors['gt'])
    with torch.no_grad():
        terms = stage(lq, gt, tensors['x_T'], tensors['timesteps'])
    sampled = tensors['sampled']
    assert terms['l_pix'].item() == pytest.approx(
        nn.functional.l1_loss(sampled, tensors['gt']).item(), rel=1e-4
    )
    assert terms['l_ssim'].item() == pytest.approx(
        SSIMLoss()(to_unit(sampled), gt).item(), rel=1e-3
    )


@pytest.mark.parametrize('checkpoint', [False, True])
def test_every_parameter_receives_a_gradient_in_the_fine_stage(checkpoint):
    net = tiny_network()
    stage = FineStage(
        net, DDPMProcess(), {'l_pix': nn.L1Loss()}, {'l_ssim': SSIMLoss()}, checkpoint=checkpoint
    )
    sum(stage(*batch()).values()).backward()
    without = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []


def test_every_parameter_receives_a_gradient_in_the_coarse_stage():
    net = tiny_network()
    CoarseStage(net, DDPMProcess(), nn.L1Loss())(*batch())['l_noise'].backward()
    without = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []


@pytest.mark.parametrize('steps', [1, 2, 4])
def test_the_fine_stage_calls_the_network_once_per_step(steps):
    calls = []

    class Counted(nn.Module):
        def forward(self, x, t):
            calls.append(int(t[0]))
            return x[:, 3:]

    process = DDPMProcess(sampling_steps=steps)
    FineStage(Counted(), process, {'l_pix': nn.L1Loss()}, {})(*batch())
    assert calls == process.timesteps


@pytest.mark.parametrize('grad_steps', [None, 1])
def test_the_fine_stage_calls_the_network_at_an_explicit_list_of_timesteps(grad_steps):
    section = {'sampling_timesteps': [0, 900, 300]}
    process = build_process(parse_section(DiffusionOptions, section, 'diffusion'))
    calls = []

    class Recorded(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(1))

        def forward(self, x, t):
            calls.append((int(t[0]), torch.is_grad_enabled()))
            return self.scale * x[:, 3:]

    net = Recorded()
    stage = FineStage(net, process, {'l_pix': nn.L1Loss()}, {}, grad_steps=grad_steps)
    stage(*batch())['l_pix'].backward()
    with_gradient = 3 if grad_steps is None else grad_steps
    assert calls == [(t, k >= 3 - with_gradient) for k, t in enumerate([900, 300, 0])]
    assert net.scale.grad.abs() > 0


def test_sampled_images_are_not_clamped_before_the_loss():
    seen = {}

    def loss(image, truth):
        seen['range'] = (image.min().item(), image.max().item())
        return (image - truth).abs().mean()

    class Silent(nn.Module):
        def forward(self, x, t):
            return torch.zeros_like(x[:, 3:])

    FineStage(Silent(), DDPMProcess(), {'l_pix': loss}, {})(*batch())
    assert seen['range'][0] < -1
    assert seen['range'][1] > 1


def test_mixup_blends_pairs_of_the_batch_with_one_weight():
    lq, gt = torch.eye(4).view(4, 1, 2, 2), 2 * torch.eye(4).view(4, 1, 2, 2)
    mixed_lq, mixed_gt = mixup(lq, gt, 1.2, False, np.random.default_rng(1))
    assert torch.allclose(mixed_gt, 2 * mixed_lq)
    assert torch.allclose(mixed_lq.sum(dim=(1, 2, 3)), torch.ones(4))
    weight = np.random.default_rng(1).beta(1.2, 1.2)
    kept = mixed_lq.flatten(1).diagonal()
    assert all(k == pytest.approx(weight, abs=1e-6) or k == pytest.approx(1) for k in kept.tolist())


def test_mixup_with_identity_leaves_half_of_the_batches():
    lq, gt, _, _ = batch(count=2)
    rng = np.random.default_rng(0)
    unmixed = sum(mixup(lq, gt, 1.2, True, rng)[0] is lq for _ in range(400))
    assert 150 < unmixed < 250
