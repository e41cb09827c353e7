"""The report of a replication: tables with mean and spread, verdicts and plots."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from replication import claims, experiments
from replication.experiments import TRAININGS, Training
from replication.runner import Plan, numbers_file

Numbers = dict[str, dict[int, dict[str, Any]]]
"""Numbers[training][seed], as they were written at its end."""

TABLES = {
    'Table 5, patch cycle': ('fixed_patch', 'coarse'),
    'Table 6, t embedding': ('no_time_embedding', 'coarse'),
    'Table 7, coarse to fine': ('coarse', 'coarse_longer', 'fine'),
    'Beyond the paper, what the fine stage is made of': (
        'fine',
        *(training.name for training in experiments.BEYOND),
    ),
}


def read_numbers(folder: Path, plan: Plan, task: str) -> Numbers:
    """The numbers of every training of a task that is done."""
    numbers: Numbers = {}
    for name in TRAININGS:
        for seed in range(plan.seeds):
            path = numbers_file(folder, task, seed, name)
            if path.exists():
                numbers.setdefault(name, {})[seed] = json.loads(path.read_text())
    return numbers


def write_report(folder: Path, plan: Plan, with_plots: bool = True) -> Path:
    """Write `report.md`, and its plots, from whatever is done."""
    parts = [_head(plan)]
    for task in plan.tasks:
        numbers = read_numbers(folder, plan, task)
        if numbers:
            plots = draw(folder, task, numbers) if with_plots else []
            parts.append(task_section(task, numbers, plots))
        else:
            parts.append(f'## {task}\n\nNothing is done yet.\n')
    path = folder / 'report.md'
    path.write_text('\n'.join(parts), encoding='utf-8')
    return path


def _head(plan: Plan) -> str:
    network = experiments.NETWORK
    photographs = plan.photographs or 'those of scikit-image'
    patches = ', '.join(
        f'{batch} of {size} x {size}'
        for size, batch in zip(experiments.PATCHES, experiments.COARSE_BATCHES, strict=True)
    )
    fine = experiments.FINE.iterations(plan.coarse_iterations)
    return f"""# Tables 4 to 7 at a small scale

