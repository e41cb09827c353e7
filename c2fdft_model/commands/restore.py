"""Restores image files: a file, a folder with its subfolders, or a pattern.

    python scripts/restore.py photo.jpg restored.png --weights net_g_latest.pth
    python scripts/restore.py datasets/test/Rain100L/input results/Rain100L --weights W.pth \\
        --metrics datasets/test/Rain100L/target --protocol rain_y

Any size from 1 x 1; RGB or grey, 8 or 16 bits; alpha, EXIF data and colour profile are kept. A
result has the format of its source unless OUTPUT or --format say otherwise; --format png avoids
the loss of JPEG. What is there already is skipped. Ends with 0 if every image was restored, 1 if
some could not be, 2 if nothing could be started.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch
import yaml
from tqdm import tqdm

from c2fdft_arch.common.option_parsing import parse_section
from c2fdft_arch.inference.memory_plan import MemoryBudgetError
from c2fdft_arch.inference.settings import InferenceSettings
from c2fdft_model.diffusion.options import DiffusionOptions, build_process
from c2fdft_model.evaluation import UNITS, get_protocol
from c2fdft_model.images.image_files import (
    FORMATS,
    ImageRecord,
    check_writable,
    is_lossy,
    quantised,
    read_image,
    write_image,
)
from c2fdft_model.restoring.comparison import (
    GroundTruthIndex,
    image_protocols,
    measure,
    side_by_side,
)
from c2fdft_model.restoring.restoration import DEFAULT_TILE_OVERLAP
from c2fdft_model.restoring.restore_jobs import RestoreJob, find_jobs
from c2fdft_model.restoring.restorer import Restorer, RestorerSettings
from c2fdft_model.restoring.weights import WeightsError, build_network, read_checkpoint

EXPECTED = (ValueError, OSError, MemoryError)
"""What a user's file or setting can cause; anything else is a fault and shows where it is."""

METRICS_HELP = (
    'measure against the truths of this folder: the restored picture, rounded to 8 bits, before '
    'JPEG or WebP lose something of it; of results that are there already, what their files hold'
)


@dataclass
class Outcomes:
    """What became of the jobs."""

    seconds: list[float] = field(default_factory=list)
    skipped: int = 0
    failures: list[str] = field(default_factory=list)
    numbers: list[dict[str, float]] = field(default_factory=list)
    coded: int = 0
    """Numbers of files that are there already and in a lossy format."""

    def unreadable(self, error: OSError) -> None:
        """Note a folder that cannot be read."""
        self.failures.append(f'{error.filename} cannot be read: {error.strerror or error}.')


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add('inputs', nargs='+', metavar='INPUT', help='files, folders or quoted patterns')
    add('output', metavar='OUTPUT', help='a folder, or a file name for a single image')
    add('--weights', required=True, type=Path, help='checkpoint of the network (.pth)')
    add('--param-key', help='key of the checkpoint (default: params_ema, else params)')
    add('--no-time-embedding', action='store_true', help='for weights trained without it')
    add('--opt', type=Path, help='option file of the training, for its diffusion section')
    sampling = parser.add_argument_group('sampling')
    add = sampling.add_argument
    add('--steps', type=_steps, help='network calls, or their timesteps as 999,500,0 (default: 4)')
    add('--seed', type=int, default=0, help='of the noise, with the file name (default: 0)')
    add('--samples', type=_positive, default=1, help='average so many samplings (default: 1)')
    add('--eta', type=float, help='noise added while sampling (default: 0)')
    machine = parser.add_argument_group('machine')
    add = machine.add_argument
    add('--precision', choices=('auto', 'fp32', 'bf16'), default='auto')
    add('--device', default='auto', help='auto, cpu, cuda or cuda:N (default: auto)')
    add('--memory-budget', type=_positive, metavar='MB', help='for the network beside the image')
    add('--tile', type=_positive, metavar='PIXELS', help='for what is too large to be done whole')
    add('--tile-overlap', type=int, default=DEFAULT_TILE_OVERLAP, metavar='PIXELS')
    files = parser.add_argument_group('files')
    add = files.add_argument
    add('--overwrite', action='store_true', help='restore also what is there already')
    add('--format', type=_format, metavar='EXT', help='of the results in a folder, as png')
    add('--quality', type=_quality, default=95, help='of JPEG and WebP, 1 to 100 (default: 95)')
    add('--compare', action='store_true', help='write degraded | restored (| truth) to compare/')
    add('--metrics', type=Path, metavar='GT_DIR', help=METRICS_HELP)
    add('--protocol', choices=image_protocols(), default='gopro_rgb', help='(default: gopro_rgb)')
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    args = parse_arguments(arguments)
    outcomes = Outcomes()
    try:
        jobs = find_jobs(args.inputs, args.output, args.format, outcomes.unreadable)
        truths = GroundTruthIndex(args.metrics) if args.metrics else None
        restorer = build_restorer(args)
    except (*EXPECTED, RuntimeError) as error:
        for line in (f'error: {_one_line(error)}', *map('failed: {}'.format, outcomes.failures)):
            print(line, file=sys.stderr)
        return 2
    try:
        run_all(args, jobs, restorer, truths, outcomes)
    except KeyboardInterrupt:
        outcomes.failures.append('interrupted; run the same command again to go on')
    return report(args, outcomes)


