"""Quality of a trained network on the held-out images."""

from collections.abc import Sequence

import numpy as np
from torch import nn

from c2fdft_model.diffusion.process import DiffusionProcess
from c2fdft_model.evaluation.perceptual import lpips_distance
from c2fdft_model.evaluation.protocols import get_protocol
from c2fdft_model.experiments.costs import timed
from c2fdft_model.experiments.images import to_tensor, to_uint8
from c2fdft_model.experiments.tables import means
from c2fdft_model.restoring.restoration import restore
from replication.data import HeldOutImage

PROTOCOLS = {'rain': 'rain_y', 'noise': 'gopro_rgb', 'blur': 'gopro_rgb'}


def evaluate(
    network: nn.Module,
    task: str,
    images: Sequence[HeldOutImage],
    process: DiffusionProcess,
    with_lpips: bool,
) -> dict[str, float]:
    """Means of PSNR, SSIM, LPIPS if it is wanted, and seconds per image."""
    network.eval()
    each = []
    for name, degraded, clean in images:
        settings = {'process': process, 'noise_name': name, 'precision': 'fp32'}
        restored, seconds = timed(restore, network, to_tensor(degraded), **settings)
        result = to_uint8(restored)
        metrics = psnr_and_ssim(task, result, clean) | {'seconds': seconds}
        if with_lpips:
            metrics['lpips'] = lpips_distance(to_tensor(result)[None], to_tensor(clean)[None])
        each.append(metrics)
    return means(each)


def evaluate_degraded(task: str, images: Sequence[HeldOutImage]) -> dict[str, float]:
    """PSNR and SSIM of the degraded images themselves."""
    return means([psnr_and_ssim(task, degraded, clean) for _, degraded, clean in images])


def psnr_and_ssim(task: str, result: np.ndarray, gt: np.ndarray) -> dict[str, float]:
    """Of two images (H, W, 3), uint8 RGB, by the task's protocol."""
    metrics = get_protocol(PROTOCOLS[task]).measure(result, gt)
    return {name: metrics[name] for name in ('psnr', 'ssim')}
