"""The table and the picture of a comparison."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from c2fdft_arch.common.atomic_write import replacing, write_bytes
from c2fdft_arch.common.hardware import description
from c2fdft_model.experiments.files import write_json
from c2fdft_model.experiments.images import write_png
from c2fdft_model.experiments.pictures import cell, label
from c2fdft_model.experiments.tables import markdown_table

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


def markdown(rows: Sequence[Row]) -> str:
    """The table in Markdown; figures to the right."""
    columns = {name: COLUMNS.get(name) or metric_column(name) for name in rows[0]}
    headings = [heading for heading, _ in columns.values()]
    cells = [
        ['' if value is None else columns[name][1].format(value) for name, value in row.items()]
        for row in rows
    ]
    return '\n'.join(markdown_table(headings, cells, right_aligned=headings[1:])) + '\n'


def metric_column(name: str) -> tuple[str, str]:
    """Heading and format of a metric, or of the standard deviation of one."""
    metric = name.removesuffix('_std')
    _, digits = COLUMNS.get(metric, ('', '{:.4f}'))
    return ('±' if name != metric else metric.upper()), digits


def write_table(folder: Path, rows: Sequence[Row], note: str, command: str) -> list[Path]:
    """Write table.md, table.csv (unrounded) and table.json, which names command and machine.

    `note` says how the figures were made.
    """
    paths = [folder / f'table.{ending}' for ending in ('md', 'csv', 'json')]
    write_bytes(paths[0], f'{markdown(rows)}\n{note}\n'.encode())
    with (
        replacing(paths[1]) as temporary,
        open(temporary, 'w', newline='', encoding='utf-8') as stream,
    ):
        writer = csv.DictWriter(stream, list(rows[0]), lineterminator='\n')
        writer.writeheader()
        writer.writerows(rows)
    origin = {'command': command, 'machine': description()}
    write_json(paths[2], {**origin, 'note': note, 'rows': rows})
    return paths


CELL = 260


def write_grid(
    path: Path,
    pictures: Mapping[str, Mapping[str, np.ndarray]],
    scores: Mapping[str, Mapping[str, Mapping[str, float]]],
    detail: int,
) -> None:
    """Write the picture: a row for each image; the columns are input, systems and ground truth.

    `pictures[image][column]` is (H, W, 3) uint8 RGB; each cell shows the same square of `detail`
    pixels, the one where input and ground truth differ most, enlarged. The PSNR of
    `scores[image][column]` stands above its cell.
    """
    rows = []
    for image, columns in pictures.items():
        names = list(columns)
        top, left = worst_square(columns[names[0]], columns[names[-1]], detail)
        cells = []
        for name in names:
            square = columns[name][top : top + detail, left : left + detail]
            metrics = scores[image].get(name)
            text = f'{name}  {metrics["psnr"]:.2f} dB' if metrics else name
            cells.append(np.vstack([label(text, CELL), cell(square, CELL, CELL)]))
        rows.append(np.hstack(cells))
    write_png(path, np.vstack(rows)[..., ::-1])


def worst_square(degraded: np.ndarray, gt: np.ndarray, side: int) -> tuple[int, int]:
    """Top left corner of the square of `side` pixels with the largest mean difference."""
    difference = cv2.absdiff(degraded, gt).sum(axis=2, dtype=np.float64)
    height, width = (min(side, length) for length in difference.shape)
    sums = cv2.boxFilter(difference, -1, (width, height), anchor=(0, 0), normalize=False)
    inside = sums[: sums.shape[0] - height + 1, : sums.shape[1] - width + 1]
    top, left = np.unravel_index(int(inside.argmax()), inside.shape)
    return int(top), int(left)