def build_restorer(args: argparse.Namespace) -> Restorer:
    """The network of the checkpoint with the settings of the command line, announced."""
    options = _options(args.opt)
    process = build_process(_diffusion(args, options))
    device = _device(args.device)
    checkpoint = read_checkpoint(args.weights, args.param_key)
    trained_with = (options.get('network_g') or {}).get('time_embedding', True)
    network = build_network(checkpoint, time_embedding=trained_with and not args.no_time_embedding)
    settings = RestorerSettings(
        args.seed, args.samples, args.precision, args.memory_budget, args.tile, args.tile_overlap
    )
    try:
        restorer = Restorer(network.to(device), process, settings)
    except WeightsError as error:
        raise WeightsError(f'{args.weights}: {error}') from error
    print(f'Weights: {checkpoint}')
    timesteps = ', '.join(map(str, process.timesteps))
    precision = _precision(InferenceSettings(args.precision), device, process.timesteps)
    print(f'Timesteps: {timesteps}; device: {device}; precision: {precision}')
    return restorer


class Progress:
    """A bar with one tick per network call, the seconds per image and what remains."""

    LAYOUT = '{desc} {percentage:3.0f}% |{bar}| {elapsed}, {remaining} remain{postfix}'

    def __init__(self, images: int, calls: int, outcomes: Outcomes) -> None:
        self.images, self.calls, self.outcomes = images, calls, outcomes
        self.started = 0
        self.bar = tqdm(total=images * calls, bar_format=self.LAYOUT, disable=None)

    def start(self, job: RestoreJob) -> None:
        self.started += 1
        self.bar.set_description_str(f'image {self.started}/{self.images}', refresh=False)
        seconds = self.outcomes.seconds
        rate = f'{sum(seconds) / len(seconds):.1f} s per image, ' if seconds else ''
        self.bar.set_postfix_str(f'{rate}{job.source.name}')

    def step(self) -> None:
        self.bar.update(1)

    def finish(self, line: str) -> None:
        """Fill up to the end of the image, which may have been skipped, and tell about it."""
        self.bar.update(self.started * self.calls - self.bar.n)
        tqdm.write(line)


def run_all(
    args: argparse.Namespace,
    jobs: Sequence[RestoreJob],
    restorer: Restorer,
    truths: GroundTruthIndex | None,
    outcomes: Outcomes,
) -> None:
    """Do every job; what a job's files cause is noted and does not stop the others."""
    progress = Progress(len(jobs), restorer.calls, outcomes)
    with progress.bar:
        for job in jobs:
            progress.start(job)
            try:
                restored = partial(restorer, step=progress.step)
                line = run_job(args, job, restored, truths, outcomes)
            except EXPECTED as error:
                failure = _failure(job, error)
                outcomes.failures.append(failure)
                line = f'failed: {failure}'
            progress.finish(line)


def run_job(
    args: argparse.Namespace,
    job: RestoreJob,
    restorer: Callable[[ImageRecord, str], ImageRecord],
    truths: GroundTruthIndex | None,
    outcomes: Outcomes,
) -> str:
    """Restore one image unless it is there, compare and measure it; returns what to tell."""
    there = job.target.exists() and not args.overwrite
    wants_comparison = args.compare and not (there and job.comparison.exists())
    photograph = result = None
    if there:
        outcomes.skipped += 1
        line = f'{job.target} is there already'
        if wants_comparison:
            photograph = read_image(job.source)
        if truths or wants_comparison:
            result = read_image(job.target).colour
    else:
        photograph = read_image(job.source)
        line, result = _restore_file(job, photograph, restorer, args.quality, outcomes)
    truth = read_image(truths.find(job.relative)).colour if truths else None
    if wants_comparison and photograph is not None:
        pictures = [p for p in (photograph.colour, result, truth) if p is not None]
        write_image(job.comparison, ImageRecord(side_by_side(pictures)))
    if result is not None and truth is not None:
        numbers = measure(get_protocol(args.protocol), result, truth)
        outcomes.numbers.append(numbers)
        outcomes.coded += there and is_lossy(job.target, args.quality)
        line += f'  {_numbers(numbers)}'
    return line


def _restore_file(
    job: RestoreJob,
    photograph: ImageRecord,
    restorer: Callable[[ImageRecord, str], ImageRecord],
    quality: int,
    outcomes: Outcomes,
) -> tuple[str, np.ndarray]:
    """What to tell, and the restored picture (H, W, 3) as rounded for the file."""
    check_writable(job.target, photograph)
    started = time.perf_counter()
    restored = restorer(photograph, job.name)
    lost = write_image(job.target, restored, quality)
    seconds = time.perf_counter() - started
    outcomes.seconds.append(seconds)
    height, width = photograph.colour.shape[:2]
    line = f'{job.source} -> {job.target}  {width} x {height}, {seconds:.1f} s'
    if photograph.frames > 1:
        line += f' (the first of {photograph.frames} pictures)'
    if lost:
        tqdm.write(f'warning: {job.target}: without {_some(lost)}', file=sys.stderr)
    return line, quantised(restored, job.target)


