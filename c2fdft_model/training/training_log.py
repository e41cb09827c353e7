"""What the log says of a training: the lines at its start, and the numbers of each line after."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

from c2fdft_model.data.dataset_options import parse_cycle
from c2fdft_model.data.epoch_length import epoch_samples


class Shown(float):
    """A number for TensorBoard that the console line shows as `text`.

    BasicSR writes every value of a line as `{value:.4e}`, which does not suit counts and names.
    """

    text: str

    def __new__(cls, value: float, text: str | None = None) -> Shown:
        shown = super().__new__(cls, value)
        shown.text = f'{value:g}' if text is None else text
        return shown

    def __format__(self, spec: str) -> str:
        return self.text

    def __reduce__(self) -> tuple:
        return Shown, (float(self), self.text)


class Throughput:
    """Images per second of training between two readings, time spent on other things left out."""

    def __init__(self) -> None:
        self._images = 0
        self._since: float | None = None
        self._paused = 0.0
        self._pause_began: float | None = None

    def add(self, images: int) -> None:
        """An iteration with so many images begins."""
        if self._since is None:
            self._since = time.perf_counter()
        self._images += images

    def pause(self) -> None:
        """Validation or saving begins."""
        self._pause_began = time.perf_counter()

    def go_on(self) -> None:
        """It has ended."""
        if self._pause_began is not None:
            self._paused += time.perf_counter() - self._pause_began
        self._pause_began = None

    def read(self) -> float:
        """The rate since the last reading."""
        now = time.perf_counter()
        seconds = now - (now if self._since is None else self._since) - self._paused
        rate = self._images / seconds if seconds > 0 else 0.0
        self._images, self._since, self._paused = 0, now, 0.0
        return rate


def replicas_of(opt: Mapping[str, Any]) -> int:
    """GPUs that one process drives by itself (DataParallel)."""
    return 1 if opt.get('dist') else max(1, int(opt.get('num_gpu') or 0))


def epoch_of(opt: Mapping[str, Any], iteration: int) -> int | None:
    """The epoch that an iteration falls into, from 0, in a run that was never interrupted.

    BasicSR begins an epoch anew on resuming. None for data whose size the options do not tell.
    """
    data = opt['datasets']['train']
    if parse_cycle(data) is None:
        return None
    ratio = int(data.get('dataset_enlarge_ratio') or 1)
    per_iteration = int(data['batch_size_per_gpu']) * int(opt['world_size'])
    samples = epoch_samples(int(data['batch_size_per_gpu']), int(opt['world_size']), ratio) * ratio
    return (iteration - 1) // max(1, samples // per_iteration // replicas_of(opt))


def schedule_lines(opt: Mapping[str, Any], accumulate: int) -> list[str]:
    """The schedule of phases and the effective batch of each, for the start of the log."""
    data = opt['datasets']['train']
    cycle = parse_cycle(data)
    workers = int(opt['world_size']) * replicas_of(opt)
    if cycle is None:
        size, batch = data.get('gt_size', 'as loaded'), data.get('batch_size_per_gpu')
        if batch is None:
            return []
        return [f'Patches {size}; {_batch(int(batch), workers, accumulate)}.']
    lines = [f'Schedule of {len(cycle.iters)} phases, repeated to the end:']
    for number, (size, batch, iters) in enumerate(
        zip(cycle.patch_sizes, cycle.batch_sizes, cycle.iters, strict=True), start=1
    ):
        lines.append(
            f'  phase {number}: {iters:,} iterations of {size} x {size}, '
            f'{_batch(batch, workers, accumulate)}'
        )
    return lines


def _batch(per_worker: int, workers: int, accumulate: int) -> str:
    text = f'effective batch {per_worker * workers} = {per_worker} x {workers} process'
    text += 'es' if workers > 1 else ''
    parts = min(accumulate, per_worker)
    if parts > 1:
        text += f', each computed in {parts} parts of up to {-(-per_worker // parts)}'
    return text


def line_numbers(
    losses: Mapping[str, float],
    opt: Mapping[str, Any],
    iteration: int,
    batch_shape: Sequence[int],
    lr: float,
    images_per_second: float,
    skipped: int,
) -> OrderedDict[str, float]:
    """The numbers of a log line after BasicSR's own (epoch, iteration, lr, times).

    `losses`: the loss terms and `grad_norm`; `batch_shape`: (B, C, H, W) of this process.
    """
    batch_size, _, height, width = batch_shape
    cycle = parse_cycle(opt['datasets']['train'])
    index = 0 if cycle is None else cycle.phase_index(iteration)
    phases = 1 if cycle is None else len(cycle.iters)
    line: OrderedDict[str, float] = OrderedDict()
    epoch = epoch_of(opt, iteration)
    if epoch is not None:
        # Takes the place of BasicSR's, which counts anew from where a run was resumed.
        line['epoch'] = epoch
    line['phase'] = Shown(
        index + 1, f'{index + 1}/{phases} ({height} x {width}, batch {batch_size})'
    )
    line.update(losses)
    line['images_per_second'] = Shown(images_per_second, f'{images_per_second:.2f}')
    line['patch_size'] = Shown(height)
    line['batch_size'] = Shown(batch_size)
    line['lr'] = Shown(lr, f'{lr:.3e}')
    if skipped:
        line['skipped_iterations'] = Shown(skipped)
    return line
