"""The demo's result: scores, table, picture and JSON of the held-out photographs."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import cv2
import numpy as np

from c2fdft_arch.common.hardware import description
from c2fdft_model.experiments.files import write_json
from c2fdft_model.experiments.images import write_png
from c2fdft_model.experiments.pictures import cell, label
from c2fdft_model.experiments.tables import means
from common.photographs import read_photo

VERSIONS = ('input', 'coarse', 'fine')
TITLES = {
    'input': 'rainy input',
    'coarse': 'coarse',
    'fine': 'fine',
    'target': 'ground truth',
}
CELL = (480, 320)  # width and height in pixels
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
            images[name][version] = read_photo(folder / f'{name}{ending}')
    return images


def score(images: Mapping[str, Mapping[str, np.ndarray]]) -> Scores:
    """PSNR and SSIM on the Y channel against the ground truth, with BasicSR's own metrics."""
    from basicsr.metrics import calculate_psnr, calculate_ssim

    scores: Scores = {photo: {} for photo in images}
    for photo, by in images.items():
        for version in VERSIONS:
            pair = by[version], by['target']
            scores[photo][version] = {
                'psnr': float(calculate_psnr(*pair, crop_border=0, test_y_channel=True)),
                'ssim': float(calculate_ssim(*pair, crop_border=0, test_y_channel=True)),
            }
    return scores


def mean_scores(scores: Scores) -> dict[str, dict[str, float]]:
    """The mean over the photographs, {version: {'psnr', 'ssim'}}."""
    return {version: means([by[version] for by in scores.values()]) for version in VERSIONS}


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
        lines.append(name.ljust(first) + cells)
    return '\n'.join(line.rstrip() for line in lines)


def gains(scores: Scores) -> str:
    """One line: what the fine stage bought."""
    mean = {version: value['psnr'] for version, value in mean_scores(scores).items()}
    return (
        f'fine is {mean["fine"] - mean["input"]:+.2f} dB from the rainy input and '
        f'{mean["fine"] - mean["coarse"]:+.2f} dB from coarse (mean PSNR on Y)'
    )


def write_summary(path: Path, scores: Scores, seconds: Mapping[str, float], command: str) -> None:
    """Write scores, means, the seconds of the stages, command and machine as JSON."""
    summary = {
        'command': command,
        'machine': description(),
        'photos': {photo: _rounded(by_version) for photo, by_version in scores.items()},
        'mean': _rounded(mean_scores(scores)),
        'seconds': {stage: round(value, 1) for stage, value in seconds.items()},
    }
    write_json(path, summary)


def _rounded(scores: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float]]:
    return {
        version: {name: round(value, 4) for name, value in metrics.items()}
        for version, metrics in scores.items()
    }


def write_comparison(
    path: Path, images: Mapping[str, Mapping[str, np.ndarray]], scores: Scores
) -> None:
    """Write the picture: rainy | coarse | fine | ground truth, a photograph per pair of rows.

    The first row of a pair shows the whole photograph, the second its middle, enlarged.
    """
    rows = [row for photo, by in images.items() for row in _rows(by, scores[photo])]
    write_png(path, np.vstack(rows))


def _rows(
    by: Mapping[str, np.ndarray], scores: Mapping[str, Mapping[str, float]]
) -> Iterator[np.ndarray]:
    """The rows of one photograph: labels, whole images, middles."""
    texts = dict(TITLES)
    for version, metrics in scores.items():
        texts[version] += f'  {metrics["psnr"]:.2f} dB / {metrics["ssim"]:.3f}'
    yield np.hstack([label(text, CELL[0]) for text in texts.values()])
    yield np.hstack([cell(by[version], *CELL, cv2.INTER_AREA) for version in TITLES])
    yield np.hstack([cell(_middle(by[version]), *CELL) for version in TITLES])


def _middle(image: np.ndarray) -> np.ndarray:
    """The middle third of the image's width and height."""
    height, width = image.shape[:2]
    return image[height // 3 : height - height // 3, width // 3 : width - width // 3]
