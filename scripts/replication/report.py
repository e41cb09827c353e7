"""The report of a replication: tables with mean and spread, verdicts and plots, and as JSON."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from c2fdft_model.experiments.files import read_json, write_json
from c2fdft_model.experiments.tables import markdown_table
from replication import claims, experiments
from replication.claims import Claim, Metrics
from replication.experiments import TRAININGS, Training
from replication.figures import figures
from replication.goals import goal_table
from replication.runner import Plan, metrics_file
from replication.spread import FORMATS, mean_spread, metric_cell
from replication.targets import target_tables

TABLES = {
    'Table 5, patch cycle': ('fixed_patch', 'coarse'),
    'Table 6, t embedding': ('no_time_embedding', 'coarse'),
    'Table 7, coarse to fine': ('coarse', 'coarse_longer', 'fine'),
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
            parts.append(task_section(task, found, plots))
        else:
            parts.append(f'## {task}\n\nNothing is done yet.\n')
    text, data = folder / 'report.md', folder / 'report.json'
    text.write_text('\n'.join(parts), encoding='utf-8')
    write_json(data, content)
    return text, data


def _goals(content: dict[str, Any]) -> str:
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


def task_section(task: str, metrics: Metrics, plots: Sequence[Path]) -> str:
    """The section of one task: claims, tables and plots."""
    degraded = next(iter(next(iter(metrics.values())).values()))['degraded']
    lines = [
        f'## {task}',
        '',
        f'Degraded images: {degraded["psnr"]:.2f} dB, SSIM {degraded["ssim"]:.4f}.',
        '',
        *claims_table(metrics),
        '',
    ]
    for title, names in TABLES.items():
        rows = [row(TRAININGS[name], metrics[name]) for name in names if name in metrics]
        if len(rows) > 1:
            lines += [f'### {title}', '', *markdown_table(ROW_HEADS, rows), '']
    lines += target_tables(metrics)
    if 'coarse' in metrics:
        lines += ['### Table 4, sampling steps', '', *sweep_table(sweeps_of(metrics)), '']
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
        *(metric_cell(done, metric) for metric in ('psnr', 'ssim', 'lpips')),
        f'{base.title} + {iterations}' if base else iterations,
        metric_cell(done, 'training_seconds'),
    ]


def claims_table(metrics: Metrics) -> list[str]:
    """Each claim, the paper's and ours, with the differences found here and the verdict."""
    heads = ('table', 'claim', 'paper', 'here', 'each seed', 'verdict')
    rows = [
        row for claim in (*claims.CLAIMS, *claims.OUR_CLAIMS) if (row := _claim_row(claim, metrics))
    ]
    return markdown_table(heads, rows)


def _claim_row(claim: Claim, metrics: Metrics) -> list[str] | None:
    """None if the trainings that the claim is about are not done."""
    differences = claims.paired_differences(claim, metrics)
    head = [claim.table, claim.sentence, claim.paper]
    if not differences:
        lpips_missing = claim.metric == 'lpips' and 'coarse' in metrics
        return [*head, '–', '–', 'not measured (LPIPS is not there)'] if lpips_missing else None
    digits, unit = FORMATS[claim.metric]
    each = ', '.join(f'{difference:+.{digits}f}' for difference in differences)
    return [*head, mean_spread(differences, digits, unit, '+'), each, claims.verdict(differences)]


def sweeps_of(metrics: Metrics) -> list[dict[str, dict[str, float]]]:
    """Of each seed of the coarse training, the metrics by number of steps."""
    return [content['sweep'] for content in metrics.get('coarse', {}).values()]


def sweep_table(sweeps: list[dict[str, dict[str, float]]]) -> list[str]:
    """Quality and time of the coarse network against the number of steps."""
    rows = []
    for steps in sweeps[0]:
        done = [sweep[steps] for sweep in sweeps]
        rows.append(
            [steps, *(metric_cell(done, name) for name in ('psnr', 'ssim', 'lpips', 'seconds'))]
        )
    return markdown_table(('steps', 'PSNR', 'SSIM', 'LPIPS', 'time per image'), rows)


def draw(folder: Path, task: str, metrics: Metrics) -> list[Path]:
    """Plots of every training's PSNR, seed by seed, and of the sampling steps."""
    try:
        import matplotlib

        matplotlib.use('Agg')
        from matplotlib import pyplot
    except ImportError:
        return []
    names = [name for name in reversed(TRAININGS) if name in metrics]
    figure, axis = pyplot.subplots(figsize=(7, 0.8 + 0.32 * len(names)), layout='constrained')
    for place, name in enumerate(names):
        values = [content['psnr'] for content in metrics[name].values()]
        axis.plot(values, [place] * len(values), 'o', alpha=0.6)
        axis.plot(np.mean(values), place, 'k|', markersize=14)
    axis.set_yticks(range(len(names)), [TRAININGS[name].title for name in names])
    axis.set_xlabel(f'PSNR (dB), {task}; dots are seeds')
    axis.grid(axis='x', alpha=0.3)
    figures = {'trainings': figure}
    if sweeps := sweeps_of(metrics):
        figures['steps'], axis = pyplot.subplots(figsize=(5, 3.4), layout='constrained')
        for sweep in sweeps:
            axis.plot([int(s) for s in sweep], [m['psnr'] for m in sweep.values()], 'o-', alpha=0.6)
        axis.set_xscale('log')
        axis.set_xlabel('sampling steps; lines are seeds')
        axis.set_ylabel(f'PSNR (dB), {task}')
        axis.grid(alpha=0.3)
    paths = [folder / f'{task}_{name}.png' for name in figures]
    for path, figure in zip(paths, figures.values(), strict=True):
        figure.savefig(path, dpi=120)
        pyplot.close(figure)
    return paths
