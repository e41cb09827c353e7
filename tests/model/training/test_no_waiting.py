"""A training iteration reads nothing back from the device, so that the host never waits for it.

Needs no GPU: meta tensors have a shape but no values, and reading one raises an error.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import nn

from c2fdft_arch.training.network import TrainingForward
from c2fdft_model.diffusion.process import DDPMProcess
from c2fdft_model.losses import SSIMLoss
from c2fdft_model.training.ema import ModelEMA
from c2fdft_model.training.non_finite_guard import NonFiniteGuard
from c2fdft_model.training.stages import CoarseStage, FineStage
from c2fdft_model.training.step import accumulate_gradients, gradient_norm
from helpers.stage_gradients import tiny_network


@pytest.fixture
def process() -> DDPMProcess:
    return DDPMProcess(sampling_steps=2)


@pytest.fixture
def device(process) -> Iterator[None]:
    with torch.device('meta'):
        yield


class ForTraining(nn.Module):
    """The network's evaluation with gradients, which it does not choose by itself for shapes."""

    def __init__(self) -> None:
        super().__init__()
        self.network = tiny_network()

    def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return TrainingForward(self.network, t, torch.float32, checkpoint_blocks=False)(x)


def iteration(stage: nn.Module, parts: int = 1, clip_to: float | None = None) -> torch.Tensor:
    """What an iteration does on the device, but for the fused optimiser; returns the flags."""
    parameters = list(stage.network.parameters())
    ema = ModelEMA(ForTraining().requires_grad_(False), stage.network, 0.9)
    images = [torch.rand(4, 3, 16, 16) for _ in range(3)]
    terms = accumulate_gradients(stage, (*images, torch.zeros(4, dtype=torch.long)), parts)
    norm = gradient_norm(parameters, clip_to)
    flags = NonFiniteGuard(3, print, lambda: '').check({**terms, 'grad_norm': norm})
    ema.update(flags[0], 1)
    return flags


def test_reading_a_tensor_of_this_device_is_an_error(device):
    with pytest.raises(RuntimeError, match='meta'):
        torch.zeros(()).item()


@pytest.mark.parametrize('settings', [{}, {'parts': 2, 'clip_to': 1.0}], ids=['plain', 'clipped'])
def test_a_coarse_iteration_reads_nothing(process, device, settings):
    stage = CoarseStage(ForTraining(), process, nn.L1Loss())
    assert iteration(stage, **settings).is_meta


@pytest.mark.parametrize('settings', [{}, {'checkpoint': True}], ids=['plain', 'checkpointed'])
def test_a_fine_iteration_reads_nothing(process, device, settings):
    losses = {'l_pix': nn.L1Loss()}, {'l_ssim': SSIMLoss(0.84)}
    stage = FineStage(ForTraining(), process, *losses, **settings)
    assert iteration(stage).is_meta
