"""Compares results with a ground truth by a named protocol.

    c2fdft evaluate rain_y results/x/visualization/Rain100H datasets/Rain100H/target
    c2fdft evaluate sidd_val results/sidd datasets/SIDD/ValidationGtBlocksSrgb.mat

Ends with 0 if everything was evaluated, 1 if something could not be, 2 if nothing could.
"""

import argparse
import csv
import math
import os
import sys
import textwrap
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from tqdm import tqdm

from c2fdft_arch.common.atomic_write import replacing
from c2fdft_model.commands.parsers import WIDEST, command_parser
from c2fdft_model.evaluation.evaluation_set import Measurements, measure_all
from c2fdft_model.evaluation.image_protocols import UNITS, Protocol
from c2fdft_model.evaluation.problems import summary
from c2fdft_model.evaluation.protocols import PROTOCOLS, find_evaluation_set, get_protocol
from c2fdft_model.restoring.memory import available_memory_mb
from c2fdft_model.restoring.results_record import origins

PROBLEMS_SHOWN = 20


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    listed = '\n'.join(
        textwrap.fill(f'  {p.name:<17} {p.description}', WIDEST, subsequent_indent=' ' * 20)
        for p in PROTOCOLS.values()
    )
    parser = command_parser(
        'evaluate', __doc__, 'PROTOCOL RESULTS GT [options]', f'protocols:\n{listed}'
    )
    parser.add_argument('protocol', help='one of the protocols below')
    parser.add_argument('results', type=Path, help='folder of results, or their .mat file')
    parser.add_argument(
        'gt',
        type=Path,
        help='folder or .mat file of the ground truth; for dnd info.mat, for sidd the noisy blocks',
    )
    parser.add_argument('--csv', type=Path, help='also write the metrics of every image here')
    parser.add_argument('--suffix', help='take the results named <name>_SUFFIX (default: any)')
    parser.add_argument(
        '--results-template',
        default='{}',
        metavar='T',
        help='how results are called, without suffix, {} standing for what their ground truth '
        'shares with them, as in rain-{}',
    )
    parser.add_argument(
        '--gt-template', default='{}', metavar='T', help='the same for the ground truth: norain-{}'
    )
    parser.add_argument(
        '--workers', type=int, default=os.cpu_count() or 1, help='processes (default: %(default)s)'
    )
    return parser.parse_args(arguments)


def write_csv(path: Path, protocol: Protocol, measured: Measurements) -> None:
    """One line for each image, then one for each problem, then the mean."""
    rows: list[dict] = [{'image': name, **metrics} for name, metrics in measured.metrics.items()]
    rows += [{'image': p.name, 'problem': f'{p.kind}: {p.reason}'} for p in measured.problems]
    rows.append({'image': 'mean', **{name: measured.mean(name) for name in protocol.metrics}})
    with (
        replacing(path) as temporary,
        open(temporary, 'w', newline='', encoding='utf-8', errors='backslashreplace') as file,
    ):
        writer = csv.DictWriter(file, ['protocol', 'image', *protocol.metrics, 'problem'])
        writer.writeheader()
        writer.writerows({'protocol': protocol.name, **row} for row in rows)


def report(protocol: Protocol, measured: Measurements, notes: list[str]) -> str:
    """The mean metrics, each with its protocol, and what was left out."""
    count = len(measured.metrics)
    width = max(map(len, protocol.metrics), default=0)
    lines = [f'{protocol.name}: {protocol.description}']
    for metric in protocol.metrics:
        value = f'{measured.mean(metric):9.4f} {UNITS.get(metric, "")}'.rstrip()
        lines.append(f'{protocol.name}  {metric:<{width}} {value}  (mean of {count})')
    if not protocol.metrics:
        lines.append(f'{protocol.name}  {count} items checked, no fault found in them')
    lines += [f'note: {note}' for note in notes + _infinite(measured)]
    lines.append(f'problems: {summary(measured.problems)}')
    lines += [f'  {problem}' for problem in measured.problems[:PROBLEMS_SHOWN]]
    hidden = len(measured.problems) - PROBLEMS_SHOWN
    if hidden > 0:
        lines.append(f'  … and {hidden} more; --csv lists all')
    return '\n'.join(lines)


def _infinite(measured: Measurements) -> list[str]:
    values = [metrics['psnr'] for metrics in measured.metrics.values() if 'psnr' in metrics]
    finite = [value for value in values if math.isfinite(value)]
    if len(finite) == len(values):
        return []
    note = f'{len(values) - len(finite)} results equal their ground truth (PSNR infinite)'
    if finite:
        note += f'; psnr of the others {sum(finite) / len(finite):.4f} dB'
    return [note]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write the table; the exit code is 0, 1 or 2 as the module says."""
    args = parse_arguments(arguments)
    try:
        protocol = get_protocol(args.protocol)
        templates = args.results_template, args.gt_template
        found = find_evaluation_set(protocol, args.results, args.gt, args.suffix, *templates)
    except (ValueError, OSError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    total = len(found.items)
    bar = partial(tqdm, total=total, desc=protocol.name, unit='image', disable=None)
    free_mb = available_memory_mb(torch.device('cpu'))
    workers = found.affordable_workers(args.workers, free_mb, protocol.pixel_bytes)
    notes = [*found.notes, *(f'results {text}' for text in origins(args.results))]
    if workers < min(args.workers, total):
        notes.append(f'{workers} of {args.workers} processes, for want of memory')
    measured = measure_all(protocol.measure, found, workers, bar)
    print(report(protocol, measured, notes))
    try:
        if args.csv:
            write_csv(args.csv, protocol, measured)
    except OSError as error:
        print(f'error: --csv {args.csv}: {error.strerror or error}.', file=sys.stderr)
        return 1
    if not measured.metrics:
        return 2
    return 1 if measured.problems else 0
