"""Carrying out restoration jobs: files, comparisons, metrics, and what became of each job."""

import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

import numpy as np
from tqdm import tqdm

from c2fdft_arch.common.messages import one_line, printable, shortened
from c2fdft_arch.inference.memory_plan import MemoryBudgetError
from c2fdft_model.evaluation.ground_truth import GroundTruthIndex
from c2fdft_model.evaluation.image_protocols import Protocol, format_metrics
from c2fdft_model.images.image_files import (
    ImageRecord,
    check_writable,
    is_lossy,
    quantised,
    read_image,
    write_image,
)
from c2fdft_model.images.image_io import NOT_READ_SUFFIXES
from c2fdft_model.restoring.comparison import measure, side_by_side
from c2fdft_model.restoring.restore_jobs import RestoreJob
from c2fdft_model.restoring.restorer import Restorer
from c2fdft_model.restoring.results_record import ResultsRecord

EXPECTED_ERRORS = (ValueError, OSError, MemoryError)
"""What a user's file or setting can cause; anything else is a fault and shows where it is."""

BAR = '{desc} {percentage:3.0f}% |{bar}| {elapsed}, {remaining} remain{postfix}'


@dataclass
class Outcomes:
    """What became of the jobs."""

    seconds: list[float] = field(default_factory=list)
    """Of each image that was restored."""
    skipped: int = 0
    failures: list[str] = field(default_factory=list)
    incomplete: list[str] = field(default_factory=list)
    """Of images that are restored, why they were not measured or compared."""
    metrics: list[dict[str, float]] = field(default_factory=list)
    reduced: int = 0
    """Results without something that belongs to their source."""
    left_out: list[str] = field(default_factory=list)
    """Files in the folders that were given which are not read."""
    measured_lossy: int = 0
    """Images whose metrics are those of a JPEG or WebP file that was there already."""

    @property
    def all_is_done(self) -> bool:
        """Whether every image was restored with all that belongs to it."""
        is_image = any(name.lower().endswith(NOT_READ_SUFFIXES) for name in self.left_out)
        return not (self.failures or self.incomplete or self.reduced or is_image)

    @staticmethod
    def merged(parts: 'Sequence[Outcomes]') -> 'Outcomes':
        """What became of the jobs of several processes."""
        merged = Outcomes()
        for part in parts:
            for f in fields(Outcomes):
                setattr(merged, f.name, getattr(merged, f.name) + getattr(part, f.name))
        return merged

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
        line += f', {len(self.failures)} failed'
        if self.incomplete:
            line += f'; {len(self.incomplete)} of the restored not measured or compared'
        if self.reduced:
            line += f'; {self.reduced} without all that belongs to their source (see the warnings)'
        lines = [line]
        if self.left_out:
            kinds = Counter(Path(name).suffix.lower() or 'without ending' for name in self.left_out)
            counts = ', '.join(f'{count} {kind}' for kind, count in sorted(kinds.items()))
            names = printable(shortened(self.left_out))
            lines.append(f'left out, since such files are not read: {counts} ({names})')
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
    """Restore also what has a result already."""
    compare: bool = False
    """Write comparisons of the degraded and the restored image."""
    quality: int = 95
    """Of JPEG and WebP, 1 to 100."""
    record: ResultsRecord | None = None
    """Where what made the results is noted."""
    outcomes: Outcomes = field(default_factory=Outcomes)

    def run(self, jobs: Sequence[RestoreJob], show_progress: bool = True) -> None:
        """Do every job; `outcomes` says what became of it.

        Prints a line for each image, and shows a bar with a tick for each network call, the
        seconds per image and what remains.
        """
        calls = self.restorer.calls
        if any(self.overwrite or not job.target.exists() for job in jobs):
            self.restorer.warm_up()
        hidden = None if show_progress else True  # None: where there is no terminal
        with tqdm(total=len(jobs) * calls, bar_format=BAR, disable=hidden) as bar:
            for number, job in enumerate(jobs, 1):
                bar.set_description_str(f'image {number}/{len(jobs)}', refresh=False)
                rate = self.outcomes.seconds_per_image()
                bar.set_postfix_str(f'{rate}, {job.source.name}' if rate else job.source.name)
                try:
                    line = self._run_job(job, bar.update)
                except EXPECTED_ERRORS as error:
                    failure = _failure(job, error)
                    self.outcomes.failures.append(failure)
                    line = f'failed: {failure}'
                # up to the end of the image, which may have been skipped
                bar.update(number * calls - bar.n)
                tqdm.write(printable(line))

    def _run_job(self, job: RestoreJob, step: Callable[[], object]) -> str:
        """Restore one image unless its result exists, compare, measure; returns what to print."""
        exists = job.target.exists() and not self.overwrite
        compare = self.compare and not (exists and job.comparison.exists())
        degraded = read_image(job.source) if compare or not exists else None
        result: np.ndarray | None = None
        if degraded is not None and not exists:
            line, result = self._restore(job, degraded, step)
        else:
            line = f'{job.target} is there already'
            if self.gt or compare:
                result = read_image(job.target).colour
        self.outcomes.skipped += exists
        if result is None:
            return line
        try:
            return line + self._examine(job, degraded if compare else None, result, exists)
        except EXPECTED_ERRORS as error:
            self.outcomes.incomplete.append(_failure(job, error))
            return f'{line}  not measured: {self.outcomes.incomplete[-1]}'

    def _examine(
        self, job: RestoreJob, degraded: ImageRecord | None, result: np.ndarray, exists: bool
    ) -> str:
        """Measure a result, and compare it with the degraded image if that is given."""
        gt, problem = None, None
        try:
            gt = read_image(self.gt.find(job.relative.as_posix())).colour if self.gt else None
        except EXPECTED_ERRORS as error:
            problem = error
        if degraded is not None:
            images = [image for image in (degraded.colour, result, gt) if image is not None]
            write_image(job.comparison, ImageRecord(side_by_side(images)))
        if problem is not None:
            raise problem
        if gt is None:
            return ''
        metrics = measure(self.protocol, result, gt)
        self.outcomes.metrics.append(metrics)
        self.outcomes.measured_lossy += exists and is_lossy(job.target, self.quality)
        return f'  {format_metrics(metrics)}'

    def _restore(
        self, job: RestoreJob, degraded: ImageRecord, step: Callable[[], object]
    ) -> tuple[str, np.ndarray]:
        """What to print, and the restored image (H, W, 3) as rounded for the file."""
        check_writable(job.target, degraded)
        started = time.perf_counter()
        restored = self.restorer(degraded, job.name, step)
        lost = write_image(job.target, restored, self.quality)
        if self.record:
            self.record.add(job)
        seconds = time.perf_counter() - started
        self.outcomes.seconds.append(seconds)
        height, width = degraded.colour.shape[:2]
        line = f'{job.source} -> {job.target}  {width} x {height}, {seconds:.1f} s'
        if lost:
            self.outcomes.reduced += 1
            names = shortened(lost, shown=8)
            tqdm.write(printable(f'warning: {job.target}: without {names}'), file=sys.stderr)
        return line, quantised(restored, job.target)


def _failure(job: RestoreJob, error: BaseException) -> str:
    text = one_line(error)
    if isinstance(error, MemoryBudgetError):
        text = f'{error.need}: give --memory-budget {error.least_mb} or more, or a smaller --tile'
    if isinstance(error, MemoryError):
        text = f'not enough memory: {text}; give --tile 1024, or a smaller tile'
    named = any(printable(path) in printable(text) for path in (job.source, job.target))
    return text if named else f'{job.source}: {text}'
