"""Tables of docs/results.md from what `scripts/replicate.py` wrote into report.json."""

from collections.abc import Mapping
from typing import Any

from c2fdft_model.experiments.tables import markdown_table
from replication import tables
from replication.experiments import LOSSES
from replication.goals import goal_table

Content = Mapping[str, Any]


def targets(content: Content) -> list[str]:
    """PSNR and SSIM by target, stage and network calls, a column for each task."""
    tasks = [entry['task'] for entry in content['degraded']]
    inputs = [f'{d["psnr"]:.2f} / {d["ssim"]:.3f}' for d in content['degraded']]
    keys = dict.fromkeys((c['target'], c['stage'], c['calls']) for c in content['cases'])
    cells = {
        (c['target'], c['stage'], c['calls'], c['task']): _psnr_ssim(c) for c in content['cases']
    }
    rows = [
        [
            target,
            stage,
            str(calls),
            *(cells.get((target, stage, calls, task), '–') for task in tasks),
        ]
        for target, stage, calls in keys
    ]
    return markdown_table(
        ['target', 'stage', 'calls', *tasks], [['degraded images', '', '', *inputs], *rows]
    )


def losses(content: Content) -> list[str]:
    """PSNR and SSIM of the trainings that differ in the fine loss, a column for each task."""
    tasks = [entry['task'] for entry in content['degraded']]
    cells = {(t['name'], t['task']): _psnr_ssim(t) for t in content['trainings']}
    rows = [
        [training.title, *(cells[training.name, task] for task in tasks)]
        for pair in LOSSES
        for training in pair
    ]
    return markdown_table(['training', *tasks], rows)


def goals(content: Content) -> list[str]:
    """What predicting the clean image is to bring, with verdicts."""
    return goal_table(content['goals'], content['plan']['seeds'])


def claims(content: Content) -> list[str]:
    """The claims of the paper and ours, with verdicts."""
    return tables.table(tables.without(tables.CLAIMS, 'each seed'), content['claims'])


def times(content: Content) -> list[str]:
    """Training until the PSNR that the noise target has at its end."""
    return tables.table({**tables.TASK, **tables.TIMES}, content['times'])


TABLES = {
    'targets': targets,
    'losses': losses,
    'goals': goals,
    'claims': claims,
    'times': times,
}


def _psnr_ssim(case: Mapping[str, Any]) -> str:
    return f'{tables.mean_spread(case["psnr"], 2, "")} / {tables.mean_spread(case["ssim"], 3, "")}'
