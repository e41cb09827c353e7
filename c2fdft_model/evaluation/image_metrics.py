"""PSNR and SSIM of two images, as MATLAB's scripts and the papers of the field compute them."""

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
from scipy.ndimage import gaussian_filter
from skimage.metrics import mean_squared_error, structural_similarity

# Of R, G and B in the luma of BT.601, for the range 16 .. 235 (MATLAB's rgb2ycbcr).
BT601_LUMA = np.array([65.481, 128.553, 24.966]) / 255
BT601_OFFSET = 16.0

WINDOW_RADIUS = 5
WINDOW_SIGMA = 1.5

BAND_ELEMENTS = 2**20
"""Values that are compared at a time; a dozen float64 arrays of them exist."""

Convert = Callable[[np.ndarray], np.ndarray]
Similarity = Callable[[np.ndarray, np.ndarray], np.ndarray]


def _same(rows: np.ndarray) -> np.ndarray:
    return rows


def luma(rgb: np.ndarray) -> np.ndarray:
    """Y of BT.601 of an RGB image (H, W, 3) in [0, 255], as float64 in 16 .. 235, not rounded."""
    return rgb.astype(np.float64) @ BT601_LUMA + BT601_OFFSET


def matlab_luma(rgb: np.ndarray) -> np.ndarray:
    """Y as MATLAB's `rgb2ycbcr` gives it for a uint8 image: rounded to integers, half up."""
    return np.floor(luma(rgb) + 0.5)


def psnr(image: np.ndarray, gt: np.ndarray, data_range: float, convert: Convert = _same) -> float:
    """Peak signal-to-noise ratio in dB over all values of two arrays; infinite if equal.

    `convert`, such as `luma`, is applied to the rows of both.
    """
    total, count = 0.0, 0
    for top, bottom in row_bands(0, len(image), image):
        pair = [convert(part[top:bottom]).astype(np.float64) for part in (image, gt)]
        total += pair[0].size * float(mean_squared_error(*pair))
        count += pair[0].size
    error = total / max(1, count)
    return float('inf') if error == 0 else float(10 * np.log10(data_range**2 / error))


def ssim(image: np.ndarray, gt: np.ndarray, data_range: float, convert: Convert = _same) -> float:
    """SSIM with a Gaussian 11 x 11 window (sigma 1.5), pixels nearer than 5 to the border left out.

    Arrays (H, W) or (H, W, C); the mean over the channels. Equals the authors' `ssim_index.m` (Wang
    et al., 2004) and BasicSR's `calculate_ssim`. `convert`: see `psnr`. Raises ValueError for sides
    below 11.
    """
    window = 2 * WINDOW_RADIUS + 1
    if min(image.shape[:2]) < window:
        raise ValueError(f'SSIM needs sides of {window} pixels or more: this is {size_of(image)}.')

    def similarity(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        _, of_pixels = structural_similarity(
            x,
            y,
            data_range=data_range,
            channel_axis=-1 if x.ndim > 2 else None,
            gaussian_weights=True,
            sigma=WINDOW_SIGMA,
            use_sample_covariance=False,
            full=True,
        )
        return of_pixels[:, WINDOW_RADIUS:-WINDOW_RADIUS]

    return _mean_by_bands(image, gt, similarity, convert, WINDOW_RADIUS)


def ssim_3d(image: np.ndarray, gt: np.ndarray, data_range: float) -> float:
    """SSIM as MATLAB's `ssim` gives it for an RGB array (H, W, 3), which it takes for a volume.

    The window is a Gaussian of 11 x 11 x 11 that also mixes the channels; borders are replicated,
    and all pixels count (Wang et al., 2004, Eq. 13). It is higher than `ssim`: the two must not be
    compared.
    """
    truncate = WINDOW_RADIUS / WINDOW_SIGMA
    smooth = partial(gaussian_filter, sigma=WINDOW_SIGMA, mode='nearest', truncate=truncate)
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2

    def similarity(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        mean_x, mean_y = smooth(x), smooth(y)
        variances = smooth(x * x) + smooth(y * y) - mean_x**2 - mean_y**2
        covariance = smooth(x * y) - mean_x * mean_y
        luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
        return luminance * (2 * covariance + c2) / (variances + c2)

    return _mean_by_bands(image, gt, similarity, _same, 0)


def _mean_by_bands(
    image: np.ndarray, gt: np.ndarray, similarity: Similarity, convert: Convert, border: int
) -> float:
    """The mean similarity of the pixels, without `border` rows above and below.

    Row bands are compared with the rows around them, so that every pixel has its whole window, and
    images of any size take little memory.
    """
    height = len(image)
    total, count = 0.0, 0
    for top, bottom in row_bands(border, height - border, image):
        first, last = max(0, top - WINDOW_RADIUS), min(height, bottom + WINDOW_RADIUS)
        x, y = (convert(part[first:last]).astype(np.float64) for part in (image, gt))
        inner = similarity(x, y)[top - first : bottom - first]
        total += float(inner.sum())
        count += inner.size
    return total / count


def row_bands(first: int, last: int, image: np.ndarray) -> Iterator[tuple[int, int]]:
    """The rows from `first` to `last` in bands of at most `BAND_ELEMENTS` values."""
    rows = max(1, BAND_ELEMENTS // max(1, int(np.prod(image.shape[1:]))))
    for top in range(first, last, rows):
        yield top, min(top + rows, last)


def size_of(image: np.ndarray) -> str:
    """`width x height` of an image (H, W, ...)."""
    return f'{image.shape[1]} x {image.shape[0]}'