A network of dim {network['dim']} and blocks {network['num_blocks']} on photographs ({photographs})
with synthetic degradations, tested on photographs that are not trained on. Coarse training:
{plan.coarse_iterations} iterations, batches cycling through {patches}.
Fine training: {fine} iterations on a quarter of the images, {experiments.STEPS} network calls each,
so that an iteration of either stage sends the same number of pixels through the network.
Seeds: {plan.seeds}. Numbers are mean ± standard deviation over the seeds, of the averaged weights.
A claim holds if every seed says so and the mean difference is at least twice its standard error.
"""


def task_section(task: str, numbers: Numbers, plots: Sequence[Path]) -> str:
    """All that there is to say of one task."""
    degraded = next(iter(next(iter(numbers.values())).values()))['degraded']
    lines = [
        f'## {task}',
        '',
        f'Degraded images: {degraded["psnr"]:.2f} dB, SSIM {degraded["ssim"]:.4f}.',
        '',
        *claims_table(numbers),
        '',
    ]
    for title, names in TABLES.items():
        rows = [row(TRAININGS[name], numbers[name]) for name in names if name in numbers]
        if len(rows) > 1:
            lines += [f'### {title}', '', *_table(ROW_HEADS, rows), '']
    if 'coarse' in numbers:
        lines += ['### Table 4, sampling steps', '', *sweep_table(numbers['coarse']), '']
    lines += [f'![{path.stem}]({path.name})' for path in plots]
    return '\n'.join(lines) + '\n'


ROW_HEADS = ('training', 'seeds', 'PSNR', 'SSIM', 'LPIPS', 'iterations', 'training time')


def row(training: Training, by_seed: dict[int, dict[str, Any]]) -> list[str]:
    """One line of a table."""
    done = list(by_seed.values())
    base = TRAININGS[training.base] if training.base else None
    iterations = str(done[0]['iterations'])
    return [
        training.title,
        str(len(done)),
        mean_spread(done, 'psnr', 2, ' dB'),
        mean_spread(done, 'ssim', 4),
        mean_spread(done, 'lpips', 4),
        f'{base.title} + {iterations}' if base else iterations,
        mean_spread(done, 'training_seconds', 0, ' s'),
    ]


def mean_spread(done: Sequence[dict[str, Any]], key: str, digits: int, unit: str = '') -> str:
    """'31.62 ± 0.05 dB', without the spread for a single seed; '–' if it was not measured."""
    values = [numbers[key] for numbers in done if key in numbers]
    if not values:
        return '–'
    text = f'{np.mean(values):.{digits}f}'
    if len(values) > 1:
        text += f' ± {np.std(values, ddof=1):.{digits}f}'
    return text + unit


def claims_table(numbers: Numbers) -> list[str]:
    """Each claim of the paper with the differences found here and the verdict."""
    rows = []
    sweeps = [by['sweep'] for by in numbers.get('coarse', {}).values() if 'sweep' in by]
    if sweeps:
        found = [
            ('PSNR is higher with 4 steps than with 2', '+19.94 dB', claims.two_steps_are_worse, 2),
            ('PSNR is higher with 4 steps than with 50', '+1.95 dB', claims.few_steps_are_best, 2),
            (
                'LPIPS is lower with 50 steps than with 4',
                '0.0221',
                claims.many_steps_look_better,
                4,
            ),
        ]
        rows += [_claim_row('4', text, paper, of(sweeps), d) for text, paper, of, d in found]
    for claim in claims.CLAIMS:
        verdict = claims.compare(numbers, claim.better, claim.worse, 'psnr')
        if verdict.differences:
            rows.append(_claim_row(claim.table, claim.sentence, f'{claim.paper} dB', verdict, 2))
    return _table(('table', 'claim', 'paper', 'here', 'each seed', 'verdict'), rows)


def _claim_row(table: str, text: str, paper: str, verdict, digits: int) -> list[str]:
    if verdict is None:
        return [table, text, paper, '–', '–', 'not measured (LPIPS is not there)']
    unit = ' dB' if digits == 2 else ''
    spread = '' if np.isnan(verdict.spread) else f' ± {verdict.spread:.{digits}f}'
    each = ', '.join(f'{difference:+.{digits}f}' for difference in verdict.differences)
    return [table, text, paper, f'{verdict.mean:+.{digits}f}{spread}{unit}', each, verdict.says]


def sweep_table(by_seed: dict[int, dict[str, Any]]) -> list[str]:
    """Quality and time of the coarse network against the number of steps."""
    sweeps = [numbers['sweep'] for numbers in by_seed.values()]
    rows = []
    for steps in sweeps[0]:
        done = [sweep[steps] for sweep in sweeps]
        rows.append(
            [
                steps,
                mean_spread(done, 'psnr', 2, ' dB'),
                mean_spread(done, 'ssim', 4),
                mean_spread(done, 'lpips', 4),
                mean_spread(done, 'seconds', 2, ' s'),
            ]
        )
    return _table(('steps', 'PSNR', 'SSIM', 'LPIPS', 'time per image'), rows)


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [f'| {" | ".join(heads)} |', '|---' * len(heads) + '|']
    return lines + [f'| {" | ".join(cells)} |' for cells in rows]


def draw(folder: Path, task: str, numbers: Numbers) -> list[Path]:
    """Plots of every training's PSNR, seed by seed, and of the sampling steps."""
    try:
        import matplotlib

        matplotlib.use('Agg')
        from matplotlib import pyplot
    except ImportError:
        return []
    names = [name for name in TRAININGS if name in numbers]
    figure, axis = pyplot.subplots(figsize=(7, 0.8 + 0.32 * len(names)), layout='constrained')
    for place, name in enumerate(reversed(names)):
        values = [done['psnr'] for done in numbers[name].values()]
        axis.plot(values, [place] * len(values), 'o', alpha=0.6)
        axis.plot(np.mean(values), place, 'k|', markersize=14)
    axis.set_yticks(range(len(names)), [TRAININGS[name].title for name in reversed(names)])
    axis.set_xlabel(f'PSNR (dB), {task}; dots are seeds')
    axis.grid(axis='x', alpha=0.3)
    paths = [folder / f'{task}_trainings.png']
    figure.savefig(paths[0], dpi=120)
    pyplot.close(figure)
    sweeps = [by['sweep'] for by in numbers.get('coarse', {}).values() if 'sweep' in by]
    if sweeps:
        figure, axis = pyplot.subplots(figsize=(5, 3.4), layout='constrained')
        for sweep in sweeps:
            axis.plot([int(s) for s in sweep], [n['psnr'] for n in sweep.values()], 'o-', alpha=0.6)
        axis.set_xscale('log')
        axis.set_xlabel('sampling steps; lines are seeds')
        axis.set_ylabel(f'PSNR (dB), {task}')
        axis.grid(alpha=0.3)
        paths.append(folder / f'{task}_steps.png')
        figure.savefig(paths[1], dpi=120)
        pyplot.close(figure)
    return paths
