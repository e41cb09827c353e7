"""Quality and time against the number of sampling steps (Table 4 of the paper).

    c2fdft sweep -opt options/derain_test.yml --steps 1 2 3 4 5 10 25 50

Restores the test sets of an option file once for each number of steps, from the same noise, and
writes steps.csv, steps.md and steps.png. Metrics are those of the option file (val: metrics:), and
LPIPS where it is installed. Further arguments go to BasicSR (--force_yml …).
"""

import argparse
import csv
import os
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import torch
from tqdm import tqdm

from c2fdft_arch.common.atomic_write import replacing, write_bytes
from c2fdft_arch.common.option_parsing import OptionError, parse_section
from c2fdft_model.commands.parsers import command_parser
from c2fdft_model.diffusion.options import DiffusionOptions, build_process
from c2fdft_model.diffusion.process import DiffusionProcess
from c2fdft_model.evaluation.perceptual import (
    WEIGHTS_VARIABLE,
    MetricUnavailable,
    lpips_problem,
)
from c2fdft_model.experiments.tables import markdown_table
from c2fdft_model.plugin import autoload
from c2fdft_model.restoring.checkpoint import complete_from_weights

Row = dict[str, float | int | str]
SECONDS = 'seconds'
LPIPS = {'lpips': {'type': 'calculate_lpips', 'better': 'lower'}}
"""As an entry of `val: metrics:`."""


def parse_arguments(arguments: Sequence[str] | None = None) -> tuple[argparse.Namespace, list[str]]:
    parser = command_parser('sweep', __doc__, '-opt FILE [options]')
    add = parser.add_argument
    add('-opt', required=True, help='option file of a test')
    add('--steps', type=int, nargs='+', default=[1, 2, 3, 4, 5, 10, 25, 50], metavar='S')
    add('--limit', type=int, metavar='N', help='take only the first N images of each set')
    add('--output', type=Path, help='folder (default: results/<name>_sampling_steps)')
    add(
        '--lpips-weights', help=f'backbone of LPIPS, when there is no network (${WEIGHTS_VARIABLE})'
    )
    add('--no-lpips', action='store_true', help='leave LPIPS out')
    return parser.parse_known_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Restore, measure, write and draw; the exit code is 0, 1 if it ended early, 2 at the start."""
    args, for_basicsr = parse_arguments(arguments)
    rows: list[Row] = []
    if args.lpips_weights:
        os.environ[WEIGHTS_VARIABLE] = args.lpips_weights
    try:
        opt = read_options(args.opt, for_basicsr)
        complete_from_weights(opt, print)
        options = parse_section(DiffusionOptions, opt.get('diffusion'), 'diffusion')
        processes = {
            steps: build_process(options.model_copy(update={'sampling_timesteps': steps}))
            for steps in sorted(set(args.steps))
        }
        metrics = dict(opt.get('val', {}).get('metrics') or {})
        if not args.no_lpips:
            metrics |= lpips_if_there(bool(args.lpips_weights))
        output = args.output or Path('results') / f'{opt["name"]}_sampling_steps'
        output.mkdir(parents=True, exist_ok=True)
        for row in sweep(opt, processes, metrics, args.limit):
            rows.append(row)
            # after every row, so that an interruption leaves those before it
            write_csv(output / 'steps.csv', rows)
            write_bytes(output / 'steps.md', markdown(rows, opt['name']).encode())
    except (ValueError, OSError, MetricUnavailable) as error:
        print(f'error: {error}', file=sys.stderr)
        return 1 if rows else 2
    print(markdown(rows, opt['name']))
    print(f'wrote {output / "steps.csv"} and {output / "steps.md"}')
    try:
        draw(output / 'steps.png', rows, metrics)
    except OSError as error:
        print(f'error: {output / "steps.png"}: {error.strerror or error}.', file=sys.stderr)
        return 1
    return 0


def read_options(path: str, arguments: list[str]) -> dict:
    """The option file as BasicSR's test command reads it, from the current folder."""
    autoload.install()
    from basicsr.utils.options import parse_options

    if not Path(path).is_file():
        raise FileNotFoundError(f'{path}: no such option file.')
    before, sys.argv = sys.argv, [sys.argv[0], '-opt', path, *arguments]
    try:
        opt, _ = parse_options(os.getcwd(), is_train=False)
    finally:
        sys.argv = before
    if opt['model_type'] != 'C2FDFTModel':
        raise OptionError(f'{path}: model_type is {opt["model_type"]}: C2FDFTModel is expected.')
    return opt


