"""The report of a replication: tables with mean and spread, verdicts and plots, and as JSON."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from c2fdft_model.experiments.files import read_json, write_json
from replication import experiments, tables
from replication.claims import Metrics
from replication.experiments import TRAININGS
from replication.figures import figures
from replication.goals import goal_table
from replication.runner import Plan, metrics_file

TABLES = {
    'Table 5, patch cycle': ('fixed_patch', 'coarse'),
    'Table 6, t embedding': ('no_time_embedding', 'coarse'),
    'Table 7, coarse to fine': ('coarse', 'coarse_longer', 'fine'),
    'Beyond the paper, PSNR in place of L1 in the fine stage': tuple(
        training.name for pair in experiments.LOSSES for training in pair
    ),
    'Beyond the paper, what the fine stage is made of': (
        'fine',
        *(training.name for training in experiments.BEYOND),
    ),
}


def read_metrics(folder: Path, plan: Plan, task: str) -> Metrics:
    """The metrics of every training of a task that is done."""
    metrics: Metrics = {}
    for name in TRAININGS:
        for seed in range(plan.seeds):
            content = read_json(metrics_file(folder, task, seed, name))
            if content:
                metrics.setdefault(name, {})[seed] = content
    return metrics


def write_report(
    folder: Path, plan: Plan, rows: Sequence[str], with_plots: bool = True
) -> tuple[Path, Path]:
    """Write `report.md`, its plots and `report.json` from whatever is done; returns both paths."""
    metrics = {task: read_metrics(folder, plan, task) for task in plan.tasks}
    content = figures(plan, rows, metrics)
    parts = [_head(plan), _goals(content)]
    for task, found in metrics.items():
        if found:
            plots = draw(folder, task, found) if with_plots else []
            parts.append(task_section(task, content, plots))
        else:
            parts.append(f'## {task}\n\nNothing is done yet.\n')
    text, data = folder / 'report.md', folder / 'report.json'
    text.write_text('\n'.join(parts), encoding='utf-8')
    write_json(data, content)
    return text, data


def _goals(content: dict[str, Any]) -> str:
    if not content['goals']:
        return ''
    table = goal_table(content['goals'], content['plan']['seeds'])
    return '\n'.join(['## What predicting the clean image is to bring', '', *table, ''])


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
Fine training: {fine} iterations with S network calls on 1/S of the images (S = {experiments.STEPS}
where nothing is said), so that all iterations send the same number of pixels through the network.
Seeds: {plan.seeds}. Figures are mean ± standard deviation over the seeds, of the averaged weights.
A claim holds if every seed says so and the mean difference is at least twice its standard error.
"""


def task_section(task: str, content: dict[str, Any], plots: Sequence[Path]) -> str:
    """The section of one task: claims, tables and plots."""
    of_task = {
        key: [entry for entry in content[key] if entry['task'] == task]
        for key in ('degraded', 'claims', 'trainings', 'cases', 'times', 'sweep')
    }
    (degraded,) = of_task['degraded']
    trainings = {entry['name']: entry for entry in of_task['trainings']}
    claims = tables.table(tables.without(tables.CLAIMS, 'task'), of_task['claims'])
    lines = [
        f'## {task}',
        '',
        f'Degraded images: {degraded["psnr"]:.2f} dB, SSIM {degraded["ssim"]:.4f}.',
        '',
        *claims,
        '',
    ]
    for title, names in TABLES.items():
        done = [trainings[name] for name in names if name in trainings]
        if len(done) > 1:
            lines += [f'### {title}', '', *tables.table(tables.TRAINING, done), '']
    if any(case['target'] != 'noise' for case in of_task['cases']):
        lines += ['### What the network predicts', '']
        lines += [*tables.table(tables.CASES, of_task['cases']), '']
        if of_task['times']:
            title = "### Training until the PSNR of the paper's target at its end (a few images)"
            lines += [title, '', *tables.table(tables.TIMES, of_task['times']), '']
    if of_task['sweep']:
        lines += ['### Table 4, sampling steps', '']
        lines += [*tables.table(tables.SWEEP, of_task['sweep']), '']
    lines += [f'![{path.stem}]({path.name})' for path in plots]
    return '\n'.join(lines) + '\n'


def draw(folder: Path, task: str, metrics: Metrics) -> list[Path]:
    """Plots of every training's PSNR, seed by seed, and of the sampling steps."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return []
    names = [name for name in reversed(TRAININGS) if name in metrics]
    figure = Figure(figsize=(7, 0.8 + 0.32 * len(names)), layout='constrained')
    axis = figure.subplots()
    for place, name in enumerate(names):
        values = [content['psnr'] for content in metrics[name].values()]
        axis.plot(values, [place] * len(values), 'o', alpha=0.6)
        axis.plot(np.mean(values), place, 'k|', markersize=14)
    axis.set_yticks(range(len(names)), [TRAININGS[name].title for name in names])
    axis.set_xlabel(f'PSNR (dB), {task}; dots are seeds')
    axis.grid(axis='x', alpha=0.3)
    figures = {'trainings': figure}
    if 'coarse' in metrics:
        sweeps = [content['sweep'] for content in metrics['coarse'].values()]
        figures['steps'] = Figure(figsize=(5, 3.4), layout='constrained')
        axis = figures['steps'].subplots()
        for sweep in sweeps:
            axis.plot([int(s) for s in sweep], [m['psnr'] for m in sweep.values()], 'o-', alpha=0.6)
        axis.set_xscale('log')
        axis.set_xlabel('sampling steps; lines are seeds')
        axis.set_ylabel(f'PSNR (dB), {task}')
        axis.grid(alpha=0.3)
    paths = [folder / f'{task}_{name}.png' for name in figures]
    for path, figure in zip(paths, figures.values(), strict=True):
        figure.savefig(path, dpi=120)
    return paths
