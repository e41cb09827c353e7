"""PSNR and SSIM of images that are aligned first, as RealBlur is evaluated.

RealBlur's two cameras do not see quite the same picture, so a result is matched to the ground truth
in intensity and by a homography before it is compared (Rim et al., "Real-World Blur Dataset for
Learning and Benchmarking Deblurring Algorithms", 2020, after Koehler et al., 2012). Images are
(H, W, 3) RGB, float32 in [0, 1].
"""

from dataclasses import dataclass

import cv2
import numpy as np
from skimage.metrics import structural_similarity

from c2fdft_arch.common.free_memory import free_memory
from c2fdft_model.evaluation.image_metrics import row_bands, size_of
from c2fdft_model.evaluation.problems import ItemError

ECC_ITERATIONS = 100
ECC_BLUR = 5
SSIM_BORDER = 5
PIXEL_BYTES = 150
"""Memory that aligning takes for each pixel, nearly all of it inside OpenCV's ECC (measured)."""
# An alignment that leaves less of the picture than this has diverged.
SMALLEST_OVERLAP = 0.5


class AlignmentError(ItemError):
    """The homography between a result and its ground truth was not found."""

    kind = 'not aligned'


class TooLargeError(ItemError):
    """More memory is needed than there is."""

    kind = 'too large'


@dataclass(frozen=True)
class Alignment:
    """A result warped onto its ground truth; `mask` (H, W) is 1 where both are known, else 0."""

    result: np.ndarray
    mask: np.ndarray
    homography: np.ndarray
    gain: float


def align(result: np.ndarray, gt: np.ndarray) -> Alignment:
    """Match the intensity of `result` to `gt` by one factor, then its geometry by ECC.

    Raises AlignmentError if the enhanced correlation coefficient does not converge or if the
    images would overlap by less than half.
    """
    gain = _gain(result, gt)
    matched = (gain * result).astype(np.float32, copy=False)
    del result
    homography = _find_homography(_grey(matched), _grey(gt))
    warped = _warp(matched, homography, cv2.INTER_CUBIC, cv2.BORDER_REFLECT)
    known = np.ones(gt.shape[:2], np.float32)
    mask = _warp(known, homography, cv2.INTER_NEAREST, cv2.BORDER_CONSTANT)
    if mask.mean() < SMALLEST_OVERLAP:
        raise AlignmentError(
            f'the alignment diverged: only {100 * mask.mean():.0f} % of the images overlap'
        )
    return Alignment(warped, mask, homography, gain)


def masked_psnr(aligned: Alignment, gt: np.ndarray) -> float:
    """PSNR in dB over the pixels that both images have; infinite if they are equal there."""
    squared = 0.0
    for top, bottom in row_bands(0, len(gt), gt):
        mask = aligned.mask[top:bottom, :, np.newaxis]
        difference = (gt[top:bottom] - aligned.result[top:bottom]) * mask
        squared += (difference**2).sum(dtype=np.float64)
    error = squared / (aligned.mask.sum(dtype=np.float64) * gt.shape[-1])
    return float('inf') if error == 0 else float(-10 * np.log10(error))


def masked_ssim(aligned: Alignment, gt: np.ndarray) -> float:
    """Gaussian SSIM of the masked images, averaged over the mask without a border of 5 pixels."""
    height, inside = len(gt), slice(SSIM_BORDER, -SSIM_BORDER)
    total = weight = 0.0
    for top, bottom in row_bands(SSIM_BORDER, height - SSIM_BORDER, gt):
        # with the rows around, so that every pixel has its whole window
        band = slice(top - SSIM_BORDER, bottom + SSIM_BORDER)
        mask = aligned.mask[band, :, np.newaxis]
        _, values = structural_similarity(
            gt[band] * mask,
            aligned.result[band] * mask,
            channel_axis=-1,
            gaussian_weights=True,
            use_sample_covariance=False,
            data_range=1.0,
            full=True,
        )
        weights = mask[inside, inside].astype(np.float64)
        total += float((values[inside, inside] * weights).sum())
        weight += float(weights.sum())
    return total / (weight * gt.shape[-1])


def check_memory(image: np.ndarray) -> None:
    """Raise TooLargeError if there is too little memory to align images of this size."""
    needed, free = image.shape[0] * image.shape[1] * PIXEL_BYTES, free_memory()
    if free is not None and needed > free:
        raise TooLargeError(
            f'to align {size_of(image)} takes {needed / 2**30:.1f} GiB of memory, and '
            f'{free / 2**30:.1f} GiB are free'
        )


def _gain(result: np.ndarray, gt: np.ndarray) -> float:
    """The factor that brings `result` nearest to `gt`. Raises AlignmentError if it is black."""
    energy = product = 0.0
    for top, bottom in row_bands(0, len(gt), gt):
        rows = result[top:bottom].astype(np.float64)
        energy += float(np.sum(rows**2))
        product += float(np.sum(gt[top:bottom] * rows))
    if energy == 0:
        raise AlignmentError('the alignment is impossible: the result is black')
    return product / energy


def _grey(image: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)


def _warp(image: np.ndarray, homography: np.ndarray, method: int, border: int) -> np.ndarray:
    height, width = image.shape[:2]
    flags = method | cv2.WARP_INVERSE_MAP
    return cv2.warpPerspective(image, homography, (width, height), flags=flags, borderMode=border)


def _find_homography(result: np.ndarray, gt: np.ndarray) -> np.ndarray:
    """Of two grey images (H, W) float32."""
    criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, ECC_ITERATIONS, 0)
    try:
        _, homography = cv2.findTransformECC(
            gt,
            result,
            np.eye(3, dtype=np.float32),
            cv2.MOTION_HOMOGRAPHY,
            criteria,
            None,
            ECC_BLUR,
        )
    except cv2.error as error:
        reason = ' '.join((error.err or str(error)).split()).rstrip('.')
        raise AlignmentError(
            f'the alignment did not converge ({reason or "OpenCV gave no reason"})'
        ) from error
    if not np.isfinite(homography).all():
        raise AlignmentError('the alignment did not converge (the homography is not finite)')
    return homography
