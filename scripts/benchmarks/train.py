"""Seconds per training iteration and peak memory of each setting, against the plain network.

An iteration is a forward and a backward pass, a step of AdamW and of the averaged weights, on
random images. `plain` is the same iteration with PlainDFT, the network as the paper draws it, layer
by layer, and with AdamW and the average as BasicSR computes them, parameter by parameter. Times are
taken in turns; on the CPU plain has a process of its own, with the memory allocator as BasicSR
leaves it. Memory is taken in a process per case: on the CPU the largest resident size of the whole
process, on a GPU the largest amount that PyTorch had allocated.
"""

import argparse
import copy
import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from pytorch_msssim import ssim
from torch import Tensor, nn

from benchmarks import Figures, fastest_in_turns, in_a_process
from c2fdft_arch.dft import DFT
from c2fdft_arch.network.plain_dft import PlainDFT
from c2fdft_model.diffusion.process import DDPMProcess
from c2fdft_model.experiments.costs import peak_memory, wait_for_gpu
from c2fdft_model.experiments.processes import new_process
from c2fdft_model.training.allocator import disable_malloc_trim
from c2fdft_model.training.ema import ModelEMA
from c2fdft_model.training.stages import CoarseStage, FineStage, Stage
from c2fdft_model.training.step import (
    accumulate_gradients,
    fused_if_possible,
    gradient_norm,
    step_if_finite,
)

# Batch sizes of options/derain_{coarse,fine}.yml by patch size.
FULL_BATCHES = {'coarse': {32: 360, 64: 96, 128: 24}, 'fine': {32: 96, 64: 24, 128: 6}}
SETTINGS: dict[str, dict[str, Any]] = {
    'plain': {},
    'default': {},
    'checkpoint_steps': {'steps': True},
    'checkpoint_blocks': {'blocks': True},
    'grad_steps_1': {'grad_steps': 1},
    'accumulate_4': {'parts': 4},
    'bf16': {'bf16': True},
    'bf16_checkpoint_blocks': {'bf16': True, 'blocks': True},
    'compile': {'compiled': True},
}
FINE_ONLY = ('checkpoint_steps', 'grad_steps_1')
USUAL = [name for name in SETTINGS if name != 'compile']
EMA_DECAY = 0.999


@dataclass(frozen=True)
class Case:
    """One cell of the table."""

    stage: str
    patch: int
    batch: int
    setting: str
    device: str = 'cpu'
    dim: int = 48


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `benchmark.py train`."""
    add = parser.add_argument
    add('--stages', nargs='+', choices=FULL_BATCHES, default=list(FULL_BATCHES))
    add('--phases', nargs='+', type=int, default=[32, 64, 128], metavar='PATCH')
    add(
        '--settings', nargs='+', choices=SETTINGS, default=USUAL,
        help=f'default: all but compile, which takes minutes. {", ".join(FINE_ONLY)}: fine only',
    )  # fmt: skip
    add(
        '--batch', default='small',
        help='small: as many images as 128 x 128 pixels hold (default); full: those of the '
        'deraining options, for a large GPU; or a number',
    )  # fmt: skip
    add(
        '--no-plain', action='store_true',
        help='leave the plain network out, for batches that only fit with a setting',
    )  # fmt: skip
    add('--repeat', type=int, default=5, help='timed iterations (the fastest)')
    add('--device', default='cpu', help='cpu or cuda')
    add('--dim', type=int, default=48, help="the network's dim; 48 is full size")


def run(arguments: argparse.Namespace) -> Figures:
    """Measure every case and print it; a failure if one did not run."""
    rows: list[dict[str, Any]] = []
    for stage in arguments.stages:
        for patch in arguments.phases:
            rows += _measure_phase(arguments, stage, patch)
    return {'cases': rows}, all(row['seconds'] is not None for row in rows)


def _measure_phase(arguments: argparse.Namespace, stage: str, patch: int) -> list[dict[str, Any]]:
    batch = _batch_size(arguments.batch, stage, patch)
    names = [name for name in arguments.settings if name != 'plain']
    if not arguments.no_plain:
        names.insert(0, 'plain')
    cases = [
        Case(stage, patch, batch, name, arguments.device, arguments.dim)
        for name in names
        if stage == 'fine' or name not in FINE_ONLY
    ]
    times = _times(cases, arguments.repeat)
    rows: list[dict[str, Any]] = []
    for case in cases:
        row = {
            'stage': stage,
            'patch': patch,
            'batch': batch,
            'setting': case.setting,
            'seconds': times.get(case.setting),
            'plain_seconds': times.get('plain'),
            'peak_memory_mb': in_a_process(_peak_memory_mb, case),
        }
        rows.append(row)
        print(_line(row, rows[0]['peak_memory_mb']), flush=True)
    return rows


def _batch_size(given: str, stage: str, patch: int) -> int:
    if given == 'full':
        return FULL_BATCHES[stage].get(patch) or max(1, 24 * 128**2 // patch**2)
    return max(1, 128**2 // patch**2) if given == 'small' else int(given)


def _times(cases: list[Case], repeat: int) -> dict[str, float]:
    """Seconds of each case's fastest iteration; a case that did not run is left out."""
    with new_process() as for_plain, new_process() as for_others:

        def turn(case: Case) -> None:
            alone = case.setting == 'plain' and case.device == 'cpu'
            (for_plain if alone else for_others).submit(_iterate, case).result()

        return fastest_in_turns({c.setting: functools.partial(turn, c) for c in cases}, repeat)


