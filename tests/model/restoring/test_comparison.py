from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from c2fdft_model.evaluation.image_protocols import IMAGE_PROTOCOLS
from c2fdft_model.images.image_files import ImageFileError
from c2fdft_model.restoring.comparison import (
    GroundTruthIndex,
    measure,
    side_by_side,
)


@pytest.fixture
def folder(tmp_path):
    for name in ('a.png', 'day/b.png', 'night/b.png', 'night/c.jpg'):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    return tmp_path


@pytest.mark.parametrize(
    ('relative', 'gt'),
    [('a.jpg', 'a.png'), ('night/b.png', 'night/b.png'), ('c.png', 'night/c.jpg')],
)
def test_a_ground_truth_is_found_by_place_or_by_name(folder, relative, gt):
    assert GroundTruthIndex(folder).find(Path(relative)) == folder / gt


@pytest.mark.parametrize(
    ('relative', 'complaint'), [('x.png', 'no ground truth'), ('b.png', 'more than one')]
)
def test_a_ground_truth_that_is_not_certain_is_refused(folder, relative, complaint):
    with pytest.raises(ImageFileError, match=complaint):
        GroundTruthIndex(folder).find(Path(relative))


def test_a_folder_without_ground_truth_is_refused(tmp_path):
    with pytest.raises(ImageFileError, match='has no ground-truth images'):
        GroundTruthIndex(tmp_path)
    with pytest.raises(ImageFileError, match='no such folder'):
        GroundTruthIndex(tmp_path / 'missing')


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
