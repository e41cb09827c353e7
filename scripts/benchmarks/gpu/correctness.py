"""Every way of computing against PlainDFT in float32 without TF32: calls, gradients, sampling."""

import functools
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.gpu.lines import Setting, Step
from benchmarks.gpu.subjects import batch_of, network_of, tf32
from benchmarks.train import stage_of
from c2fdft_arch.common.padding import pad_to_multiple
from c2fdft_model.diffusion.process import DDPMProcess


def steps(setting: Setting) -> Iterator[tuple[str, Step]]:
    """One line for each way, dtype and shape."""
    sides = ((16, 8),) if setting.small else ((64, 64), (72, 40))
    batches = (2,) if setting.small else (1, 8)
    for bf16 in (False, True):
        dtype = 'bf16' if bf16 else 'fp32'
        for kernels in ('plain', *setting.kernels) if bf16 else setting.kernels:
            for count in batches:
                for side in sides:
                    name = f'{kernels} {dtype} {count} x {side[0]} x {side[1]}'
                    yield name, functools.partial(gradients, setting, kernels, bf16, count, side)
            yield (
                f'{kernels} {dtype} fine stage',
                functools.partial(gradients, setting, kernels, bf16, 2, sides[0], 'fine'),
            )
            if kernels != 'plain':
                yield (
                    f'{kernels} {dtype} sampling',
                    functools.partial(sampling, setting, kernels, dtype),
                )
    if setting.device != 'cpu':
        yield 'NCCL, one rank', functools.partial(one_rank, setting)


def gradients(
    setting: Setting, kernels: str, bf16: bool, count: int, side: tuple[int, int],
    stage: str = 'coarse',
) -> Mapping[str, Any]:  # fmt: skip
    """Relative errors of a stage's loss, of all its gradients together, and of the worst one's.

    The gradients are those of the second of two iterations, which replays what the first recorded.
    """
    batch = batch_of(setting, count, side)
    with tf32(False):
        expected = _gradients(setting, 'plain', False, batch, stage)
        found = _gradients(setting, kernels, bf16, batch, stage)
    worst = max(_error(found[k], expected[k]) for k in expected if k != 'loss')
    together = _error(
        *(torch.cat([v.flatten() for k, v in g.items() if k != 'loss']) for g in (found, expected))
    )
    return {
        'loss_error': _error(found['loss'], expected['loss']),
        'gradient_error': together,
        'worst_parameter_error': worst,
    }


def _gradients(
    setting: Setting, kernels: str, bf16: bool, batch: tuple[Tensor, ...], stage: str = 'coarse'
) -> dict[str, Tensor]:
    network = network_of(setting, kernels)
    module = stage_of(network, stage, bf16=bf16)
    for _ in range(2):
        network.zero_grad(set_to_none=True)
        loss = torch.stack(list(module(*batch).values())).sum()
        loss.backward()
    gradients = {n: p.grad.double() for n, p in network.named_parameters() if p.grad is not None}
    return {'loss': loss.detach().double(), **gradients}


def sampling(setting: Setting, kernels: str, dtype: str) -> Mapping[str, Any]:
    """Relative error of an image of odd size, sampled in four calls."""
    height, width = (13, 21) if setting.small else (123, 181)
    image = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(2)) * 2 - 1
    y = pad_to_multiple(image, 8).to(setting.device)
    eps = torch.randn(y.shape, generator=torch.Generator().manual_seed(3)).to(setting.device)
    process = DDPMProcess()

    def sample(network: nn.Module) -> Tensor:
        return process.sample(lambda x_t, t: network(torch.cat([y, x_t], dim=1), t), eps, y)

    with tf32(False), torch.no_grad():
        expected = sample(network_of(setting, 'plain'))
        network = network_of(setting, kernels)
        with network.inference_settings(dtype, kernels=kernels):  # type: ignore[operator]
            found, again = sample(network), sample(network)
    return {'sampling_error': _error(found, expected), 'repeatable': torch.equal(found, again)}


def one_rank(setting: Setting) -> Mapping[str, Any]:
    """Gradients under DistributedDataParallel with one rank by NCCL, against those without."""
    import os

    from torch import distributed

    from c2fdft_arch.common.distributed import wrap

    os.environ.update(MASTER_ADDR='127.0.0.1', MASTER_PORT='29533')
    distributed.init_process_group('nccl', rank=0, world_size=1)
    try:
        batch = batch_of(setting, 2, 64)
        network = network_of(setting, setting.kernels[-1])
        stage = wrap(stage_of(network, 'coarse', bf16=True), torch.device(setting.device), 1)
        stage(*batch)['l_noise'].backward()
        alone = _gradients(setting, setting.kernels[-1], True, batch)
        worst = max(_error(p.grad.double(), alone[n]) for n, p in network.named_parameters())
    finally:
        distributed.destroy_process_group()
    return {'worst_parameter_error': worst}


def _error(found: Tensor, expected: Tensor) -> float:
    difference = (found.double() - expected.double()).norm()
    return float(difference / expected.double().norm().clamp_min(1e-30))
