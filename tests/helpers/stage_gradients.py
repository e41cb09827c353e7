"""Gradients of a stage on a fixed batch; run as a script, this is one rank of several.

Arguments of the script: the settings of `gradients` as JSON, and the file to write them to.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import torch
from torch import Tensor, distributed, nn

from c2fdft_arch.common import distributed as ranks
from c2fdft_arch.dft import DFT
from c2fdft_model.diffusion.noise_schedule import antithetic_timesteps
from c2fdft_model.diffusion.process import DDPMProcess
from c2fdft_model.losses import SSIMLoss
from c2fdft_model.training.stages import CoarseStage, FineStage
from c2fdft_model.training.step import accumulate_gradients

BATCH = 4


def batch(size: int = 16, count: int = BATCH) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Degraded and clean images, noise and timesteps, always the same."""
    generator = torch.Generator().manual_seed(3)
    gt = torch.rand(count, 3, size, size, generator=generator)
    lq = (gt + 0.1 * torch.randn(gt.shape, generator=generator)).clamp(0, 1)
    eps = torch.randn(gt.shape, generator=generator)
    return lq, gt, eps, antithetic_timesteps(count, 1000, generator)


def tiny_network() -> nn.Module:
    torch.manual_seed(0)
    return DFT(dim=8, num_blocks=(1, 1, 1, 1), heads=(1, 1, 2, 2))


def build_stage(kind: str, network: nn.Module, steps: int = 3, **settings: Any) -> nn.Module:
    process = DDPMProcess(sampling_steps=steps)
    if kind == 'coarse':
        return CoarseStage(network, process, nn.L1Loss(), **settings)
    return FineStage(
        network, process, {'l_pix': nn.L1Loss()}, {'l_ssim': SSIMLoss(0.84)}, **settings
    )


def gradients(
    kind: str, parts: int = 1, blocks: bool = False, **settings: Any
) -> dict[str, Tensor]:
    """Gradient of every parameter after one backward pass over this rank's share of the batch."""
    network = tiny_network()
    if blocks:
        network.checkpoint_blocks = True
    stage = ranks.wrap(build_stage(kind, network, **settings), torch.device('cpu'), 0)
    share = slice(ranks.rank() * BATCH // ranks.world_size(), None)
    share = slice(share.start, share.start + BATCH // ranks.world_size())
    terms = accumulate_gradients(stage, tuple(tensor[share] for tensor in batch()), parts)
    found = {name: p.grad for name, p in network.named_parameters() if p.grad is not None}
    return {**found, **{f'loss {name}': value for name, value in terms.items()}}


def assert_same_gradients(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """To 1e-6 of all gradients together, and of the largest one of each parameter."""
    names = [name for name in expected if not name.startswith('loss')]
    ours, theirs = (torch.cat([g[name].flatten() for name in names]) for g in (found, expected))
    assert (ours - theirs).norm() <= 1e-6 * theirs.norm()
    for name in names:
        largest = expected[name].abs().max().item()
        torch.testing.assert_close(
            found[name], expected[name], rtol=1e-5, atol=1e-6 * max(1.0, largest)
        )


if __name__ == '__main__':
    distributed.init_process_group('gloo')
    result = gradients(**json.loads(sys.argv[1]))
    if ranks.rank() == 0:
        torch.save(result, sys.argv[2])
    distributed.destroy_process_group()
