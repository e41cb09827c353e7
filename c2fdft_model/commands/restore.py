"""Restores image files: a file, a folder with its subfolders, or a pattern.

    c2fdft restore photo.jpg restored.png --model derain
    c2fdft restore photo.jpg restored.png --weights net_g_latest.pth
    c2fdft restore datasets/test/Rain100L/input results/Rain100L --weights W.pth \\
        --metrics datasets/test/Rain100L/target --protocol rain_y

Any size from 1 x 1, RGB or grey, 8 or 16 bits; what belongs to an image is kept, or named. Formats
stay unless OUTPUT or --format say otherwise. What is there already is skipped. `torchrun` shares
the images out among processes. Ends with 0 if all is done, 1 if not, 2 if nothing could start.
"""

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, get_args

import torch

from c2fdft_arch.common import distributed
from c2fdft_arch.common.kernel_choice import KERNELS
from c2fdft_arch.common.messages import one_line, printable
from c2fdft_arch.inference.settings import InferenceSettings
from c2fdft_model.commands.parsers import command_parser
from c2fdft_model.commands.weights_arguments import add_weights_arguments, announce, open_weights
from c2fdft_model.evaluation.ground_truth import GroundTruthIndex
from c2fdft_model.evaluation.image_protocols import IMAGE_PROTOCOLS
from c2fdft_model.images.image_files import FORMATS
from c2fdft_model.restoring.checkpoint import WeightsError
from c2fdft_model.restoring.job_runner import EXPECTED_ERRORS, JobRunner, Outcomes
from c2fdft_model.restoring.restoration import DEFAULT_TILE_OVERLAP, float32_from
from c2fdft_model.restoring.restore_jobs import JobError, RestoreJob, find_jobs
from c2fdft_model.restoring.restorer import Restorer
from c2fdft_model.restoring.results_record import ResultsRecord
from c2fdft_model.restoring.tiling import Blend

TEMPLATE_HELP = 'names of inputs, {} for what their ground truth shares: rain-{}'
PROTOCOL = 'gopro_rgb'
PROTOCOL_HELP = ', '.join(f'{p} (default)' if p == PROTOCOL else p for p in IMAGE_PROTOCOLS)


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = command_parser(
        'restore', __doc__, 'INPUT [INPUT ...] OUTPUT (--weights W | --model M) [options]'
    )
    add = parser.add_argument
    add('inputs', nargs='+', metavar='INPUT', help='files, folders or quoted patterns')
    add('output', metavar='OUTPUT', help='a folder, or a file name for a single image')
    add_weights_arguments(parser)
    sampling = parser.add_argument_group('sampling')
    add = sampling.add_argument
    add(
        '--steps',
        type=_steps,
        help='network calls, or timesteps as 999,500,0 (default: as trained)',
    )
    add('--seed', type=int, default=0, help='of the noise, with the file name (default: 0)')
    add('--samples', type=_positive, default=1, help='average so many samplings (default: 1)')
    add('--eta', type=float, help='noise added while sampling (default: as trained, else 0)')
    machine = parser.add_argument_group('machine')
    add = machine.add_argument
    add('--precision', choices=('auto', 'fp32', 'bf16'), default='auto')
    add('--device', default='auto', help='auto, cpu, cuda, cuda:N, mps or xpu (default: auto)')
    add('--kernels', choices=KERNELS, default='auto', help='what computes the network')
    add('--memory-budget', type=_positive, metavar='MB', help='for the network beside the image')
    add('--tile', type=_positive, metavar='PIXELS', help='for what is too large to be done whole')
    add('--tile-overlap', type=int, default=DEFAULT_TILE_OVERLAP, metavar='PIXELS')
    add('--tile-blend', choices=get_args(Blend), default='smooth', help='how tiles are joined')
    files = parser.add_argument_group('files')
    add = files.add_argument
    add('--overwrite', action='store_true', help='restore also what is there already')
    add('--format', type=_format, metavar='EXT', help='of the results in a folder, as png')
    add('--quality', type=_quality, default=95, help='of JPEG and WebP, 1 to 100 (default: 95)')
    add('--compare', action='store_true', help='write degraded | restored (| GT) to compare/')
    add('--metrics', type=Path, metavar='GT_DIR', help='measure against this ground truth')
    add('--input-template', default='{}', metavar='T', help=TEMPLATE_HELP)
    add('--gt-template', default='{}', metavar='T', help='the same for the ground truth: norain-{}')
    add('--protocol', choices=IMAGE_PROTOCOLS, default=PROTOCOL, metavar='P', help=PROTOCOL_HELP)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Restore, measure and report; the exit code is 0, 1 or 2 as the module says."""
    args = parse_arguments(arguments)
    with distributed.process_group():
        return _restore(args)


def _restore(args: argparse.Namespace) -> int:
    """This process's share of the images; the first process reports what became of all."""
    first = distributed.rank() == 0
    unreadable: list[OSError] = []
    left_out: list[str] = []
    try:
        jobs = find_jobs(args.inputs, args.output, args.format, unreadable.append, left_out.append)
        gt = _ground_truth(args, jobs) if args.metrics else None
        restorer, settings = build_restorer(args)
        record = ResultsRecord(settings)
        if not args.overwrite:
            _check_results(record, jobs)
    except (*EXPECTED_ERRORS, RuntimeError) as error:
        if first:
            print(f'error: {one_line(error)}', file=sys.stderr)
            _print_failures(map(_unreadable, unreadable))
        return 2
    protocol = IMAGE_PROTOCOLS[args.protocol]
    runner = JobRunner(restorer, protocol, gt, args.overwrite, args.compare, args.quality, record)
    if first:
        runner.outcomes.failures += map(_unreadable, unreadable)
        runner.outcomes.left_out += left_out
    try:
        # Every process has the same list: what others have written must not change it.
        runner.run(distributed.shard(distributed.broadcast_object(jobs)), show_progress=first)
    except KeyboardInterrupt:
        runner.outcomes.failures.append('interrupted; run the same command again to go on')
    outcomes = Outcomes.merged(distributed.gather_objects(runner.outcomes))
    if first:
        print(outcomes.report(protocol))
        _print_failures(outcomes.failures + outcomes.incomplete)
    distributed.barrier()  # torchrun ends all processes when one has ended with 1
    return 0 if outcomes.all_is_done else 1


