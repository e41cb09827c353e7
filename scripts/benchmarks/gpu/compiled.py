"""torch.compile of the plain network: last, since compiling takes minutes."""

import functools
import time
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from benchmarks.gpu.lines import Setting, Step
from benchmarks.gpu.subjects import Trainer, batch_of, network_of, peak_gib, seconds, tf32


def steps(setting: Setting) -> Iterator[tuple[str, Step]]:
    """A call and a coarse iteration."""
    if setting.small:
        return
    yield 'call 512 x 512 bf16', functools.partial(call, setting, None)
    yield (
        'call 512 x 512 bf16, reduce-overhead',
        functools.partial(call, setting, 'reduce-overhead'),
    )
    yield 'iteration 64 x 64 x 96 bf16', functools.partial(iteration, setting)
    yield 'call 512 x 512 bf16, max-autotune', functools.partial(call, setting, 'max-autotune')


@torch.no_grad()
def call(setting: Setting, mode: str | None) -> Mapping[str, Any]:
    """One network call of a restoration."""
    network = network_of(setting, 'plain').eval()
    compiled = torch.compile(network, dynamic=False, mode=mode)
    x, t = torch.randn(1, 6, 512, 512, device=setting.device), torch.zeros(1, device=setting.device)
    with tf32(True), torch.autocast(x.device.type, torch.bfloat16):
        began = time.time()
        compiled(x, t)
        compiling = time.time() - began
        return {
            'compiling_seconds': compiling,
            'seconds': seconds(setting, lambda: compiled(x, t), repeat=10),
        }


def iteration(setting: Setting) -> Mapping[str, Any]:
    """One coarse iteration."""
    with tf32(True):
        trainer = Trainer(setting, 'plain', 'coarse', True, compiled=True)
        batch = batch_of(setting, 96, 64)
        began = time.time()
        trainer.iterate(batch)
        compiling = time.time() - began
        return {
            'compiling_seconds': compiling,
            'seconds': seconds(setting, lambda: trainer.iterate(batch), repeat=3),
            'peak_gib': peak_gib(setting, lambda: trainer.iterate(batch)),
        }
