"""What the log says of a training: the lines at its start, and the values of each line after."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from c2fdft_model.data.dataset_options import parse_cycle
from c2fdft_model.data.epoch_length import epoch_samples, replicas


class LogValue(float):
    """A float that is formatted as `text`, whatever the format.

    BasicSR's MessageLogger writes every value of a line as `{value:.4e}`, which does not suit
    counts and names, and gives the same value to TensorBoard.
    """

    text: str

    def __new__(cls, value: float, text: str | None = None) -> LogValue:
        number = super().__new__(cls, value)
        number.text = f'{value:g}' if text is None else text
        return number

    def __format__(self, spec: str) -> str:
        return self.text


class Throughput:
    """Images per second of training between two readings, time spent on other things left out."""

    def __init__(self) -> None:
        self._images = 0
        self._since: float | None = None

    def add(self, images: int) -> None:
        """Count the images of an iteration that begins."""
        if self._since is None:
            self._since = time.perf_counter()
        self._images += images

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Leave out the time spent in this context: validation, saving."""
        began = time.perf_counter()
        yield
        if self._since is not None:
            self._since += time.perf_counter() - began

    def read(self) -> float:
        """The rate since the last reading."""
        now = time.perf_counter()
        seconds = 0.0 if self._since is None else now - self._since
        rate = self._images / seconds if seconds > 0 else 0.0
        self._images, self._since = 0, now
        return rate


class TrainingLog:
    """Composes the log of a training, given BasicSR's options."""

    def __init__(self, opt: Mapping[str, Any]) -> None:
        self.throughput = Throughput()
        self._data = opt['datasets']['train']
        self._cycle = parse_cycle(self._data)
        self._world_size = int(opt['world_size'])
        self._replicas = replicas(opt)

    def epoch_of(self, iteration: int) -> int | None:
        """The epoch of an iteration, from 0, in a run that was never interrupted.

        BasicSR begins an epoch anew on resuming. None for data whose size the options do not tell.
        """
        if self._cycle is None:
            return None
        batch = int(self._data['batch_size_per_gpu'])
        ratio = int(self._data.get('dataset_enlarge_ratio') or 1)
        samples = epoch_samples(batch, self._world_size, ratio) * ratio
        iterations = samples // (batch * self._world_size) // self._replicas
        return (iteration - 1) // max(1, iterations)

    def schedule_lines(self, accumulate: int) -> list[str]:
        """The phases and the effective batch of each, for the start of the log."""
        cycle = self._cycle
        if cycle is None:
            batch = self._data.get('batch_size_per_gpu')
            if batch is None:
                return []
            size = self._data.get('gt_size', 'as loaded')
            return [f'Patches {size}; {self._batch(int(batch), accumulate)}.']
        lines = [f'Schedule of {len(cycle.iters)} phases, repeated to the end:']
        phases = zip(cycle.iters, cycle.patch_sizes, cycle.batch_sizes, strict=True)
        for number, (iters, size, batch) in enumerate(phases, start=1):
            phase = f'  phase {number}: {iters:,} iterations of {size} x {size}'
            lines.append(f'{phase}, {self._batch(batch, accumulate)}')
        return lines

    def _batch(self, per_worker: int, accumulate: int) -> str:
        workers = self._world_size * self._replicas
        text = f'effective batch {per_worker * workers} = {per_worker} x {workers} process'
        text += 'es' if workers > 1 else ''
        parts = min(accumulate, per_worker)
        if parts > 1:
            text += f', each computed in {parts} parts of up to {-(-per_worker // parts)}'
        return text

    def line(
        self,
        losses: Mapping[str, float],
        iteration: int,
        batch_shape: Sequence[int],
        lr: float,
        skipped: int,
    ) -> dict[str, float]:
        """The values of a log line after BasicSR's own (epoch, iteration, lr, times).

        `losses`: the loss terms and `grad_norm`; `batch_shape`: (B, C, H, W) of this process;
        `skipped`: iterations so far that were not finite.
        """
        batch_size, _, height, width = batch_shape
        index = 0 if self._cycle is None else self._cycle.phase_index(iteration)
        phases = 1 if self._cycle is None else len(self._cycle.iters)
        phase = f'{index + 1}/{phases} ({height} x {width}, batch {batch_size})'
        rate = self.throughput.read() * self._world_size
        epoch = self.epoch_of(iteration)
        return {
            # Takes the place of BasicSR's, which counts anew from where a run was resumed.
            **({} if epoch is None else {'epoch': epoch}),
            'phase': LogValue(index + 1, phase),
            **losses,
            'images_per_second': LogValue(rate, f'{rate:.2f}'),
            'patch_size': LogValue(height),
            'batch_size': LogValue(batch_size),
            'lr': LogValue(lr, f'{lr:.3e}'),
            **({'skipped_iterations': LogValue(skipped)} if skipped else {}),
        }
