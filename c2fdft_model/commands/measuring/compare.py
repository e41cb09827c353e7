"""Trains systems under an equal budget on the same images and compares them.

    c2fdft compare --minutes 30 \\
        --input datasets/demo/test/input --target datasets/demo/test/target \\
        -opt C2F-DFT=options/demo_coarse.yml+options/demo_fine.yml \\
             Restormer=options/baselines/demo_restormer.yml NAFNet=options/baselines/demo_nafnet.yml

A system is an option file, or the files of its stages joined by `+`, each of which starts from the
weights of the one before; `LABEL=` names it. Every training and every measurement runs in a process
of its own. With `--seeds N` each system is trained N times, and the table has means and standard
deviations. Minutes become iterations by the seconds that an iteration takes, which are measured
once: with `--calibrate` and nothing else, for a machine that has other work during the trainings.
Writes table.md, table.csv, table.json and grid.png. What has been trained or measured with the
same settings is not repeated. The exit code is 0, or 2 if the comparison cannot be made.
"""

import argparse
import shlex
import shutil
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from c2fdft_arch.common.errors import C2FDFTError
from c2fdft_model.commands.parsers import command_parser
from c2fdft_model.data.image_listing import list_images
from c2fdft_model.evaluation.ground_truth import GroundTruthIndex
from c2fdft_model.evaluation.image_protocols import IMAGE_PROTOCOLS
from c2fdft_model.experiments import budget, measuring, report
from c2fdft_model.experiments.files import read_json, write_json
from c2fdft_model.experiments.processes import call_with_log
from c2fdft_model.experiments.systems import (
    ComparisonError,
    System,
    read_systems,
    seeded,
    validation_folders,
)
from c2fdft_model.experiments.tables import means
from c2fdft_model.images.image_files import ImageFileError, read_image
from c2fdft_model.restoring.comparison import measure