def report(args: argparse.Namespace, outcomes: Outcomes) -> int:
    """Print what was done and what was not; returns the exit code."""
    count = len(outcomes.seconds)
    mean = f' ({sum(outcomes.seconds) / count:.1f} s per image)' if count else ''
    line = f'{count} restored{mean}'
    if outcomes.skipped:
        line += f', {outcomes.skipped} there already (--overwrite restores them again)'
    print(f'{line}, {len(outcomes.failures)} failed')
    if outcomes.numbers:
        protocol = get_protocol(args.protocol)
        means = {
            number: sum(n[number] for n in outcomes.numbers) / len(outcomes.numbers)
            for number in protocol.numbers
        }
        print(f'{protocol.name}  {_numbers(means)}  (mean of {len(outcomes.numbers)})')
        print(f'{protocol.name}: {protocol.description}')
    if outcomes.coded:
        print(f'measured with the loss of JPEG or WebP, since there already: {outcomes.coded}')
    for failure in outcomes.failures:
        print(f'failed: {failure}', file=sys.stderr)
    return 1 if outcomes.failures else 0


def _options(path: Path | None) -> dict:
    if path is None:
        return {}
    try:
        content = yaml.safe_load(path.read_text(encoding='utf-8'))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f'{path} is not an option file: {_one_line(error)}') from error
    if not isinstance(content, dict):
        raise ValueError(f'{path} is not an option file: it has no sections.')
    return content


def _diffusion(args: argparse.Namespace, options: dict) -> DiffusionOptions:
    section = dict(options.get('diffusion') or {})
    if args.steps is not None:
        section['sampling_timesteps'] = args.steps
    if args.eta is not None:
        section['eta'] = args.eta
    return parse_section(DiffusionOptions, section, f'{args.opt or "--steps, --eta"}: diffusion')


def _device(name: str) -> torch.device:
    if name == 'auto':
        return torch.device('cuda' if torch.cuda.is_available() else 'cpu')
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()
    except Exception as error:  # backends raise all kinds
        raise ValueError(
            f'--device {name} cannot be used here ({_first_sentence(error)}); give cpu.'
        ) from error
    return device


def _precision(settings: InferenceSettings, device: torch.device, timesteps: Sequence[int]) -> str:
    """The number formats of the network calls, with their timesteps if there are two."""
    of_format: dict[str, list[str]] = {}
    for timestep in timesteps:
        name = str(settings.dtype(device, timestep)).removeprefix('torch.')
        of_format.setdefault(name, []).append(str(timestep))
    if len(of_format) == 1:
        return next(iter(of_format))
    return ', '.join(f'{name} at {", ".join(at)}' for name, at in of_format.items())


def _failure(job: RestoreJob, error: BaseException) -> str:
    text = _one_line(error)
    if isinstance(error, MemoryBudgetError):
        text = f'{error.need}: give --memory-budget {error.least_mb} or more, or a smaller --tile'
    if isinstance(error, MemoryError):
        text = f'not enough memory: {text}; give --tile 1024, or a smaller tile'
    return text if str(job.source) in text or str(job.target) in text else f'{job.source}: {text}'


def _one_line(error: BaseException) -> str:
    return ' '.join(str(error).split()) or type(error).__name__


def _first_sentence(error: BaseException) -> str:
    return _one_line(error).partition('. ')[0].rstrip('.')


def _some(names: Sequence[str], most: int = 5) -> str:
    distinct = list(dict.fromkeys(names))
    more = f' and {len(distinct) - most} more' if len(distinct) > most else ''
    return ', '.join(distinct[:most]) + more


def _numbers(numbers: dict[str, float]) -> str:
    return '  '.join(
        f'{name} {value:.4f} {UNITS.get(name, "")}'.rstrip() for name, value in numbers.items()
    )


def _steps(text: str) -> int | list[int]:
    try:
        values = [int(part) for part in text.split(',') if part.strip()]
    except ValueError:
        values = []
    if not values:
        raise argparse.ArgumentTypeError(f'{text!r} is neither a number nor a list like 999,500,0')
    return values if ',' in text else values[0]


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f'{text!r} is not a whole number from 1 up')
    return int(text)


def _format(text: str) -> str:
    ending = f'.{text.lower().lstrip(".")}'
    if ending not in FORMATS:
        allowed = ', '.join(name.lstrip('.') for name in FORMATS)
        raise argparse.ArgumentTypeError(f'{text!r} is not written; {allowed} are')
    return ending


def _quality(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 100:
        raise argparse.ArgumentTypeError(f'{text!r} is not a whole number from 1 to 100')
    return int(text)