def lpips_if_there(needed: bool) -> dict:
    """LPIPS as an entry of the metrics; none, and a line that says why, if it cannot be measured.

    Raises MetricUnavailable instead if it is `needed`.
    """
    problem = lpips_problem()
    if problem and needed:
        raise MetricUnavailable(problem)
    if problem:
        print(f'LPIPS is left out: {problem}')
    return {} if problem else LPIPS


def sweep(
    opt: dict, processes: dict[int, DiffusionProcess], metrics: dict, limit: int | None
) -> Iterable[Row]:
    """One row for each test set and number of steps: the means of the metrics and of the time."""
    from basicsr.data import build_dataset
    from basicsr.models import build_model

    model = build_model(opt)
    for _, dataset_opt in sorted(opt['datasets'].items()):
        dataset = build_dataset(dataset_opt)
        count = min(len(dataset), limit or len(dataset))
        with tqdm(total=count * len(processes), unit='image', disable=None) as bar:
            for steps, process in processes.items():
                bar.set_description(f'{dataset_opt["name"]}, {steps} steps')
                model.process = process
                row: Row = {'dataset': dataset_opt['name'], 'images': count, 'steps': steps}
                yield row | measure(model, dataset, range(count), metrics, bar.update)


def measure(
    model, dataset, indices: Iterable[int], metrics: dict, advance: Callable[[], object]
) -> Row:
    """Means over images of the metrics and of the seconds of the restoration alone."""
    from basicsr.metrics import calculate_metric
    from basicsr.utils import tensor2img

    totals: dict[str, float] = dict.fromkeys([*metrics, SECONDS], 0.0)
    for count, index in enumerate(indices, 1):
        data = dataset[index]
        if 'gt' not in data:
            raise OptionError(f'datasets: {dataset.opt["name"]} has no ground truth (dataroot_gt).')
        batch = {
            key: value.unsqueeze(0) if isinstance(value, torch.Tensor) else [value]
            for key, value in data.items()
        }
        model.feed_data(batch)
        if count == 1:
            model.test()  # the first call pays for what later ones find ready
        started = _now()
        model.test()
        totals[SECONDS] += _now() - started
        pair = {'img': tensor2img([model.output.cpu()]), 'img2': tensor2img([model.gt.cpu()])}
        for name, metric_opt in metrics.items():
            totals[name] += float(calculate_metric(pair, metric_opt))
        advance()
    return {name: total / count for name, total in totals.items()}


def _now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def write_csv(path: Path, rows: Sequence[Row]) -> None:
    """A column for each entry of the rows, which have the same entries. Raises OSError."""
    with (
        replacing(path) as temporary,
        open(temporary, 'w', newline='', encoding='utf-8') as file,
    ):
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def markdown(rows: Sequence[Row], name: str) -> str:
    """The rows as a table; with several test sets one after the other."""
    columns = list(rows[0])
    cells = [[_cell(column, row[column]) for column in columns] for row in rows]
    return '\n'.join([f'Sampling steps, {name}', '', *markdown_table(columns, cells), ''])


def _cell(column: str, value: float | int | str) -> str:
    if not isinstance(value, float):
        return str(value)
    digits = 2 if 'psnr' in column or column == SECONDS else 4
    return f'{value:.{digits}f}'


def draw(path: Path, rows: Sequence[Row], metrics: dict) -> None:
    """Draw every metric against the steps (above) and against the seconds per image (below)."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        print('No plot: it needs matplotlib, pip install c2fdft[plot]')
        return
    figure = Figure(figsize=(4 * len(metrics), 6.4), layout='constrained')
    axes = figure.subplots(2, len(metrics), squeeze=False)
    datasets = list(dict.fromkeys(row['dataset'] for row in rows))
    for column, (name, metric_opt) in enumerate(metrics.items()):
        better = (metric_opt or {}).get('better', 'higher')
        for axis, against in zip(axes[:, column], ('steps', SECONDS), strict=True):
            for dataset in datasets:
                own = sorted((row[against], row[name]) for row in rows if row['dataset'] == dataset)
                axis.plot(*zip(*own, strict=True), marker='o', label=dataset)
            axis.set_xscale('log')
            axis.set_xlabel('sampling steps' if against == 'steps' else 'seconds per image')
            axis.set_ylabel(f'{name} ({better} is better)')
            axis.grid(alpha=0.3)
    axes[0, 0].legend()
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=120)
    print(f'wrote {path}')
