"""The demo's result: scores, table, picture and JSON of the held-out photographs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np

VERSIONS = ('input', 'coarse', 'fine')
TITLES = {
    'input': 'rainy input',
    'coarse': 'coarse',
    'fine': 'fine',
    'target': 'ground truth',
}
Scores = dict[str, dict[str, dict[str, float]]]
"""Scores[photo][version] is {'psnr': ..., 'ssim': ...}."""


def read_results(folders: Mapping[str, tuple[Path, str]]) -> dict[str, dict[str, np.ndarray]]:
    """Read the images of every version, {photo: {version: (H, W, 3) uint8, BGR}}.

    `folders` gives for each of input, coarse, fine and target the folder and what follows the
    photo's name in its file names. Raises FileNotFoundError naming the missing image.
    """
    target_folder, ending = folders['target']
    names = sorted(path.name.removesuffix(ending) for path in target_folder.glob(f'*{ending}'))
    if not names:
        raise FileNotFoundError(f'{target_folder} holds no image that ends in {ending}.')
    images: dict[str, dict[str, np.ndarray]] = {name: {} for name in names}
    for version, (folder, ending) in folders.items():
        for name in names:
            image = cv2.imread(str(folder / f'{name}{ending}'), cv2.IMREAD_COLOR)
            if image is None:
                raise FileNotFoundError(f'{folder / f"{name}{ending}"} is missing or unreadable.')
            images[name][version] = image
    return images


def score(images: Mapping[str, Mapping[str, np.ndarray]]) -> Scores:
    """PSNR and SSIM on the Y channel against the ground truth, with BasicSR's own metrics."""
    from basicsr.metrics import calculate_psnr, calculate_ssim

    metrics = {'psnr': calculate_psnr, 'ssim': calculate_ssim}
    return {
        photo: {
            version: {
                name: float(metric(by[version], by['target'], crop_border=0, test_y_channel=True))
                for name, metric in metrics.items()
            }
            for version in VERSIONS
        }
        for photo, by in images.items()
    }


def mean_scores(scores: Scores) -> dict[str, dict[str, float]]:
    """The mean over the photographs, {version: {'psnr', 'ssim'}}."""
    return {
        version: {
            metric: float(np.mean([by_version[version][metric] for by_version in scores.values()]))
            for metric in ('psnr', 'ssim')
        }
        for version in VERSIONS
    }


def table(scores: Scores) -> str:
    """The scores as text, a line per photograph and the mean."""
    first = max(len(name) for name in [*scores, 'photo']) + 2
    lines = [
        ' ' * first + ''.join(f'{TITLES[version]:^19}' for version in VERSIONS),
        'photo'.ljust(first) + f'{"PSNR":>9}{"SSIM":>8}  ' * len(VERSIONS),
    ]
    lines.append('-' * len(lines[1].rstrip()))
    for name, by_version in [*scores.items(), ('mean', mean_scores(scores))]:
        values = (by_version[version] for version in VERSIONS)
        cells = ''.join(f'{value["psnr"]:9.2f}{value["ssim"]:8.3f}  ' for value in values)
        lines.append((name.ljust(first) + cells).rstrip())
    return '\n'.join(line.rstrip() for line in lines)


def gains(scores: Scores) -> str:
    """One line: what the fine stage bought."""
    mean = {version: value['psnr'] for version, value in mean_scores(scores).items()}
    return (
        f'fine is {mean["fine"] - mean["input"]:+.2f} dB from the rainy input and '
        f'{mean["fine"] - mean["coarse"]:+.2f} dB from coarse (mean PSNR on Y)'
    )


def write_summary(path: Path, scores: Scores, seconds: Mapping[str, float]) -> None:
    """Write scores, means and the seconds of the stages as JSON."""
    rounded = {
        photo: {version: _rounded(values) for version, values in by_version.items()}
        for photo, by_version in scores.items()
    }
    means = {version: _rounded(values) for version, values in mean_scores(scores).items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    summary = {
        'photos': rounded,
        'mean': means,
        'seconds': {k: round(v, 1) for k, v in seconds.items()},
    }
    path.write_text(json.dumps(summary, indent=2) + '\n')


def _rounded(values: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value, 4) for name, value in values.items()}


def write_comparison(
    path: Path, images: Mapping[str, Mapping[str, np.ndarray]], scores: Scores
) -> None:
    """Write the picture: rainy | coarse | fine | ground truth, a photograph per pair of rows.

    The first row of a pair shows the whole photograph, the second its middle, enlarged.
    """
    rows = [row for photo, by in images.items() for row in _rows(by, scores[photo])]
    path.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(path), np.vstack(rows)):
        raise OSError(f'{path} could not be written.')


def _rows(by: Mapping[str, np.ndarray], scores: Mapping[str, Mapping[str, float]]):
    """The rows of one photograph: labels, whole images, middles."""
    labels = [_label(version, scores.get(version)) for version in TITLES]
    yield np.hstack(labels)
    yield np.hstack([_cell(by[version], cv2.INTER_AREA) for version in TITLES])
    yield np.hstack([_cell(_middle(by[version]), cv2.INTER_CUBIC) for version in TITLES])


CELL = (480, 320)  # width and height in pixels
GAP = 4
LABEL_HEIGHT = 34


def _label(version: str, values: Mapping[str, float] | None) -> np.ndarray:
    text = TITLES[version]
    if values is not None:
        text += f'  {values["psnr"]:.2f} dB / {values["ssim"]:.3f}'
    label = np.full((LABEL_HEIGHT, CELL[0], 3), 255, np.uint8)
    black, place = (0, 0, 0), (8, LABEL_HEIGHT - 11)
    return cv2.putText(label, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.62, black, 1, cv2.LINE_AA)


def _cell(image: np.ndarray, interpolation: int) -> np.ndarray:
    """The image scaled into a cell of its own aspect, on white."""
    height, width = image.shape[:2]
    scale = min((CELL[0] - GAP) / width, (CELL[1] - GAP) / height)
    size = (max(round(width * scale), 1), max(round(height * scale), 1))
    cell = np.full((CELL[1], CELL[0], 3), 255, np.uint8)
    top, left = (CELL[1] - size[1]) // 2, (CELL[0] - size[0]) // 2
    cell[top : top + size[1], left : left + size[0]] = cv2.resize(
        image, size, None, 0, 0, interpolation
    )
    return cell


def _middle(image: np.ndarray) -> np.ndarray:
    """The middle third of the image's width and height."""
    height, width = image.shape[:2]
    return image[height // 3 : height - height // 3, width // 3 : width - width // 3]
