"""Compares results with a ground truth by a named protocol.

    python scripts/evaluate.py rain_y results/x/visualization/Rain100H datasets/Rain100H/target
    python scripts/evaluate.py sidd_val results/sidd datasets/SIDD/ValidationGtBlocksSrgb.mat

Ends with 0 if everything was evaluated, 1 if something could not be, 2 if nothing could.
"""

from __future__ import annotations

import argparse
import csv
import math
import os
import sys
from pathlib import Path

from tqdm import tqdm

from c2fdft_model.evaluation import (
    PROTOCOLS,
    UNITS,
    Measurements,
    Protocol,
    get_protocol,
    measure_all,
    summary,
)

PROBLEMS_SHOWN = 20


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    listed = '\n'.join(f'  {p.name:<17} {p.description}' for p in PROTOCOLS.values())
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog=f'protocols:\n{listed}',
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('protocol', help='one of the protocols below')
    parser.add_argument('results', type=Path, help='folder of results, or their .mat file')
    parser.add_argument(
        'truth',
        type=Path,
        help='folder or .mat file of the ground truth; for dnd info.mat, for sidd the noisy blocks',
    )
    parser.add_argument('--csv', type=Path, help='also write the number of every image here')
    parser.add_argument('--suffix', help='take the results named <name>_SUFFIX (default: any)')
    parser.add_argument(
        '--workers', type=int, default=os.cpu_count() or 1, help='processes (default: %(default)s)'
    )
    return parser.parse_args(arguments)


def write_csv(path: Path, protocol: Protocol, measured: Measurements) -> None:
    """One line an image, then one line a problem, then the mean."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, 'w', newline='', encoding='utf-8') as file:
        writer = csv.writer(file)
        writer.writerow(['protocol', 'image', *protocol.numbers, 'problem'])
        for name, numbers in measured.numbers.items():
            writer.writerow([protocol.name, name, *(numbers[n] for n in protocol.numbers), ''])
        for problem in measured.problems:
            blanks = [''] * len(protocol.numbers)
            writer.writerow(
                [protocol.name, problem.name, *blanks, f'{problem.kind}: {problem.reason}']
            )
        means = [measured.mean(n) for n in protocol.numbers]
        writer.writerow([protocol.name, 'mean', *means, ''])


def report(protocol: Protocol, measured: Measurements, notes: list[str]) -> str:
    """The numbers, each with its protocol, and what was left out."""
    count = len(measured.numbers)
    width = max((len(n) for n in protocol.numbers), default=0)
    lines = [f'{protocol.name}: {protocol.description}']
    for number in protocol.numbers:
        unit = UNITS.get(number, '')
        lines.append(
            f'{protocol.name}  {number:<{width}} {measured.mean(number):9.4f} {unit}'.rstrip()
            + f'  (mean of {count})'
        )
    if not protocol.numbers:
        lines.append(f'{protocol.name}  {count} items checked, no fault found in them')
    lines += [f'note: {note}' for note in notes + _infinite(protocol, measured)]
    lines.append(f'problems: {summary(measured.problems)}')
    lines += [f'  {problem}' for problem in measured.problems[:PROBLEMS_SHOWN]]
    hidden = len(measured.problems) - PROBLEMS_SHOWN
    if hidden > 0:
        lines.append(f'  … and {hidden} more; --csv lists all')
    return '\n'.join(lines)


def _infinite(protocol: Protocol, measured: Measurements) -> list[str]:
    if 'psnr' not in protocol.numbers:
        return []
    values = [numbers['psnr'] for numbers in measured.numbers.values()]
    finite = [value for value in values if math.isfinite(value)]
    if len(finite) == len(values):
        return []
    note = f'{len(values) - len(finite)} results equal their ground truth (PSNR infinite)'
    if finite:
        note += f'; psnr of the others {sum(finite) / len(finite):.4f} dB'
    return [note]


def main(arguments: list[str] | None = None) -> int:
    args = parse_arguments(arguments)
    try:
        protocol = get_protocol(args.protocol)
        work = protocol.find_work(args.results, args.truth, args.suffix)
    except (ValueError, OSError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 2

    def bar(outcomes):
        return tqdm(outcomes, total=work.count, desc=protocol.name, unit='image', disable=None)

    measured = measure_all(protocol.measure, work, args.workers, bar)
    print(report(protocol, measured, work.notes))
    if args.csv:
        write_csv(args.csv, protocol, measured)
    if not measured.numbers:
        return 2
    return 1 if measured.problems else 0
