"""Tables of what `c2fdft compare` and `python -m zoo measure` wrote."""

from collections.abc import Mapping
from typing import Any

from c2fdft_model.experiments.tables import markdown_table

Content = Mapping[str, Any]
COSTS = {
    'parameters (M)': ('parameters_m', '{:.2f}'),
    'iterations': ('iterations', '{:,}'),
    'GFLOP per image': ('gflop', '{:,.0f}'),
}
"""Heading -> column of a comparison, and its format."""
RESTORING = {
    's per image': ('seconds_per_image', '{:.1f}'),
    'peak memory (MiB)': ('peak_mib', '{:,.0f}'),
}
"""The same for what was measured while restoring, on an idle machine."""


def systems(content: Content) -> list[str]:
    """What each system of `compare` costs and reaches, with the spread over its seeds."""
    return _systems(content, COSTS)


def systems_restoring(content: Content) -> list[str]:
    """The same with seconds and memory of a restoration."""
    return _systems(content, COSTS | RESTORING)


def _systems(content: Content, columns: Mapping[str, tuple[str, str]]) -> list[str]:
    rows = []
    for row in content['rows']:
        costs = [
            '' if row[name] is None else form.format(row[name]) for name, form in columns.values()
        ]
        rows.append([row['system'], *costs, _metric(row, 'psnr', 2), _metric(row, 'ssim', 3)])
    headings = ['system', *columns, 'PSNR (dB)', 'SSIM']
    return markdown_table(headings, rows, right_aligned=tuple(columns))


def photographs(content: Content) -> list[str]:
    """PSNR and SSIM of each photograph and of their mean by method, from `zoo measure`."""
    methods = list(content['mean'])
    by_name = {**content['photographs'], 'mean': content['mean']}
    rows = [
        [name, *(f'{found[m]["psnr"]:.2f} / {found[m]["ssim"]:.4f}' for m in methods)]
        for name, found in by_name.items()
    ]
    return markdown_table(['photograph', *methods], rows)


def _metric(row: Mapping[str, Any], name: str, digits: int) -> str:
    spread = row.get(f'{name}_std')
    return f'{row[name]:.{digits}f}' + ('' if spread is None else f' ± {spread:.{digits}f}')


TABLES = {
    'systems': systems,
    'systems_restoring': systems_restoring,
    'photographs': photographs,
}