def _line(row: dict[str, Any], plain_memory_mb: float | None) -> str:
    head = f'{row["stage"]:<6} {row["batch"]:>3} x {row["patch"]:>3}^2  {row["setting"]:<23}'
    if row['seconds'] is None or row['peak_memory_mb'] is None:
        return f'{head} did not run (out of memory?)'
    text = f'{head} {row["seconds"]:8.3f} s {row["peak_memory_mb"]:8.0f} MB'
    if row['setting'] == 'plain' or not row['plain_seconds'] or not plain_memory_mb:
        return text
    return (
        f'{text}   time x {row["seconds"] / row["plain_seconds"]:.2f}'
        f' (speed-up {row["plain_seconds"] / row["seconds"]:.2f})'
        f'   memory x {row["peak_memory_mb"] / plain_memory_mb:.2f}'
    )


def _peak_memory_mb(case: Case) -> float:
    """Peak memory of two iterations in MiB; called in a process of its own."""
    for _ in range(2):
        _iterate(case)
    return peak_memory(case.device) / 2**20


def _iterate(case: Case) -> None:
    _iteration(case)()
    wait_for_gpu()


@functools.cache
def _iteration(case: Case) -> Callable[[], None]:
    kind = 'plain' if case.setting == 'plain' else 'default'
    return _trainer(replace(case, setting=kind)).iteration(case.setting)


class _Trainer:
    """A network of a case's kind (plain or not) with its optimiser, average and batch."""

    def __init__(self, case: Case) -> None:
        torch.manual_seed(0)
        self.case = case
        self.network = (PlainDFT if case.setting == 'plain' else DFT)(dim=case.dim)
        self.network.to(case.device)
        if case.device == 'cpu' and case.setting != 'plain':
            disable_malloc_trim()  # as C2FDFTModel does
        self.averaged = copy.deepcopy(self.network)
        self.average = ModelEMA(self.averaged, self.network, EMA_DECAY)
        self.parameters = list(self.network.parameters())
        if case.setting == 'plain':
            self.optimizer = torch.optim.AdamW(self.parameters, lr=1e-5)
        else:
            self.optimizer = fused_if_possible(torch.optim.AdamW, self.parameters, lr=1e-5)
        size = (case.batch, 3, case.patch, case.patch)
        self.batch = (
            torch.rand(size, device=case.device),
            torch.rand(size, device=case.device),
            torch.randn(size, device=case.device),
            torch.arange(case.batch, device=case.device) * 7 % 1000,
        )

    def iteration(self, name: str) -> Callable[[], None]:
        """One iteration with a setting, as a function."""
        setting = SETTINGS[name]
        stage = stage_of(
            self.network,
            self.case.stage,
            grad_steps=setting.get('grad_steps'),
            checkpoint=setting.get('steps', False),
            bf16=setting.get('bf16', False),
            compiled=setting.get('compiled', False),
        )
        never = torch.zeros((), device=self.case.device)

        def iterate() -> None:
            self.network.checkpoint_blocks = setting.get('blocks', False)
            self.optimizer.zero_grad(set_to_none=True)
            accumulate_gradients(stage, self.batch, setting.get('parts', 1))
            if name == 'plain':
                self._step_as_basicsr()
            else:
                gradient_norm(self.parameters)
                step_if_finite(never, self.optimizer, self.average, 1)

        return iterate

    def _step_as_basicsr(self) -> None:
        self.optimizer.step()
        current = dict(self.network.named_parameters())
        for name, average in self.averaged.named_parameters():
            average.data.mul_(EMA_DECAY).add_(current[name].data, alpha=1 - EMA_DECAY)


_trainer = functools.cache(_Trainer)


def stage_of(
    network: nn.Module,
    stage: str,
    grad_steps: int | None = None,
    checkpoint: bool = False,
    **settings: bool,
) -> Stage:
    """A stage with the losses of the deraining options."""
    if stage == 'coarse':
        return CoarseStage(network, DDPMProcess(), nn.L1Loss(), **settings)
    signed, unit = {'l_pix': nn.L1Loss()}, {'l_ssim': _ssim_loss}
    return FineStage(network, DDPMProcess(), signed, unit, grad_steps, checkpoint, **settings)


def _ssim_loss(restored: Tensor, gt: Tensor) -> Tensor:
    return 0.84 * (1 - ssim(restored, gt, data_range=1.0))
