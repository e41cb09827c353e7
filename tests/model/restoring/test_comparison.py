from __future__ import annotations

import numpy as np
import pytest

from c2fdft_model.evaluation.image_protocols import IMAGE_PROTOCOLS
from c2fdft_model.restoring.comparison import measure, side_by_side


def test_the_metrics_are_those_of_the_protocol():
    gt = np.zeros((16, 16, 3), np.float32)
    result = np.full_like(gt, 1 / 255)
    metrics = measure(IMAGE_PROTOCOLS['gopro_rgb'], result, gt)
    assert metrics['psnr'] == pytest.approx(20 * np.log10(255))


def test_pictures_of_different_sizes_are_not_measured():
    with pytest.raises(ValueError, match='16 x 8 pixels and its ground truth 8 x 8'):
        measure(IMAGE_PROTOCOLS['gopro_rgb'], np.zeros((8, 16, 3)), np.zeros((8, 8, 3)))


def test_pictures_stand_side_by_side():
    picture = side_by_side([np.zeros((4, 3, 3)), np.zeros((6, 5, 3))])
    assert picture.shape == (6, 3 + 8 + 5, 3)
    assert picture[:, 3:11].min() == 1 and picture[:4, :3].max() == 0
