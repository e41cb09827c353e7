"""Training iterations at the three phases of derain, coarse and fine, with the paper's batches."""

import functools
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from benchmarks.gpu.lines import Setting, Step
from benchmarks.gpu.subjects import Trainer, batch_of, peak_gib, seconds, tf32
from benchmarks.train import FULL_BATCHES


def steps(setting: Setting) -> Iterator[tuple[str, Step]]:
    """One line for each way of computing, stage and phase; 64 x 64 first."""
    ways = [('plain', False), ('plain', True), *((kernels, True) for kernels in setting.kernels)]
    cases = [
        (stage, 8 if setting.small else side, 2 if setting.small else count)
        for stage, sides in FULL_BATCHES.items()
        for side, count in list(sides.items())[: 1 if setting.small else None]
    ]
    for stage, side, count in sorted(cases, key=lambda case: (case[1] != 64, case[0])):
        for kernels, bf16 in ways:
            name = f'{stage} {side} x {side} x {count} {kernels} {"bf16" if bf16 else "fp32"}'
            yield name, functools.partial(iteration, setting, stage, side, count, kernels, bf16)
    for kernels in setting.kernels:
        yield f'deterministic {kernels} bf16', functools.partial(deterministic, setting, kernels)
    if setting.device != 'cpu':
        for kernels in setting.kernels:
            yield (
                f'64 x 64 x 96 {kernels} bf16, without CUDA graphs',
                functools.partial(iteration, setting, 'coarse', 64, 96, kernels, True, False),
            )


def iteration(
    setting: Setting, stage: str, side: int, count: int, kernels: str, bf16: bool,
    graphs: bool = True,
) -> Mapping[str, Any]:  # fmt: skip
    """Seconds and peak memory; with half the batch where the memory does not suffice."""
    while True:
        try:
            with tf32(True):
                return measured(setting, stage, side, count, kernels, bf16, graphs)
        except torch.cuda.OutOfMemoryError:
            if count == 1:
                raise
            count //= 2
        finally:
            if setting.device != 'cpu':
                torch.cuda.empty_cache()


def measured(
    setting: Setting, stage: str, side: int, count: int, kernels: str, bf16: bool, graphs: bool
) -> Mapping[str, Any]:
    """Seconds and peak memory with a batch of so many images."""
    trainer = Trainer(setting, kernels, stage, bf16)
    trainer.network.cuda_graphs = graphs and stage == 'coarse'  # as `train: cuda_graphs: auto`
    batch = batch_of(setting, count, side)
    iterate = functools.partial(trainer.iterate, batch)
    memory = peak_gib(setting, iterate)
    time = seconds(setting, iterate, repeat=3, warm=1)
    return {
        'batch': count,
        'seconds': time,
        'images_per_second': count / time,
        'peak_gib': memory,
    }


def deterministic(setting: Setting, kernels: str) -> Mapping[str, Any]:
    """What deterministic algorithms cost, and whether two trainings come to the same bits."""
    side, count = (8, 2) if setting.small else (64, 24)
    batch = batch_of(setting, count, side)

    def train() -> tuple[float, list[torch.Tensor]]:
        trainer = Trainer(setting, kernels, 'coarse', True)
        for _ in range(2):
            trainer.iterate(batch)
        weights = [parameter.detach().clone() for parameter in trainer.parameters]
        return seconds(setting, lambda: trainer.iterate(batch), repeat=3, warm=0), weights

    with tf32(True):
        usual, first = train()
        _, second = train()
        torch.use_deterministic_algorithms(True)
        try:
            exact, third = train()
            _, fourth = train()
        finally:
            torch.use_deterministic_algorithms(False)
    return {
        'seconds': usual,
        'deterministic_seconds': exact,
        'equal': all(map(torch.equal, first, second)),
        'deterministic_equal': all(map(torch.equal, third, fourth)),
    }
