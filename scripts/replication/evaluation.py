"""Quality of a trained network on the held-out images."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import cache

import numpy as np
import torch
from torch import nn

from c2fdft_model.diffusion.process import DDPMProcess
from c2fdft_model.evaluation.perceptual import MetricUnavailable, lpips_distance
from c2fdft_model.evaluation.protocols import get_protocol
from c2fdft_model.restoring.restoration import restore
from replication.data import TestImage
from replication.degradations import PROTOCOLS


def evaluate(
    network: nn.Module, task: str, images: Sequence[TestImage], steps: int, precision: str = 'fp32'
) -> dict[str, float]:
    """Means of PSNR, SSIM, LPIPS where it is there, and seconds per image."""
    protocol = get_protocol(PROTOCOLS[task])
    process = DDPMProcess(sampling_steps=steps)
    totals: dict[str, float] = {}
    network.eval()
    for image in images:
        degraded = torch.from_numpy(image.degraded.copy()).permute(2, 0, 1).float() / 255
        started = time.perf_counter()
        restored = restore(
            network, degraded, process=process, noise_name=image.name, precision=precision
        )
        seconds = time.perf_counter() - started
        result = (restored * 255).round().byte().permute(1, 2, 0).numpy()
        numbers = protocol.measure(result, image.clean)
        numbers = {name: numbers[name] for name in ('psnr', 'ssim')} | {'seconds': seconds}
        numbers |= perceptual(result, image.clean)
        for name, value in numbers.items():
            totals[name] = totals.get(name, 0.0) + value
    return {name: total / len(images) for name, total in totals.items()}


def unrestored(task: str, images: Sequence[TestImage]) -> dict[str, float]:
    """PSNR and SSIM of the degraded images themselves."""
    measure = get_protocol(PROTOCOLS[task]).measure
    numbers = [measure(image.degraded, image.clean) for image in images]
    return {name: sum(n[name] for n in numbers) / len(numbers) for name in ('psnr', 'ssim')}


def perceptual(result: np.ndarray, clean: np.ndarray) -> dict[str, float]:
    """LPIPS, if its package and weights are there."""
    if not lpips_is_there():
        return {}
    first, second = (
        torch.from_numpy(x.copy()).permute(2, 0, 1).float().div(255)[None] for x in (result, clean)
    )
    return {'lpips': lpips_distance(first, second)}


@cache
def lpips_is_there() -> bool:
    """Whether LPIPS can be computed here; asked once, since it may try a download."""
    grey = torch.full((1, 3, 64, 64), 0.5)
    try:
        lpips_distance(grey, grey)
    except MetricUnavailable:
        return False
    return True
