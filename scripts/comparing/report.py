"""The table and the picture of a comparison."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import cv2
import numpy as np


@dataclass(frozen=True)
class Row:
    """One system's line; None where a number has no meaning (the degraded input)."""

    system: str
    parameters_m: float | None = None
    iterations: int | None = None
    training_minutes: float | None = None
    gflop: float | None = None
    seconds_per_image: float | None = None
    peak_mib: float | None = None
    scores: Mapping[str, float] = field(default_factory=dict)

    def cells(self) -> dict[str, float | int | str | None]:
        """The line by column name, in the order of the columns."""
        values = asdict(self)
        scores = values.pop('scores')
        return {**values, **scores}


# Heading and format of each column that every comparison has.
COLUMNS = {
    'system': ('system', '{}'),
    'parameters_m': ('parameters (M)', '{:.2f}'),
    'iterations': ('iterations', '{:,}'),
    'training_minutes': ('training (min)', '{:.1f}'),
    'gflop': ('GFLOP', '{:,.1f}'),
    'seconds_per_image': ('s / image', '{:.2f}'),
    'peak_mib': ('peak memory (MiB)', '{:,.0f}'),
}
SCORE_FORMATS = {'psnr': ('PSNR (dB)', '{:.2f}')}
OTHER_SCORE = '{:.4f}'


def markdown(rows: Sequence[Row]) -> str:
    """The table in Markdown; numbers to the right."""
    names = list(dict.fromkeys(name for row in rows for name in row.cells()))
    headings = [_column(name)[0] for name in names]
    lines = [
        '| ' + ' | '.join(headings) + ' |',
        '|' + '|'.join('---' if name == 'system' else '---:' for name in names) + '|',
    ]
    for row in rows:
        cells = row.cells()
        texts = [_format(name, cells.get(name)) for name in names]
        lines.append('| ' + ' | '.join(texts) + ' |')
    return '\n'.join(lines) + '\n'


def _column(name: str) -> tuple[str, str]:
    if name in COLUMNS:
        return COLUMNS[name]
    return SCORE_FORMATS.get(name, (name.upper(), OTHER_SCORE))


def _format(name: str, value: float | int | str | None) -> str:
    return '' if value is None else _column(name)[1].format(value)


def csv_text(rows: Sequence[Row]) -> str:
    """The table as CSV, unrounded."""
    names = list(dict.fromkeys(name for row in rows for name in row.cells()))
    stream = io.StringIO()
    writer = csv.DictWriter(stream, names, lineterminator='\n')
    writer.writeheader()
    writer.writerows(row.cells() for row in rows)
    return stream.getvalue()


def write_table(folder: Path, rows: Sequence[Row], note: str) -> list[Path]:
    """Write table.md, table.csv and table.json; `note` says how it was made."""
    content = {
        'table.md': f'{markdown(rows)}\n{note}\n',
        'table.csv': csv_text(rows),
        'table.json': json.dumps({'note': note, 'rows': [r.cells() for r in rows]}, indent=2)
        + '\n',
    }
    for name, text in content.items():
        (folder / name).write_text(text)
    return [folder / name for name in content]


CELL = 256
GAP = 6
LABEL = 40
FONT = cv2.FONT_HERSHEY_SIMPLEX


def write_grid(
    path: Path,
    pictures: Mapping[str, Mapping[str, np.ndarray]],
    psnr: Mapping[str, Mapping[str, float]],
    detail: int,
) -> None:
    """Write the picture: a row for each image, a column for each of input, systems and truth.

    `pictures[image][column]` is (H, W, 3) uint8 RGB; each cell shows the same square of `detail`
    pixels, the one where input and truth differ most, enlarged. `psnr[image][column]` stands
    above its cell.
    """
    rows = []
    for image, columns in pictures.items():
        names = list(columns)
        top, left = worst_square(columns[names[0]], columns[names[-1]], detail)
        cells = []
        for name in names:
            square = columns[name][top : top + detail, left : left + detail]
            cells.append(_cell(square, name, psnr[image].get(name)))
        rows.append(np.concatenate(cells, axis=1))
    grid = np.concatenate(rows, axis=0)[..., ::-1]
    if not cv2.imwrite(str(path), np.ascontiguousarray(grid)):
        raise OSError(f'{path} could not be written.')


def worst_square(degraded: np.ndarray, truth: np.ndarray, side: int) -> tuple[int, int]:
    """Top left corner of the square of `side` pixels with the largest mean difference."""
    difference = np.abs(degraded.astype(np.float64) - truth).mean(axis=2)
    sums = np.pad(difference.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    height, width = (min(side, length) for length in difference.shape)
    window = (
        sums[height:, width:] - sums[:-height, width:] - sums[height:, :-width]
        + sums[:-height, :-width]
    )  # fmt: skip
    top, left = np.unravel_index(int(window.argmax()), window.shape)
    return int(top), int(left)


def _cell(square: np.ndarray, name: str, psnr: float | None) -> np.ndarray:
    cell = np.full((CELL + LABEL + GAP, CELL + GAP, 3), 255, np.uint8)
    height, width = square.shape[:2]
    scale = CELL / max(height, width)
    size = (max(round(width * scale), 1), max(round(height * scale), 1))
    cell[LABEL : LABEL + size[1], : size[0]] = cv2.resize(
        square, size, interpolation=cv2.INTER_CUBIC
    )
    cv2.putText(cell, name, (2, 16), FONT, 0.5, (0, 0, 0), 1, cv2.LINE_AA)
    if psnr is not None:
        cv2.putText(cell, f'{psnr:.2f} dB', (2, 34), FONT, 0.45, (90, 90, 90), 1, cv2.LINE_AA)
    return cell
