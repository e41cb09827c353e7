"""Tables of docs/results.md from what `scripts/replicate.py` wrote into report.json."""

from collections.abc import Mapping
from typing import Any

from c2fdft_model.experiments.tables import markdown_table
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


def goals(content: Content) -> list[str]:
    """What predicting the clean image is to bring, with verdicts."""
    return goal_table(content['goals'], content['plan']['seeds'])


def claims(content: Content) -> list[str]:
    """The claims of the paper and ours, with verdicts."""
    rows = [
        [
            entry['table'],
            entry['sentence'],
            entry['task'],
            entry['paper'],
            _spread(entry['difference'], *((2, ' dB') if entry['metric'] == 'psnr' else (4, ''))),
            entry['verdict'],
        ]
        for entry in content['claims']
    ]
    return markdown_table(['table', 'claim', 'task', 'paper', 'here', 'verdict'], rows)


def times(content: Content) -> list[str]:
    """Training until the PSNR that the noise target has at its end."""
    rows = []
    for entry in content['times']:
        reached = entry['reached'] == entry['seeds']
        forms = {
            'iteration': (0, ''),
            'seconds': (0, ' s'),
            'ratio': (1, ''),
            'seconds_ratio': (1, ''),
        }
        rows.append(
            [
                *(str(entry[key]) for key in ('task', 'target', 'calls')),
                f'{entry["reached"]} of {entry["seeds"]}',
                *(
                    _spread(entry[key], *form, '') if reached and key in entry else '–'
                    for key, form in forms.items()
                ),
            ]
        )
    shorter = ('iterations', 'training time', 'times fewer iterations', 'times less time')
    return markdown_table(['task', 'target', 'calls', 'seeds that reach it', *shorter], rows)


TABLES = {'targets': targets, 'goals': goals, 'claims': claims, 'times': times}


def _psnr_ssim(case: Mapping[str, Any]) -> str:
    return f'{_spread(case["psnr"], 2, "", "")} / {_spread(case["ssim"], 3, "", "")}'


def _spread(found: Mapping[str, float | None], digits: int, unit: str, sign: str = '+') -> str:
    """'31.62 ± 0.05 dB', without the spread where there is none."""
    deviation = '' if found['std'] is None else f' ± {found["std"]:.{digits}f}'
    return f'{found["mean"]:{sign}.{digits}f}{deviation}{unit}'