def _check_results(record: ResultsRecord, jobs: Sequence[RestoreJob]) -> None:
    """Raise JobError if results are there that were made otherwise; warn if nobody knows how."""
    if others := record.made_otherwise(jobs):
        raise JobError(
            f'{len(others)} of {len(jobs)} results are there already and were made otherwise '
            f'({others[0]}): give another OUTPUT, or --overwrite to restore them again.'
        )
    if (unknown := record.unknown(jobs)) and distributed.rank() == 0:
        print(
            f'warning: {unknown} results are there already, and nothing says what made them; '
            '--overwrite restores them again',
            file=sys.stderr,
        )


def build_restorer(args: argparse.Namespace) -> tuple[Restorer, dict[str, Any]]:
    """The network of the checkpoint with the settings of the command line, announced once.

    Also returns what results depend on, in plain types.
    """
    device = find_device(args.device)
    opened = open_weights(args, sampling_timesteps=args.steps, eta=args.eta)
    process = opened.process
    try:
        restorer = Restorer(
            opened.network.to(device),
            process,
            args.seed,
            args.samples,
            args.precision,
            args.memory_budget,
            args.tile,
            args.tile_overlap,
            args.tile_blend,
            args.kernels,
        )
    except WeightsError as error:
        raise WeightsError(f'{args.weights}: {error}') from error
    if distributed.rank() == 0:
        print(f'Weights: {opened.checkpoint}')
        announce(opened)
        timesteps = ', '.join(map(str, process.timesteps))
        precision = _precision(
            InferenceSettings(args.precision, float32_from=float32_from(process)),
            device,
            process.timesteps,
        )
        print(f'Timesteps: {timesteps}; device: {device}; precision: {precision}')
    names = ('seed', 'samples', 'precision', 'tile', 'tile_overlap', 'tile_blend')
    return restorer, {**opened.settings(), **{name: getattr(args, name) for name in names}}


def _ground_truth(args: argparse.Namespace, jobs: Sequence[RestoreJob]) -> GroundTruthIndex:
    images = [job.relative.as_posix() for job in jobs]
    return GroundTruthIndex(args.metrics, images, args.input_template, args.gt_template)


def _unreadable(error: OSError) -> str:
    return f'{error.filename} cannot be read: {error.strerror or error}.'


def _print_failures(failures: Iterable[str]) -> None:
    for failure in failures:
        print(printable(f'failed: {failure}'), file=sys.stderr)


def find_device(name: str) -> torch.device:
    """The device of `--device`. Raises ValueError for one that cannot be used here."""
    if name == 'auto':
        name = 'cuda' if torch.cuda.is_available() else 'cpu'
    try:
        device = torch.device(name)
        if name == 'cuda':  # of several processes each takes a GPU of its own
            device = torch.device('cuda', distributed.local_rank() % torch.cuda.device_count())
        torch.zeros(1, device=device).item()
    except Exception as error:  # backends raise all kinds
        reason = one_line(error).partition('. ')[0].rstrip('.')
        raise ValueError(f'--device {name} cannot be used here ({reason}); give cpu.') from error
    return device


def _precision(settings: InferenceSettings, device: torch.device, timesteps: Sequence[int]) -> str:
    """The precisions of the network calls, with their timesteps if there are two."""
    of_format: dict[str, list[str]] = {}
    for timestep in timesteps:
        name = str(settings.dtype(device, timestep)).removeprefix('torch.')
        of_format.setdefault(name, []).append(str(timestep))
    if len(of_format) == 1:
        return next(iter(of_format))
    return ', '.join(f'{name} at {", ".join(at)}' for name, at in of_format.items())


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
        raise argparse.ArgumentTypeError(f'{text!r} is not an integer from 1 up')
    return int(text)


def _format(text: str) -> str:
    ending = f'.{text.lower().lstrip(".")}'
    if ending not in FORMATS:
        allowed = ', '.join(name.lstrip('.') for name in FORMATS)
        raise argparse.ArgumentTypeError(f'{text!r} is not written; {allowed} are')
    return ending


def _quality(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 100:
        raise argparse.ArgumentTypeError(f'{text!r} is not an integer from 1 to 100')
    return int(text)
