"""PSNR and SSIM of two images, as MATLAB's scripts and the papers of the field compute them."""

from functools import partial

import numpy as np
from scipy.ndimage import gaussian_filter
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

# Of R, G and B in the luma of BT.601, for the range 16 .. 235 (MATLAB's rgb2ycbcr).
BT601_LUMA = np.array([65.481, 128.553, 24.966]) / 255
BT601_OFFSET = 16.0

WINDOW_RADIUS = 5
WINDOW_SIGMA = 1.5


def luma(rgb: np.ndarray) -> np.ndarray:
    """Y of BT.601 of an RGB image (H, W, 3) in [0, 255], as float64 in 16 .. 235, not rounded."""
    return rgb.astype(np.float64) @ BT601_LUMA + BT601_OFFSET


def matlab_luma(rgb: np.ndarray) -> np.ndarray:
    """Y as MATLAB's `rgb2ycbcr` gives it for a uint8 image: rounded to integers, half up."""
    return np.floor(luma(rgb) + 0.5)


def psnr(image: np.ndarray, gt: np.ndarray, data_range: float) -> float:
    """Peak signal-to-noise ratio in dB over all values of two arrays; infinite if equal."""
    pair = gt.astype(np.float64), image.astype(np.float64)
    with np.errstate(divide='ignore'):
        return float(peak_signal_noise_ratio(*pair, data_range=data_range))


def ssim(image: np.ndarray, gt: np.ndarray, data_range: float) -> float:
    """SSIM with a Gaussian 11 x 11 window (sigma 1.5), pixels nearer than 5 to the border left out.

    Arrays (H, W) or (H, W, C); the mean over the channels. Equals the authors' `ssim_index.m` (Wang
    et al., 2004) and BasicSR's `calculate_ssim`. Raises ValueError for sides below 11.
    """
    window = 2 * WINDOW_RADIUS + 1
    if min(image.shape[:2]) < window:
        raise ValueError(f'SSIM needs sides of {window} pixels or more: this is {size_of(image)}.')
    similarity = structural_similarity(
        image.astype(np.float64),
        gt.astype(np.float64),
        data_range=data_range,
        channel_axis=-1 if image.ndim > 2 else None,
        gaussian_weights=True,
        sigma=WINDOW_SIGMA,
        use_sample_covariance=False,
    )
    return float(similarity)


def ssim_3d(image: np.ndarray, gt: np.ndarray, data_range: float) -> float:
    """SSIM as MATLAB's `ssim` gives it for an RGB array (H, W, 3), which it takes for a volume.

    The window is a Gaussian of 11 x 11 x 11 that also mixes the channels; borders are replicated,
    and all pixels count (Wang et al., 2004, Eq. 13). It is higher than `ssim`: the two must not be
    compared.
    """
    truncate = WINDOW_RADIUS / WINDOW_SIGMA
    smooth = partial(gaussian_filter, sigma=WINDOW_SIGMA, mode='nearest', truncate=truncate)
    x, y = image.astype(np.float64), gt.astype(np.float64)
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    mean_x, mean_y = smooth(x), smooth(y)
    variances = smooth(x * x) + smooth(y * y) - mean_x**2 - mean_y**2
    covariance = smooth(x * y) - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    return float((luminance * (2 * covariance + c2) / (variances + c2)).mean())


def size_of(image: np.ndarray) -> str:
    """`width x height` of an image (H, W, ...)."""
    return f'{image.shape[1]} x {image.shape[0]}'
