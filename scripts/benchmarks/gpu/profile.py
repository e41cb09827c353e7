"""Where the time goes: the ten kernels that take longest, of an iteration and of a call."""

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.gpu.lines import Setting, Step
from benchmarks.gpu.subjects import Trainer, batch_of, network_of, synchronize, tf32

ROWS = 10


def steps(setting: Setting) -> Iterator[tuple[str, Step]]:
    """Training and restoring by every way of computing, the last one first."""
    for kernels in reversed(setting.kernels):
        yield f'call {kernels} bf16', functools.partial(call, setting, kernels)
        yield f'iteration {kernels} bf16', functools.partial(iteration, setting, kernels)


def call(setting: Setting, kernels: str) -> Mapping[str, Any]:
    """One network call of a restoration."""
    side = 16 if setting.small else 512
    network = network_of(setting, kernels).eval()
    x = torch.randn(1, 6, side, side, device=setting.device)
    t = torch.zeros(1, device=setting.device)
    with torch.no_grad(), network.inference_settings('bf16', kernels=kernels):
        return table(setting, lambda: network(x, t))


def iteration(setting: Setting, kernels: str) -> Mapping[str, Any]:
    """One coarse training iteration."""
    side, count = (8, 2) if setting.small else (64, 96)
    trainer = Trainer(setting, kernels, 'coarse', True)
    batch = batch_of(setting, count, side)
    return table(setting, lambda: trainer.iterate(batch))


def table(setting: Setting, work: Callable[[], object]) -> Mapping[str, Any]:
    """Milliseconds and calls of the operations that take longest."""
    activities = [ProfilerActivity.CPU if setting.small else ProfilerActivity.CUDA]
    with tf32(True):
        for _ in range(2):
            work()
        with profile(activities=activities) as profiler:
            work()
            synchronize(setting)
    own = 'self_cpu_time_total' if setting.small else 'self_device_time_total'
    events = sorted(profiler.key_averages(), key=lambda e: -getattr(e, own))
    total = sum(getattr(event, own) for event in events)
    return {
        'total_ms': total / 1e3,
        'largest': [[e.key[:90], e.count, getattr(e, own) / 1e3] for e in events[:ROWS]],
    }
