"""Carrying out restoration jobs: files, comparisons, metrics, and what became of each job."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from tqdm import tqdm

from c2fdft_arch.common.messages import one_line, shortened
from c2fdft_arch.inference.memory_plan import MemoryBudgetError
from c2fdft_model.evaluation.image_protocols import Protocol, format_metrics
from c2fdft_model.images.image_files import (
    ImageRecord,
    check_writable,
    is_lossy,
    quantised,
    read_image,
    write_image,
)
from c2fdft_model.restoring.comparison import GroundTruthIndex, measure, side_by_side
from c2fdft_model.restoring.restore_jobs import RestoreJob
from c2fdft_model.restoring.restorer import Restorer

EXPECTED_ERRORS = (ValueError, OSError, MemoryError)
"""What a user's file or setting can cause; anything else is a fault and shows where it is."""


@dataclass
class Outcomes:
    """What became of the jobs."""

    seconds: list[float] = field(default_factory=list)
    """Of each image that was restored."""
    skipped: int = 0
    failures: list[str] = field(default_factory=list)
    metrics: list[dict[str, float]] = field(default_factory=list)
    measured_lossy: int = 0
    """Images whose metrics are those of a JPEG or WebP file that was there already."""

    def seconds_per_image(self) -> str:
        """The mean, as in `1.5 s per image`; empty before the first image."""
        count = len(self.seconds)
        return f'{sum(self.seconds) / count:.1f} s per image' if count else ''

    def report(self, protocol: Protocol) -> str:
        """What was done and measured, without the failures' texts."""
        mean = f' ({self.seconds_per_image()})' if self.seconds else ''
        line = f'{len(self.seconds)} restored{mean}'
        if self.skipped:
            line += f', {self.skipped} there already (--overwrite restores them again)'
        lines = [f'{line}, {len(self.failures)} failed']
        if count := len(self.metrics):
            means = {name: sum(m[name] for m in self.metrics) / count for name in protocol.metrics}
            lines.append(f'{protocol.name}  {format_metrics(means)}  (mean of {count})')
            lines.append(f'{protocol.name}: {protocol.description}')
        if self.measured_lossy:
            lines.append(
                'measured with the loss of JPEG or WebP, since there already: '
                f'{self.measured_lossy}'
            )
        return '\n'.join(lines)


@dataclass
class JobRunner:
    """Carries out jobs one after another; a file that cannot be restored does not stop the rest."""

    restorer: Restorer
    protocol: Protocol
    gt: GroundTruthIndex | None = None
    """Where the ground truth is, if results are to be measured."""
    overwrite: bool = False
    """Restore also what is there already."""
    compare: bool = False
    """Write comparisons of the degraded and the restored image."""
    quality: int = 95
    """Of JPEG and WebP, 1 to 100."""
    outcomes: Outcomes = field(default_factory=Outcomes)

    def run(self, jobs: Sequence[RestoreJob]) -> None:
        """Do every job, with a progress bar and a line for each; `outcomes` says what happened."""
        progress = _Progress(len(jobs), self.restorer.calls)
        with progress.bar:
            for job in jobs:
                progress.start(job.source.name, self.outcomes.seconds_per_image())
                try:
                    line = self._run_job(job, progress.step)
                except EXPECTED_ERRORS as error:
                    failure = _failure(job, error)
                    self.outcomes.failures.append(failure)
                    line = f'failed: {failure}'
                progress.finish(line)

    def _run_job(self, job: RestoreJob, step: Callable[[], object]) -> str:
        """Restore one image unless it is there, compare and measure it; returns what to print."""
        there = job.target.exists() and not self.overwrite
        compare = self.compare and not (there and job.comparison.exists())
        self.outcomes.skipped += there
        degraded = read_image(job.source) if compare or not there else None
        result: np.ndarray | None = None
        if degraded is not None and not there:
            line, result = self._restore(job, degraded, step)
        else:
            line = f'{job.target} is there already'
            if self.gt or compare:
                result = read_image(job.target).colour
        gt = read_image(self.gt.find(job.relative)).colour if self.gt else None
        if compare and degraded is not None:
            images = [image for image in (degraded.colour, result, gt) if image is not None]
            write_image(job.comparison, ImageRecord(side_by_side(images)))
        if result is not None and gt is not None:
            metrics = measure(self.protocol, result, gt)
            self.outcomes.metrics.append(metrics)
            self.outcomes.measured_lossy += there and is_lossy(job.target, self.quality)
            line += f'  {format_metrics(metrics)}'
        return line

    def _restore(
        self, job: RestoreJob, degraded: ImageRecord, step: Callable[[], object]
    ) -> tuple[str, np.ndarray]:
        """What to print, and the restored image (H, W, 3) as rounded for the file."""
        check_writable(job.target, degraded)
        started = time.perf_counter()
        restored = self.restorer(degraded, job.name, step)
        lost = write_image(job.target, restored, self.quality)
        seconds = time.perf_counter() - started
        self.outcomes.seconds.append(seconds)
        height, width = degraded.colour.shape[:2]
        line = f'{job.source} -> {job.target}  {width} x {height}, {seconds:.1f} s'
        if degraded.frames > 1:
            line += f' (the first of {degraded.frames} pictures)'
        if lost:
            names = shortened(list(dict.fromkeys(lost)), shown=5)
            tqdm.write(f'warning: {job.target}: without {names}', file=sys.stderr)
        return line, quantised(restored, job.target)


class _Progress:
    """A bar with one tick per network call, the seconds per image and what remains."""

    LAYOUT = '{desc} {percentage:3.0f}% |{bar}| {elapsed}, {remaining} remain{postfix}'

    def __init__(self, images: int, calls: int) -> None:
        self.images, self.calls = images, calls
        self.started = 0
        self.bar = tqdm(total=images * calls, bar_format=self.LAYOUT, disable=None)

    def start(self, name: str, rate: str) -> None:
        self.started += 1
        self.bar.set_description_str(f'image {self.started}/{self.images}', refresh=False)
        self.bar.set_postfix_str(f'{rate}, {name}' if rate else name)

    def step(self) -> None:
        self.bar.update(1)

    def finish(self, line: str) -> None:
        """Fill up to the end of the image, which may have been skipped, and tell about it."""
        self.bar.update(self.started * self.calls - self.bar.n)
        tqdm.write(line)


def _failure(job: RestoreJob, error: BaseException) -> str:
    text = one_line(error)
    if isinstance(error, MemoryBudgetError):
        text = f'{error.need}: give --memory-budget {error.least_mb} or more, or a smaller --tile'
    if isinstance(error, MemoryError):
        text = f'not enough memory: {text}; give --tile 1024, or a smaller tile'
    return text if str(job.source) in text or str(job.target) in text else f'{job.source}: {text}'
