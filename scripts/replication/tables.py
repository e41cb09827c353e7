"""The tables of a replication in Markdown, from its figures (`figures.figures`).

A table is a mapping from each column's heading to how an entry of the figures shows in it.
"""

from collections.abc import Callable, Iterable, Mapping
from operator import itemgetter
from typing import Any

from c2fdft_model.experiments.tables import markdown_table
from replication.experiments import TRAININGS

Entry = Mapping[str, Any]
Columns = Mapping[str, Callable[[Entry], str]]

NOTHING = '–'
FORMATS = {'psnr': (2, ' dB'), 'ssim': (4, ''), 'lpips': (4, '')}
"""Digits and unit of the metrics of images."""


def table(columns: Columns, entries: Iterable[Entry]) -> list[str]:
    """The lines of a table with a row for each entry."""
    rows = [[cell(entry) for cell in columns.values()] for entry in entries]
    return markdown_table(list(columns), rows)


def mean_spread(found: Mapping[str, Any] | None, digits: int, unit: str, sign: str = '-') -> str:
    """'31.62 ± 0.05 dB', without the spread for a single seed; '–' if nothing was measured."""
    if found is None:
        return NOTHING
    deviation = '' if found['std'] is None else f' ± {found["std"]:.{digits}f}'
    return f'{found["mean"]:{sign}.{digits}f}{deviation}{unit}'


def _metric(name: str, digits: int, unit: str) -> Callable[[Entry], str]:
    return lambda entry: mean_spread(entry.get(name), digits, unit)


def _of_all_seeds(name: str, digits: int, unit: str) -> Callable[[Entry], str]:
    """A figure that only stands where every seed reaches the quality."""

    def cell(entry: Entry) -> str:
        reached = entry['reached'] == entry['seeds']
        return mean_spread(entry.get(name) if reached else None, digits, unit)

    return cell


def _iterations(entry: Entry) -> str:
    """`coarse + 108` for a training that starts from another."""
    base = TRAININGS[entry['name']].base
    return f'{TRAININGS[base].title} + {entry["iterations"]}' if base else str(entry['iterations'])


def _each_seed(entry: Entry) -> str:
    digits, _ = FORMATS[entry['metric']]
    return ', '.join(f'{value:+.{digits}f}' for value in entry['each']) or NOTHING


PSNR_SSIM: Columns = {
    'PSNR': _metric('psnr', *FORMATS['psnr']),
    'SSIM': _metric('ssim', *FORMATS['ssim']),
}
LPIPS: Columns = {'LPIPS': _metric('lpips', *FORMATS['lpips'])}
TIME: Columns = {'time per image': _metric('seconds', 2, ' s')}
SEEDS: Columns = {'seeds': lambda entry: str(entry['seeds'])}
TASK: Columns = {'task': itemgetter('task')}
CALLS: Columns = {'calls': lambda entry: str(entry['calls'])}

CASES: Columns = {
    'target': itemgetter('target'), 'stage': itemgetter('stage'), **CALLS, **SEEDS, **PSNR_SSIM,
    **TIME,
}  # fmt: skip
"""What the network predicts."""
TIMES: Columns = {
    'target': itemgetter('target'),
    **CALLS,
    'seeds that reach it': lambda entry: f'{entry["reached"]} of {entry["seeds"]}',
    'iterations': _of_all_seeds('iteration', 0, ''),
    'training time': _of_all_seeds('seconds', 0, ' s'),
    'times fewer iterations': _of_all_seeds('ratio', 1, ''),
    'times less time': _of_all_seeds('seconds_ratio', 1, ''),
}
"""Training until the PSNR that the noise target has at its end."""
TRAINING: Columns = {
    'training': itemgetter('title'), **SEEDS, **PSNR_SSIM, **LPIPS, 'iterations': _iterations,
    'training time': _metric('training_seconds', 0, ' s'),
}  # fmt: skip
SWEEP: Columns = {'steps': lambda entry: str(entry['steps']), **PSNR_SSIM, **LPIPS, **TIME}
CLAIMS: Columns = {
    'table': itemgetter('table'),
    'claim': itemgetter('sentence'),
    **TASK,
    'paper': itemgetter('paper'),
    'here': lambda entry: mean_spread(entry['difference'], *FORMATS[entry['metric']], sign='+'),
    'each seed': _each_seed,
    'verdict': itemgetter('verdict'),
}


def without(columns: Columns, heading: str) -> Columns:
    """The columns but one."""
    return {name: cell for name, cell in columns.items() if name != heading}
