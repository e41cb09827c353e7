"""The protocols that compare two image files."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from c2fdft_model.evaluation.aligned_metrics import (
    align,
    check_memory,
    masked_psnr,
    masked_ssim,
)
from c2fdft_model.evaluation.image_metrics import luma, matlab_luma, psnr, ssim, ssim_3d
from c2fdft_model.images.image_io import to_float

UNITS = {'psnr': 'dB'}

Measure = Callable[[Any, Any], dict[str, float]]
"""Metrics by name of a result and its ground truth. Raises ItemError where there are none."""


@dataclass(frozen=True)
class Protocol:
    """A way to compare results with a ground truth."""

    name: str
    description: str
    metrics: tuple[str, ...]
    """Names of what `measure` returns."""
    measure: Measure
    pixel_bytes: int = 16
    """Memory that measuring takes for each pixel, besides a fixed amount (measured)."""


def measure_luma(
    result: np.ndarray, gt: np.ndarray, to_luma: Callable[[np.ndarray], np.ndarray]
) -> dict[str, float]:
    """PSNR and SSIM of the luma of uint8 RGB images (H, W, 3)."""
    return {'psnr': psnr(result, gt, 255, to_luma), 'ssim': ssim(result, gt, 255, to_luma)}


def measure_rgb(result: np.ndarray, gt: np.ndarray, data_range: float) -> dict[str, float]:
    """PSNR and both kinds of SSIM of RGB images (H, W, 3) in [0, `data_range`]."""
    return {
        'psnr': psnr(result, gt, data_range),
        'ssim': ssim(result, gt, data_range),
        'ssim_3d': ssim_3d(result, gt, data_range),
    }


def measure_aligned(result: np.ndarray, gt: np.ndarray) -> dict[str, float]:
    """PSNR and SSIM of uint8 RGB images (H, W, 3) after their alignment, over the shared pixels."""
    check_memory(gt)
    gt = to_float(gt)
    aligned = align(to_float(result), gt)
    return {'psnr': masked_psnr(aligned, gt), 'ssim': masked_ssim(aligned, gt)}


def format_metrics(metrics: Mapping[str, float]) -> str:
    """Metrics in one line, as in `psnr 30.1234 dB  ssim 0.9123`."""
    return '  '.join(
        f'{name} {value:.4f} {UNITS.get(name, "")}'.rstrip() for name, value in metrics.items()
    )


def by_name(*protocols: Protocol) -> dict[str, Protocol]:
    """A table of protocols."""
    return {protocol.name: protocol for protocol in protocols}


IMAGE_PROTOCOLS = by_name(
    Protocol(
        'rain_y',
        "Y of MATLAB's rgb2ycbcr (BT.601, rounded to uint8), no crop; PSNR and Gaussian SSIM "
        'as the MATLAB scripts of the deraining papers compute them',
        ('psnr', 'ssim'),
        partial(measure_luma, to_luma=matlab_luma),
    ),
    Protocol(
        'rain_y_float',
        'the same Y not rounded, no crop; what test_y_channel of BasicSR and the released '
        'C2F-DFT script compute',
        ('psnr', 'ssim'),
        partial(measure_luma, to_luma=luma),
    ),
    Protocol(
        'gopro_rgb',
        'uint8 RGB, no crop; ssim is the mean over the channels (the C2F-DFT paper), ssim_3d '
        "is MATLAB's ssim() on the RGB array (most other papers)",
        ('psnr', 'ssim', 'ssim_3d'),
        partial(measure_rgb, data_range=255),
    ),
    Protocol(
        'realblur_aligned',
        'RGB in [0, 1], intensity matched and aligned by an ECC homography, PSNR and SSIM '
        'over the pixels both have',
        ('psnr', 'ssim'),
        measure_aligned,
        pixel_bytes=170,
    ),
)
