"""Figures of a model on the held-out photographs, beside what a person would use instead.

The settings of the others are the best for each image, found with the help of the ground truth,
which nobody who restores a photograph has: what is measured is the most that they can do.
"""

from collections.abc import Callable, Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np

from c2fdft_arch.common.hardware import description
from c2fdft_model.evaluation.protocols import get_protocol
from c2fdft_model.experiments.files import write_json
from c2fdft_model.experiments.images import to_tensor, to_uint8
from c2fdft_model.experiments.tables import means
from c2fdft_model.restoring.restoration import restore
from c2fdft_model.restoring.weights import load_network
from common.degradations import motion_kernel
from common.photographs import read_photo
from zoo import bm3d
from zoo.data import BLUR_LENGTH, held_out_rng
from zoo.photographs import HELD_OUT

PROTOCOL = get_protocol('gopro_rgb')
"""PSNR and SSIM of RGB images."""
Scores = dict[str, dict[str, dict[str, float]]]
"""Scores[photograph][method] is {'psnr': ..., 'ssim': ...}."""


def non_local_means(noisy: np.ndarray, _: str) -> Iterable[np.ndarray]:
    """OpenCV's, for a list of strengths."""
    return (cv2.fastNlMeansDenoisingColored(noisy, None, h, h) for h in (1, 2, 3, 5, 7, 10, 15, 20))


def wavelets(noisy: np.ndarray, _: str) -> Iterable[np.ndarray]:
    """scikit-image's, with the noise that it estimates and multiples of it."""
    from skimage.restoration import denoise_wavelet, estimate_sigma

    image = noisy.astype(np.float32) / 255
    sigma = float(np.mean(estimate_sigma(image, channel_axis=-1)))
    for factor in (0.5, 1, 1.5, 2, 3):
        yield rounded(
            denoise_wavelet(
                image, sigma=factor * sigma, channel_axis=-1, convert2ycbcr=True,
                rescale_sigma=True,
            )
        )  # fmt: skip


def median(rainy: np.ndarray, _: str) -> Iterable[np.ndarray]:
    """Of 3 x 3, 5 x 5 and 7 x 7 pixels."""
    return (cv2.medianBlur(rainy, size) for size in (3, 5, 7))


def unsharp_masking(blurred: np.ndarray, _: str) -> Iterable[np.ndarray]:
    """For a list of radii and amounts."""
    for radius in (1, 2, 4):
        smooth = cv2.GaussianBlur(blurred, None, radius).astype(np.float32)
        for amount in (0.3, 0.6, 1, 1.5):
            yield rounded((blurred + amount * (blurred - smooth)) / 255)


def richardson_lucy(blurred: np.ndarray, name: str) -> Iterable[np.ndarray]:
    """scikit-image's, told the kernel, which a person who restores a photograph does not know."""
    from skimage.restoration import richardson_lucy as deconvolve

    number = [photograph.name for photograph in HELD_OUT].index(name)
    rng = held_out_rng('deblur', number)
    kernel = motion_kernel(rng.uniform(*BLUR_LENGTH), rng)[::-1, ::-1]
    margin = kernel.shape[0]
    around = (margin, margin), (margin, margin), (0, 0)
    padded = np.pad(blurred, around, mode='symmetric').astype(np.float64) / 255
    inside = np.s_[margin:-margin, margin:-margin]
    for iterations in (5, 10, 20, 40):
        channels = [deconvolve(padded[..., c], kernel, iterations) for c in range(3)]
        yield rounded(np.stack(channels, axis=-1)[inside])


Rival = Callable[[np.ndarray, str], Iterable[np.ndarray]]
BM3D, WAVELETS = 'BM3D (VapourSynth)', 'wavelets (scikit-image)'
RIVALS: Mapping[str, Mapping[str, Rival]] = {
    'denoise': {
        'non-local means (OpenCV)': non_local_means,
        WAVELETS: wavelets,
        BM3D: bm3d.tried,
    },
    'derain': {'median': median},
    'deblur': {
        'unsharp masking': unsharp_masking,
        'Richardson-Lucy, kernel known': richardson_lucy,
    },
}


def measure(task: str, folder: Path, weights: Path, output: Path) -> Scores:
    """Restore the degraded images of `folder`, measure all methods and write `output`, a JSON file.

    What `left_out` names is left out. Raises WeightsError, or OSError for missing images.
    """
    network = load_network(weights)
    rivals = {name: tried for name, tried in RIVALS[task].items() if name not in left_out(task)}
    scores: Scores = {}
    for name, degraded, clean in read_pairs(folder):
        restored = restore(network, to_tensor(degraded), noise_name=name)
        scores[name] = {
            'degraded': metrics(degraded, clean),
            'model': metrics(to_uint8(restored), clean),
            **{rival: best(tried(degraded, name), clean) for rival, tried in rivals.items()},
        }
    if not scores:
        raise FileNotFoundError(f'{folder}/input has no images: write them with `zoo data`.')
    origin = {'command': f'python -m zoo measure {task} {weights}', 'machine': description()}
    write_json(output, {**origin, 'photographs': scores, 'mean': mean_scores(scores)})
    return scores


def left_out(task: str) -> dict[str, str]:
    """The methods of a task that are not installed, and what they need."""
    missing = {}
    if not bm3d.is_installed():
        missing[BM3D] = bm3d.INSTALL
    if find_spec('pywt') is None:
        missing[WAVELETS] = 'pip install PyWavelets'
    return {name: needed for name, needed in missing.items() if name in RIVALS[task]}


def read_pairs(folder: Path) -> Iterable[tuple[str, np.ndarray, np.ndarray]]:
    """Name, degraded and clean image, RGB."""
    for path in sorted((folder / 'input').glob('*.png')):
        degraded, clean = (read_photo(folder / side / path.name) for side in ('input', 'target'))
        yield path.stem, degraded[..., ::-1].copy(), clean[..., ::-1].copy()


def metrics(image: np.ndarray, clean: np.ndarray) -> dict[str, float]:
    """PSNR and SSIM of two images (H, W, 3) uint8, RGB."""
    return {key: float(PROTOCOL.measure(image, clean)[key]) for key in ('psnr', 'ssim')}


def best(tried: Iterable[np.ndarray], clean: np.ndarray) -> dict[str, float]:
    """The metrics of the image with the highest PSNR."""
    return max((metrics(image, clean) for image in tried), key=lambda found: found['psnr'])


def rounded(image: np.ndarray) -> np.ndarray:
    """[0, 1] to uint8."""
    return np.round(np.clip(image, 0, 1) * 255).astype(np.uint8)


def mean_scores(scores: Scores) -> dict[str, dict[str, float]]:
    methods = next(iter(scores.values()))
    return {method: means([by[method] for by in scores.values()]) for method in methods}


def table(scores: Scores) -> str:
    """A line for each photograph and method, and the means."""
    lines = []
    for name, by_method in [*scores.items(), ('mean', mean_scores(scores))]:
        for method, found in by_method.items():
            lines.append(f'{name:<36}{method:<32}{found["psnr"]:7.2f}{found["ssim"]:8.4f}')
    return '\n'.join(lines)
