"""The table and the picture of a comparison."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from common.files import write_json
from common.images import write_png
from common.pictures import cell, label
from common.tables import markdown_table

Row = dict[str, Any]
"""A system's figures by column, all rows with the same columns; None where one has no meaning."""

# Heading and format of each column; those of other metrics follow from their names.
COLUMNS = {
    'system': ('system', '{}'),
    'parameters_m': ('parameters (M)', '{:.2f}'),
    'iterations': ('iterations', '{:,}'),
    'training_minutes': ('training (min)', '{:.1f}'),
    'gflop': ('GFLOP', '{:,.1f}'),
    'seconds_per_image': ('s / image', '{:.2f}'),
    'peak_mib': ('peak memory (MiB)', '{:,.0f}'),
    'psnr': ('PSNR (dB)', '{:.2f}'),
}
OTHER_METRIC = '{:.4f}'


def markdown(rows: Sequence[Row]) -> str:
    """The table in Markdown; figures to the right."""
    headings = [_column(name)[0] for name in rows[0]]
    cells = [[_format(name, value) for name, value in row.items()] for row in rows]
    return '\n'.join(markdown_table(headings, cells, right_aligned=headings[1:])) + '\n'


def _column(name: str) -> tuple[str, str]:
    return COLUMNS.get(name, (name.upper(), OTHER_METRIC))


def _format(name: str, value: Any) -> str:
    return '' if value is None else _column(name)[1].format(value)


def write_table(folder: Path, rows: Sequence[Row], note: str) -> list[Path]:
    """Write table.md, table.csv (unrounded) and table.json; `note` says how it was made."""
    paths = [folder / f'table.{ending}' for ending in ('md', 'csv', 'json')]
    paths[0].write_text(f'{markdown(rows)}\n{note}\n')
    with paths[1].open('w', newline='') as stream:
        writer = csv.DictWriter(stream, list(rows[0]), lineterminator='\n')
        writer.writeheader()
        writer.writerows(rows)
    write_json(paths[2], {'note': note, 'rows': rows})
    return paths


DETAIL = 96
"""Side of the square that is shown enlarged, in pixels."""
CELL = 260


def write_grid(
    path: Path,
    pictures: Mapping[str, Mapping[str, np.ndarray]],
    psnr: Mapping[str, Mapping[str, float]],
    detail: int = DETAIL,
) -> None:
    """Write the picture: a row for each image; the columns are input, systems and ground truth.

    `pictures[image][column]` is (H, W, 3) uint8 RGB; each cell shows the same square of `detail`
    pixels, the one where input and ground truth differ most, enlarged. `psnr[image][column]` stands
    above its cell.
    """
    rows = []
    for image, columns in pictures.items():
        names = list(columns)
        top, left = worst_square(columns[names[0]], columns[names[-1]], detail)
        cells = []
        for name in names:
            square = columns[name][top : top + detail, left : left + detail]
            text = f'{name}  {psnr[image][name]:.2f} dB' if name in psnr[image] else name
            cells.append(np.vstack([label(text, CELL), cell(square, CELL, CELL)]))
        rows.append(np.hstack(cells))
    write_png(path, np.vstack(rows)[..., ::-1])


def worst_square(degraded: np.ndarray, gt: np.ndarray, side: int) -> tuple[int, int]:
    """Top left corner of the square of `side` pixels with the largest mean difference."""
    difference = np.abs(degraded.astype(np.float64) - gt).mean(axis=2)
    sums = np.pad(difference.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    height, width = (min(side, length) for length in difference.shape)
    window = (
        sums[height:, width:] - sums[:-height, width:] - sums[height:, :-width]
        + sums[:-height, :-width]
    )  # fmt: skip
    top, left = np.unravel_index(int(window.argmax()), window.shape)
    return int(top), int(left)
