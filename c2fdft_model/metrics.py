"""Perceptual metrics for `val: metrics:` of BasicSR's option files."""

import numpy as np
from basicsr.utils.registry import METRIC_REGISTRY

from c2fdft_model.evaluation.perceptual import bgr_to_tensor, iqa_score, lpips_distance


@METRIC_REGISTRY.register()
def calculate_lpips(
    img: np.ndarray,
    img2: np.ndarray,
    crop_border: int = 0,
    input_order: str = 'HWC',
    net: str = 'alex',
    weights: str | None = None,
    **kwargs,
) -> float:
    """LPIPS of a result and its ground truth, BGR in [0, 255]; lower is better.

    `net` is the backbone, alex, vgg or squeeze; `weights` the file of its ImageNet weights.
    """
    image, gt = (bgr_to_tensor(i, input_order, crop_border) for i in (img, img2))
    return lpips_distance(image, gt, net, weights)


@METRIC_REGISTRY.register()
def calculate_iqa(
    img: np.ndarray,
    metric: str,
    img2: np.ndarray | None = None,
    crop_border: int = 0,
    input_order: str = 'HWC',
    weights: str | None = None,
    **kwargs,
) -> float:
    """The pyiqa metric of that name (`metric: musiq`), of BGR images in [0, 255].

    `weights` is the metric's own weights file, for machines without a network.
    """
    image = bgr_to_tensor(img, input_order, crop_border)
    gt = None if img2 is None else bgr_to_tensor(img2, input_order, crop_border)
    return iqa_score(image, gt, metric, weights)
