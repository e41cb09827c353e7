"""Tables of docs/speed.md from what `scripts/benchmark.py` measured on a CPU."""

from collections.abc import Mapping
from typing import Any

from c2fdft_model.experiments.tables import markdown_table

Content = Mapping[str, Any]
SETTINGS = {
    'plain': 'plain',
    'default': 'default (float32)',
    'checkpoint_steps': '`checkpoint: steps`',
    'checkpoint_blocks': '`checkpoint: blocks`',
    'grad_steps_1': '`grad_steps: 1`',
    'accumulate_4': '`accumulate: 4`',
    'bf16': '`amp: bf16`',
    'bf16_checkpoint_blocks': '`amp: bf16`, `checkpoint: blocks`',
    'compile': '`compile: true`',
}
"""A setting of `benchmark.py train` -> the keys of an option file."""


def training_iterations(content: Content) -> list[str]:
    """Seconds and memory of an iteration by setting, and relative to the plain network."""
    plain_memory = {
        (c['stage'], c['patch']): c['peak_memory_mb']
        for c in content['cases']
        if c['setting'] == 'plain'
    }
    rows = []
    for case in content['cases']:
        seconds, memory = case['seconds'], case['peak_memory_mb']
        rows.append(
            [
                f'{case["stage"]}, {case["batch"]} x {case["patch"]} x {case["patch"]}',
                SETTINGS[case['setting']],
                f'{seconds:.2f}',
                f'{case["plain_seconds"] / seconds:.2f}',
                f'{memory / 1024:.1f}',
                f'{memory / plain_memory[case["stage"], case["patch"]]:.2f}',
            ]
        )
    headings = ['iteration', 'setting', 'seconds', 'times faster', 'memory (GiB)', "of plain's"]
    return markdown_table(headings, rows, right_aligned=headings[2:])


def restoring_calls(content: Content) -> list[str]:
    """Seconds and extra memory of a network call by size and precision."""
    rows = []
    for case in content['cases']:
        seconds, memory = case['seconds_per_call'], case['extra_memory_mb']
        plain_seconds, plain_memory = case['plain_seconds_per_call'], case['plain_extra_memory_mb']
        rows.append(
            [
                f'{case["height"]} x {case["width"]}',
                case['precision'],
                f'{seconds:.2f}',
                f'{plain_seconds / seconds:.2f}' if plain_seconds else '',
                f'{memory:.0f}',
                f'{memory / plain_memory:.2f}' if plain_memory else '',
                f'{case["matmul_share"]:.0%}',
            ]
        )
    headings = ['image', 'precision', 'seconds', 'times faster than plain', 'extra memory (MiB)']
    headings += ["of plain's", 'of the matrix-product rate']
    return markdown_table(headings, rows, right_aligned=headings[2:])


def data_phases(content: Content) -> list[str]:
    """Milliseconds per iteration of the ways to read training data, by phase."""
    rows = []
    raw = next(route['ours_ms'] for route in content['routes'] if '--store raw' in route['route'])
    for phase, raw_ms in zip(content['phases'], raw, strict=True):
        ours, others = phase['ours_ms'], [phase['basicsr_ms'], phase['released_scheme_ms']]
        times = ', '.join(f'{other / ours:.1f}' for other in others)
        cells = [f'{ms:,.0f}' for ms in (ours, raw_ms, *others)]
        rows.append([f'{phase["patch"]}, {phase["batch"]}', *cells, times])
    headings = ['patch, batch', 'this data set', '`--store raw`', "BasicSR's, same patch and batch"]
    headings += ['the released scheme', 'times faster than these two']
    return markdown_table(headings, rows, right_aligned=headings[1:])


TABLES = {
    'training_iterations': training_iterations,
    'restoring_calls': restoring_calls,
    'data_phases': data_phases,
}
