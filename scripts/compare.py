"""Trains systems under an equal budget on the same images and compares them.

    python scripts/compare.py --minutes 30 \\
        --input datasets/demo/test/input --target datasets/demo/test/target \\
        -opt C2F-DFT=options/demo_coarse.yml+options/demo_fine.yml \\
             Restormer=options/baselines/demo_restormer.yml NAFNet=options/baselines/demo_nafnet.yml

A system is an option file, or the files of its stages joined by `+`, each of which starts from the
weights of the one before; `LABEL=` names it. Every training and every measurement is a process of
its own. Writes table.md, table.csv, table.json and grid.png. What has been trained or measured with
the same settings is not repeated. Ends with 0, or with 2 if the comparison cannot be made.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from comparing import budget, report
from comparing.systems import (
    ComparisonError,
    System,
    read_systems,
    validation_folders,
)

from c2fdft_model.evaluation.image_protocols import IMAGE_PROTOCOLS
from c2fdft_model.images.image_files import ImageFileError, is_image_name, read_image
from c2fdft_model.restoring.comparison import GroundTruthIndex, measure

TRAINED, MEASURED, IMAGES = 'trained.json', 'measured.json', 'images'


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add('-opt', nargs='+', required=True, metavar='SYSTEM', help='FILE, FILE+FILE or LABEL=...')
    limit = parser.add_mutually_exclusive_group(required=True)
    limit.add_argument('--minutes', type=float, help='of training for each system')
    limit.add_argument('--iters', type=int, help='iterations of training for each system')
    add('--input', type=Path, help='degraded test images (default: datasets: val of the files)')
    add('--target', type=Path, help='their ground truth')
    add('--protocol', default='rain_y_float', choices=[*IMAGE_PROTOCOLS], help='of PSNR and SSIM')
    add('--output', type=Path, default=Path('results/compare'), help='folder')
    add('--detail', type=int, default=96, help='side of the shown detail in pixels')
    add('--measure', action='store_true', help='measure again what is trained already')
    add('--fresh', action='store_true', help='train and measure everything again')
    parsed = parser.parse_args(arguments)
    for name in ('minutes', 'iters', 'detail'):
        value = getattr(parsed, name)
        if value is not None and value <= 0:
            parser.error(f'--{name} {value} must be above 0')
    return parsed


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare; the exit code is 0 if every system is in the table."""
    args = parse_arguments(arguments)
    try:
        compare(args)
    except (ComparisonError, ImageFileError, OSError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print('\ninterrupted; what is measured is kept for the same command', file=sys.stderr)
        return 130
    return 0


def compare(args: argparse.Namespace) -> None:
    """Train, measure and report."""
    systems = read_systems(args.opt, Path.cwd())
    images, truths = images_and_truths(args, systems)
    args.output.mkdir(parents=True, exist_ok=True)
    results = {system.label: result_of(system, images, args) for system in systems}
    pictures, scores = judge(images, truths, list(results), args)
    rows = [row_of(label, results.get(label), scores) for label in ('input', *results)]
    written = report.write_table(args.output, rows, note(args, images))
    psnr = {
        image: {label: numbers['psnr'] for label, numbers in by_label.items()}
        for image, by_label in scores.items()
    }
    report.write_grid(args.output / 'grid.png', pictures, psnr, args.detail)
    print(f'\n{report.markdown(rows)}\n{note(args, images)}')
    print('wrote ' + ', '.join(str(path) for path in [*written, args.output / 'grid.png']))


def images_and_truths(
    args: argparse.Namespace, systems: Sequence[System]
) -> tuple[list[Path], GroundTruthIndex]:
    """The degraded images and their ground truth."""
    folders = validation_folders(systems, Path.cwd())
    if (args.input is None) != (args.target is None) or not (args.input or folders):
        raise ComparisonError('give the folders of the test images: --input DIR --target DIR.')
    source, target = (args.input, args.target) if args.input else folders  # type: ignore[misc]
    if not source.is_dir():
        raise ComparisonError(f'{source}: no such folder of test images.')
    images = sorted(path.resolve() for path in source.iterdir() if is_image_name(path))
    if not images:
        raise ComparisonError(f'{source} has no images.')
    truths = GroundTruthIndex(target)
    for path in images:
        truths.find(Path(path.name))
    return images, truths


def result_of(system: System, images: Sequence[Path], args: argparse.Namespace) -> dict[str, Any]:
    """The system's cost; a training or a measurement of the same settings is not repeated."""
    folder = (args.output / system.label.replace('/', '_')).resolve()
    digest = system.fingerprint(minutes=args.minutes, iters=args.iters)
    trained = None if args.fresh else remembered(folder / TRAINED, digest)
    if trained is None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        trained = remember(folder / TRAINED, digest, train(system, folder, args))
    else:
        print(f'{system.label}: trained before', flush=True)
    digest = system.fingerprint(trained=trained, images=[str(path) for path in images])
    measured = None if args.measure else remembered(folder / MEASURED, digest)
    if measured is None:
        measured = remember(folder / MEASURED, digest, costs(trained, images, folder))
    else:
        print(f'{system.label}: measured before', flush=True)
    return trained | measured


def remembered(path: Path, digest: str) -> dict[str, Any] | None:
    """What `remember` wrote with the same digest, if it did."""
    if not path.is_file():
        return None
    entry = json.loads(path.read_text())
    return entry['result'] if entry['digest'] == digest else None


def remember(path: Path, digest: str, result: dict[str, Any]) -> dict[str, Any]:
    """Write a result for a later run of the same command, and return it."""
    path.write_text(json.dumps({'digest': digest, 'result': result}, indent=2) + '\n')
    return result


def train(system: System, folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Train within the budget, saying how."""
    if args.iters:
        iterations = budget.iterations_for(system.total_iters, args.iters)
    else:
        each = budget.calibrate(system, folder)
        iterations = budget.iterations_in(system.total_iters, each, 60 * args.minutes)
    print(f'{system.label}: {" + ".join(f"{n:,}" for n in iterations)} iterations', flush=True)
    trained = budget.train(system, iterations, folder)
    print(f'{system.label}: trained in {trained.seconds / 60:.1f} min', flush=True)
    return asdict(trained) | {'weights': str(trained.weights)}


def costs(trained: dict[str, Any], images: Sequence[Path], folder: Path) -> dict[str, Any]:
    """Restore the images in a process of its own; what that took."""
    job = {
        'options': trained['options'],
        'weights': trained['weights'],
        'images': [str(path) for path in images],
        'results': str(folder / IMAGES),
        'report': str(folder / 'costs.json'),
    }
    (folder / 'job.json').write_text(json.dumps(job))
    budget.run_module('comparing.measuring', [str(folder / 'job.json')], folder)
    return json.loads((folder / 'costs.json').read_text())


def judge(
    images: Sequence[Path],
    truths: GroundTruthIndex,
    labels: Sequence[str],
    args: argparse.Namespace,
) -> tuple[dict, dict]:
    """Pictures {image: {input, systems, truth}} as uint8 RGB, and scores {image: {column: ...}}."""
    protocol = IMAGE_PROTOCOLS[args.protocol]
    pictures: dict[str, dict] = {}
    scores: dict[str, dict] = {}
    for path in images:
        columns = {'input': read_image(path).colour}
        for label in labels:
            folder = args.output / label.replace('/', '_') / IMAGES
            columns[label] = read_image(folder / f'{path.stem}.png').colour
        truth = read_image(truths.find(Path(path.name))).colour
        scores[path.stem] = {
            name: measure(protocol, picture, truth) for name, picture in columns.items()
        }
        eight_bits = {**columns, 'ground truth': truth}
        pictures[path.stem] = {k: (v * 255).round().astype('uint8') for k, v in eight_bits.items()}
    return pictures, scores


def row_of(label: str, result: dict[str, Any] | None, scores: dict[str, dict]) -> report.Row:
    """A system's line of the table; the scores are means over the images."""
    each = [by_label[label] for by_label in scores.values()]
    means = {name: sum(s[name] for s in each) / len(each) for name in each[0]}
    if result is None:
        return report.Row(label, scores=means)
    per_image = result['seconds_per_image']
    return report.Row(
        system=label,
        parameters_m=result['parameters'] / 1e6,
        iterations=result['iterations'],
        training_minutes=result['seconds'] / 60,
        gflop=result['gflop'],
        seconds_per_image=sum(per_image) / len(per_image),
        peak_mib=result['peak_mib'],
        scores=means,
    )


def note(args: argparse.Namespace, images: Sequence[Path]) -> str:
    """How the numbers were made, in one paragraph."""
    limit = f'{args.iters:,} iterations' if args.iters else f'{args.minutes:g} minutes'
    height, width = read_image(images[0]).colour.shape[:2]
    return (
        f'Each system trained for {limit}; {len(images)} test images, {args.protocol}. GFLOP: all '
        f'network calls of one restoration at {width} x {height}, a multiplication and an addition '
        'counted as two. Peak memory: of restoring, weights included.'
    )


if __name__ == '__main__':
    sys.exit(main())
