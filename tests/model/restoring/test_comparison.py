from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from c2fdft_model.evaluation import get_protocol
from c2fdft_model.images.image_files import ImageFileError
from c2fdft_model.restoring.comparison import (
    GroundTruthIndex,
    image_protocols,
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
    ('relative', 'truth'),
    [('a.jpg', 'a.png'), ('night/b.png', 'night/b.png'), ('c.png', 'night/c.jpg')],
)
def test_a_truth_is_found_by_place_or_by_name(folder, relative, truth):
    assert GroundTruthIndex(folder).find(Path(relative)) == folder / truth


@pytest.mark.parametrize(
    ('relative', 'complaint'), [('x.png', 'no ground truth'), ('b.png', 'more than one')]
)
def test_a_truth_that_is_not_certain_is_refused(folder, relative, complaint):
    with pytest.raises(ImageFileError, match=complaint):
        GroundTruthIndex(folder).find(Path(relative))


def test_a_folder_without_truths_is_refused(tmp_path):
    with pytest.raises(ImageFileError, match='has no ground-truth images'):
        GroundTruthIndex(tmp_path)
    with pytest.raises(ImageFileError, match='no such folder'):
        GroundTruthIndex(tmp_path / 'missing')


def test_the_numbers_are_those_of_the_protocol():
    truth = np.zeros((16, 16, 3), np.float32)
    result = np.full_like(truth, 1 / 255)
    numbers = measure(get_protocol('gopro_rgb'), result, truth)
    assert numbers['psnr'] == pytest.approx(20 * np.log10(255))


def test_pictures_of_different_sizes_are_not_measured():
    with pytest.raises(ValueError, match='16 x 8 pixels and its ground truth 8 x 8'):
        measure(get_protocol('gopro_rgb'), np.zeros((8, 16, 3)), np.zeros((8, 8, 3)))


def test_only_protocols_of_image_files_are_offered():
    assert 'rain_y' in image_protocols() and 'dnd' not in image_protocols()


def test_pictures_stand_side_by_side():
    picture = side_by_side([np.zeros((4, 3, 3)), np.zeros((6, 5, 3))])
    assert picture.shape == (6, 3 + 8 + 5, 3)
    assert picture[:, 3:11].min() == 1 and picture[:4, :3].max() == 0
