"""The protocols by name."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from c2fdft_model.evaluation import blocks
from c2fdft_model.evaluation.aligned_metrics import align, masked_psnr, masked_ssim
from c2fdft_model.evaluation.evaluation_set import EvaluationSet, Measure
from c2fdft_model.evaluation.image_metrics import luma, matlab_luma, psnr, ssim, ssim_3d
from c2fdft_model.evaluation.pairs import find_pairs

UNITS = {'psnr': 'dB'}


@dataclass(frozen=True)
class Protocol:
    """A way to compare results with a ground truth: what is read, and what is made of each pair."""

    name: str
    description: str
    numbers: tuple[str, ...]
    measure: Measure
    find_work: Callable[[Path, Path, str | None], EvaluationSet]


def image_pairs(results: Path, truths: Path, suffix: str | None = None) -> EvaluationSet:
    """The pairs of images of two folders."""
    pairs, problems = find_pairs(results, truths, suffix)
    return EvaluationSet(len(pairs), lambda: iter(pairs), problems, [])


def measure_rain_y(result: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """PSNR and SSIM of the rounded luma of uint8 RGB images."""
    y, y_truth = matlab_luma(result), matlab_luma(truth)
    return {'psnr': psnr(y, y_truth, 255), 'ssim': ssim(y, y_truth, 255)}


def measure_rain_y_float(result: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """PSNR and SSIM of the unrounded luma of uint8 RGB images."""
    y, y_truth = luma(result), luma(truth)
    return {'psnr': psnr(y, y_truth, 255), 'ssim': ssim(y, y_truth, 255)}


def measure_gopro_rgb(result: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """PSNR and both kinds of SSIM of uint8 RGB images."""
    return {
        'psnr': psnr(result, truth, 255),
        'ssim': ssim(result, truth, 255),
        'ssim_3d': ssim_3d(result, truth, 255),
    }


def measure_realblur_aligned(result: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Masked PSNR and SSIM of uint8 RGB images after their alignment."""
    result, truth = result.astype(np.float32) / 255, truth.astype(np.float32) / 255
    aligned = align(result, truth)
    return {'psnr': masked_psnr(aligned, truth), 'ssim': masked_ssim(aligned, truth)}


def measure_sidd_val(result: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """PSNR and both kinds of SSIM of float RGB blocks in [0, 1]."""
    return {
        'psnr': psnr(result, truth, 1),
        'ssim': ssim(result, truth, 1),
        'ssim_3d': ssim_3d(result, truth, 1),
    }


PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            'rain_y',
            "Y of MATLAB's rgb2ycbcr (BT.601, rounded to uint8), no crop; PSNR and Gaussian SSIM "
            'as the MATLAB scripts of the deraining papers compute them',
            ('psnr', 'ssim'),
            measure_rain_y,
            image_pairs,
        ),
        Protocol(
            'rain_y_float',
            'the same Y not rounded, no crop; what test_y_channel of BasicSR and the released '
            'C2F-DFT script compute',
            ('psnr', 'ssim'),
            measure_rain_y_float,
            image_pairs,
        ),
        Protocol(
            'gopro_rgb',
            'uint8 RGB, no crop; ssim is the mean over the channels (the C2F-DFT paper), ssim_3d '
            "is MATLAB's ssim() on the RGB array (most other papers)",
            ('psnr', 'ssim', 'ssim_3d'),
            measure_gopro_rgb,
            image_pairs,
        ),
        Protocol(
            'realblur_aligned',
            'RGB in [0, 1], intensity matched and aligned by an ECC homography, PSNR and SSIM '
            'over the pixels both have',
            ('psnr', 'ssim'),
            measure_realblur_aligned,
            image_pairs,
        ),
        Protocol(
            'sidd_val',
            "SIDD's validation blocks, float RGB in [0, 1]; ssim_3d is MATLAB's ssim() on the RGB "
            'block (the published number), ssim the mean over the channels',
            ('psnr', 'ssim', 'ssim_3d'),
            measure_sidd_val,
            blocks.validation_blocks,
        ),
        Protocol(
            'dnd',
            'submission to DND read back and checked against info.mat; its server has the truth '
            'and computes the numbers',
            (),
            blocks.check_dnd_image,
            blocks.dnd_submission,
        ),
        Protocol(
            'sidd',
            "submission to SIDD's benchmark read back and checked against the noisy blocks; its "
            'server has the truth and computes the numbers',
            (),
            blocks.check_sidd_block,
            blocks.sidd_submission,
        ),
    )
}


def get_protocol(name: str) -> Protocol:
    """The protocol of that name; ValueError names those there are and the nearest one."""
    if name in PROTOCOLS:
        return PROTOCOLS[name]
    near = difflib.get_close_matches(name, PROTOCOLS, 1, cutoff=0.4)
    hint = f' Did you mean {near[0]}?' if near else ''
    raise ValueError(f'no protocol {name!r}: there are {", ".join(PROTOCOLS)}.{hint}')