TRAINED, MEASURED, IMAGES = 'trained.json', 'measured.json', 'images'
CALIBRATED = 'calibrated'
"""Folder of the seconds that an iteration of each system takes."""
COSTS = [name for name in report.COLUMNS if name not in ('system', 'psnr')]


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = command_parser(
        'compare', __doc__, '-opt SYSTEM [SYSTEM ...] (--minutes M | --iters N) [options]'
    )
    add = parser.add_argument
    add('-opt', nargs='+', required=True, metavar='SYSTEM', help='FILE, FILE+FILE or LABEL=...')
    limit = parser.add_mutually_exclusive_group(required=True)
    limit.add_argument('--minutes', type=float, help='of training for each system')
    limit.add_argument('--iters', type=int, help='iterations of training for each system')
    add('--input', type=Path, help='degraded test images (default: datasets: val of the files)')
    add('--target', type=Path, help='their ground truth')
    add('--train-input', type=Path, metavar='DIR', help="train on these instead of the files'")
    add('--train-target', type=Path, metavar='DIR', help='their ground truth; folders or LMDBs')
    add('--seeds', type=int, default=1, metavar='N', help='trainings of each system (default: 1)')
    add('--protocol', default='rain_y_float', choices=[*IMAGE_PROTOCOLS], help='of PSNR and SSIM')
    add('--output', type=Path, default=Path('results/compare'), help='folder')
    add('--detail', type=int, default=96, help='side of the shown detail in pixels')
    add('--calibrate', action='store_true', help='only time the iterations, again')
    add('--measure', action='store_true', help='measure again what is trained already')
    add('--fresh', action='store_true', help='time, train and measure everything again')
    parsed = parser.parse_args(arguments)
    for name in ('minutes', 'iters', 'detail', 'seeds'):
        value = getattr(parsed, name)
        if value is not None and value <= 0:
            parser.error(f'--{name} {value} must be above 0')
    given = sys.argv[1:] if arguments is None else arguments
    parsed.command = shlex.join(['c2fdft', 'compare', *given])
    return parsed


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare; the exit code is 0 if every system is in the table."""
    args = parse_arguments(arguments)
    try:
        compare(args)
    except (C2FDFTError, ImageFileError, OSError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print('\ninterrupted; run the same command again to continue', file=sys.stderr)
        return 130
    return 0


def compare(args: argparse.Namespace) -> None:
    """Train, measure and report."""
    systems = read_systems(args.opt, Path.cwd(), args.train_input, args.train_target)
    images = find_test_images(args, systems)
    args.output.mkdir(parents=True, exist_ok=True)
    if args.calibrate or args.fresh:
        for system in systems:
            calibration_file(system, args).unlink(missing_ok=True)
    if args.calibrate:
        for system in systems:
            calibrated(system, args)
        return
    results = {
        system.label: [result_of(system, list(images), args, seed) for seed in range(args.seeds)]
        for system in systems
    }
    pictures, scores = compare_images(images, list(results), args)
    all_scores = [scores]
    for seed in range(1, args.seeds):
        all_scores.append(compare_images(images, list(results), args, seed)[1])
    rows = [row_of(label, results.get(label), all_scores) for label in ('input', *results)]
    text = note(args, pictures)
    written = report.write_table(args.output, rows, text, args.command)
    report.write_grid(args.output / 'grid.png', pictures, scores, args.detail)
    print(f'\n{report.markdown(rows)}\n{text}')
    print('wrote ' + ', '.join(str(path) for path in [*written, args.output / 'grid.png']))


def find_test_images(args: argparse.Namespace, systems: Sequence[System]) -> dict[Path, Path]:
    """The degraded images with their ground truth."""
    folders = validation_folders(systems, Path.cwd())
    if (args.input is None) != (args.target is None) or not (args.input or folders):
        raise ComparisonError('give the folders of the test images: --input DIR --target DIR.')
    source, target = (args.input, args.target) if args.input else folders  # type: ignore[misc]
    images = list_images(source).images
    ground_truth = GroundTruthIndex(target, images)
    return {(source / image).resolve(): ground_truth.find(image) for image in images}


def result_of(
    system: System, images: Sequence[Path], args: argparse.Namespace, seed: int = 0
) -> dict[str, Any]:
    """What training and measuring a system gave; what was done with these settings is reused."""
    folder = result_folder(system.label, args, seed)
    trainee = seeded(system, seed)
    if args.fresh:
        shutil.rmtree(folder, ignore_errors=True)
    if args.measure:
        (folder / MEASURED).unlink(missing_ok=True)
    trained = once(
        f'{system.label}: trained',
        folder / TRAINED,
        trainee.fingerprint(minutes=args.minutes, iters=args.iters),
        lambda: train(trainee, folder, budgeted_iterations(system, args)),
    )
    measured = once(
        f'{system.label}: measured',
        folder / MEASURED,
        trainee.fingerprint(trained=trained, images=[str(path) for path in images]),
        lambda: call_with_log(
            folder / 'measuring.log',
            measuring.measure,
            trained['options'],
            trained['weights'],
            images,
            folder / IMAGES,
        ),
    )
    return trained | measured


def result_folder(label: str, args: argparse.Namespace, seed: int = 0) -> Path:
    name = folder_name(label) + (f'_seed{seed}' if seed else '')
    return (args.output / name).resolve()


def folder_name(label: str) -> str:
    return label.replace('/', '_')


def once(title: str, path: Path, settings: str, compute: Callable[[], Any]) -> Any:
    """A result that is kept in a file with the digest of its settings, computed if it is not."""
    entry = read_json(path)
    if entry and entry['digest'] == settings:
        print(f'{title} before', flush=True)
        return entry['result']
    result = compute()
    write_json(path, {'digest': settings, 'result': result})
    return result


def budgeted_iterations(system: System, args: argparse.Namespace) -> list[int]:
    """Iterations of each stage within the budget, the same for every seed."""
    if args.iters:
        return budget.iterations_for(system.total_iters, args.iters)
    return budget.iterations_in(system.total_iters, calibrated(system, args), 60 * args.minutes)


def calibrated(system: System, args: argparse.Namespace) -> list[float]:
    """Seconds per iteration of each stage, measured unless an earlier run has done so."""
    path = calibration_file(system, args)
    title = f'{system.label}: iterations timed'
    settings = replace(system, changes=()).fingerprint()
    seconds = once(title, path, settings, lambda: budget.calibrate(system, path.with_suffix('')))
    print(f'{system.label}: {" + ".join(f"{s:.3f}" for s in seconds)} s per iteration', flush=True)
    return seconds


def calibration_file(system: System, args: argparse.Namespace) -> Path:
    return args.output / CALIBRATED / f'{folder_name(system.label)}.json'


def train(system: System, folder: Path, iterations: Sequence[int]) -> dict[str, Any]:
    """Train in an emptied folder, saying how."""
    shutil.rmtree(folder, ignore_errors=True)
    print(f'{system.label}: {" + ".join(f"{n:,}" for n in iterations)} iterations', flush=True)
    trained = budget.train(system, iterations, folder)
    print(f'{system.label}: trained in {trained["seconds"] / 60:.1f} min', flush=True)
    return trained


def compare_images(
    images: dict[Path, Path], labels: Sequence[str], args: argparse.Namespace, seed: int = 0
) -> tuple[dict[str, dict[str, np.ndarray]], dict[str, dict[str, dict[str, float]]]]:
    """The pictures {image: {input, systems, ground truth}}, uint8 RGB, and the metrics likewise."""
    protocol = IMAGE_PROTOCOLS[args.protocol]
    pictures, scores = {}, {}
    for path, gt_path in images.items():
        files = {'input': path}
        files |= {k: result_folder(k, args, seed) / IMAGES / f'{path.stem}.png' for k in labels}
        columns = {name: read_image(file).colour for name, file in files.items()}
        gt = read_image(gt_path).colour
        scores[path.stem] = {name: measure(protocol, c, gt) for name, c in columns.items()}
        columns['ground truth'] = gt
        pictures[path.stem] = {k: np.rint(c * 255).astype(np.uint8) for k, c in columns.items()}
    return pictures, scores


def row_of(
    label: str, results: Sequence[dict[str, Any]] | None, scores: Sequence[dict[str, dict]]
) -> report.Row:
    """A system's line of the table, without results that of the degraded images themselves.

    `results` and `scores` have an entry for each seed; with several, each metric's standard
    deviation over them stands beside its mean, as `<metric>_std`.
    """
    costs: report.Row = dict.fromkeys(COSTS)
    if results is not None:
        each = [
            {
                'parameters_m': result['parameters'] / 1e6,
                'iterations': result['iterations'],
                'training_minutes': result['seconds'] / 60,
                'gflop': result['gflop'],
                'seconds_per_image': statistics.fmean(result['seconds_per_image']),
                'peak_mib': result['peak_mib'],
            }
            for result in results
        ]
        costs |= means(each) | {'iterations': round(means(each)['iterations'])}
    of_seeds = [means([by_label[label] for by_label in seed.values()]) for seed in scores]
    row: report.Row = {'system': label, **costs}
    for metric, mean in means(of_seeds).items():
        row[metric] = mean
        if len(scores) > 1:
            spread = statistics.stdev(found[metric] for found in of_seeds)
            row[f'{metric}_std'] = None if results is None else spread
    return row


def note(args: argparse.Namespace, pictures: dict[str, dict[str, np.ndarray]]) -> str:
    """How the figures were made, in one paragraph."""
    if args.iters:
        limit = f'{args.iters:,} iterations'
    else:
        limit = '1 minute' if args.minutes == 1 else f'{args.minutes:g} minutes'
    height, width = next(iter(pictures.values()))['input'].shape[:2]
    seeds = f', {args.seeds} seeds, means' if args.seeds > 1 else ''
    return (
        f'Each system trained for {limit}{seeds}; {len(pictures)} test images, {args.protocol}. '
        f'GFLOP: all network calls of one restoration at {width} x {height}, a multiplication and '
        'an addition counted as two. Peak memory: of restoring, weights included.'
    )
