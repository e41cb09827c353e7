"""Devices without float64, as Apple's and some of Intel's, are sent none; `--device` accepts them.

Needs no such device: `meta` stands for one, since every operation tells the type of its result.
"""

from __future__ import annotations

import importlib

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from c2fdft_model.diffusion.ir_sde import IRSDEProcess, MeanReversion
from c2fdft_model.diffusion.process import DDPMProcess, DiffusionProcess
from c2fdft_model.restoring.restoration import restore
from c2fdft_model.training.stages import CoarseStage, FineStage
from helpers.networks import tiny_network

STEPS = 4


class WatchFloat64(TorchDispatchMode):
    """Notes each operation whose result is float64 on `meta`."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.seen = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        tensors = [x for x in tree_leaves(result) if isinstance(x, Tensor) and x.is_meta]
        self.seen += len(tensors)
        self.found += [str(func) for x in tensors if x.dtype == torch.float64]
        return result


class Scale(nn.Module):
    """A predictor that leaves the timesteps alone, so that they may lie anywhere."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return x[:, 3:] * self.weight


def ddpm(**settings) -> DiffusionProcess:
    return DDPMProcess(sampling_steps=STEPS, eta=0.5, **settings)


def ir_sde(**settings) -> DiffusionProcess:
    return IRSDEProcess(MeanReversion(STEPS), STEPS, eta=0.5, **settings)


PROCESSES = [
    *(ddpm(prediction=name) for name in ('noise', 'clean', 'velocity')),
    *(ir_sde(prediction=name) for name in ('noise', 'clean')),
    ir_sde(objective='maximum_likelihood', sampler='sde'),
]


def batch() -> tuple[Tensor, Tensor, Tensor]:
    lq, gt, eps = (torch.empty(2, 3, 16, 16, device='meta') for _ in range(3))
    return lq, gt, eps


def test_float64_on_the_device_is_noticed():
    with WatchFloat64() as watch:
        torch.zeros(1, dtype=torch.float64).to('meta')
        torch.zeros(1, dtype=torch.float64).to(torch.float32).to('meta')
    assert len(watch.found) == 1
    assert watch.seen == 2


@pytest.mark.parametrize('process', PROCESSES)
def test_a_coarse_iteration_sends_none(process):
    stage = CoarseStage(Scale().to('meta'), process, nn.L1Loss())
    # IR-SDE reads the timesteps, which `meta` cannot give.
    where = 'meta' if isinstance(process, DDPMProcess) else 'cpu'
    with WatchFloat64() as watch:
        (loss,) = stage(*batch(), torch.zeros(2, dtype=torch.long, device=where)).values()
        loss.backward()
    assert watch.seen
    assert watch.found == []


@pytest.mark.parametrize('process', PROCESSES)
def test_a_fine_iteration_sends_none(process):
    losses = {'l_pix': nn.L1Loss()}, {}
    stage = FineStage(Scale().to('meta'), process, *losses)
    with WatchFloat64() as watch:
        stage(*batch(), torch.zeros(2))['l_pix'].backward()
    assert watch.seen
    assert watch.found == []


@pytest.mark.parametrize('tile', [None, 16])
def test_a_restoration_sends_none(tile):
    """Not even where the image is float64."""
    with torch.device('meta'):
        network = tiny_network()
    image = torch.rand(3, 13, 21, dtype=torch.float64)
    process = DDPMProcess(sampling_steps=2, eta=0.5)
    calls: list[int] = []
    with WatchFloat64() as watch, pytest.raises(NotImplementedError, match='meta'):
        restore(  # the result alone cannot come back
            network, image, process=process, tile=tile, tile_overlap=8,
            progress=lambda: calls.append(1),
        )  # fmt: skip
    assert len(calls) == 2
    assert watch.found == []


@pytest.mark.parametrize('name', ['mps', 'xpu', 'cuda:1'])
def test_devices_are_accepted_by_name(monkeypatch, name):
    command = importlib.import_module('c2fdft_model.commands.restore')
    asked: list[torch.device] = []

    def zeros(count: int, device: torch.device) -> Tensor:
        asked.append(device)
        return torch.ones(count) - 1

    monkeypatch.setattr(command.torch, 'zeros', zeros)
    assert command.find_device(name) == torch.device(name)
    assert asked == [torch.device(name)]
