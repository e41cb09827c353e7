"""Which ground truth belongs to a result, or to the image it is made from."""

from __future__ import annotations

import pytest

from c2fdft_model.data.image_listing import ListingError
from c2fdft_model.data.pairing import PairingError
from c2fdft_model.evaluation.ground_truth import GroundTruthIndex, owners


@pytest.mark.parametrize(
    ('name', 'gts', 'owner'),
    [
        ('a', ['a'], 'a'),
        ('d/a', ['d/a', 'a'], 'd/a'),
        ('d/a', ['a'], 'a'),
        ('a', ['d/a'], 'd/a'),
        ('a', ['d/a', 'e/a'], None),
        ('d/a_1_net', ['d/a', 'd/a_1'], 'd/a_1'),
        ('d/a_net', ['e/a'], 'e/a'),
        ('b', ['a'], None),
    ],
)
def test_a_name_has_the_ground_truth_of_its_place_or_the_only_one_so_called(name, gts, owner):
    assert owners([name], gts) == {name: owner}


def test_a_suffix_says_which_results_count():
    assert owners(['a', 'a_old', 'a_new', 'b_x_new'], ['a', 'b'], 'new') == {
        'a_new': 'a',
        'b_x_new': None,
    }


def test_a_result_is_not_given_the_ground_truth_of_another_of_its_very_name():
    assert owners(['d/a', 'e/a', 'd/a_2'], ['d/a']) == {'d/a': 'd/a', 'e/a': None, 'd/a_2': None}


@pytest.fixture
def folder(tmp_path):
    for name in ('a.png', 'day/b.png', 'night/b.png', 'night/c.jpg', 'two.jpg', 'two.png'):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    return tmp_path


@pytest.mark.parametrize(
    ('image', 'gt'),
    [
        ('a.jpg', 'a.png'),
        ('night/b.png', 'night/b.png'),
        ('c.png', 'night/c.jpg'),
        ('two.png', 'two.png'),
    ],
)
def test_a_ground_truth_is_found_by_place_or_by_name(folder, image, gt):
    assert GroundTruthIndex(folder, [image]).find(image) == folder / gt


@pytest.mark.parametrize(
    ('image', 'complaint'),
    [('x.png', 'no ground'), ('b.png', 'no g'), ('two.tif', 'more than one')],
)
def test_a_ground_truth_that_is_not_certain_is_refused(folder, image, complaint):
    index = GroundTruthIndex(folder, ['a.png', image])
    with pytest.raises(PairingError, match=complaint):
        index.find(image)


def test_names_that_never_fit_are_refused_with_the_templates_that_do(tmp_path):
    for number in (1, 2):
        (tmp_path / f'norain-{number}.png').touch()
    images = ['rain-1.png', 'rain-2.png']
    hint = r"With --input-template 'rain-\{}' --gt-template 'norain-\{}' there would be 2 pairs"
    with pytest.raises(PairingError, match=hint):
        GroundTruthIndex(tmp_path, images)
    index = GroundTruthIndex(tmp_path, images, 'rain-{}', 'norain-{}')
    assert index.find('rain-2.png') == tmp_path / 'norain-2.png'


def test_a_folder_without_ground_truth_is_refused(tmp_path):
    with pytest.raises(ListingError, match='has no images'):
        GroundTruthIndex(tmp_path, ['a.png'])
    with pytest.raises(ListingError, match='no such folder'):
        GroundTruthIndex(tmp_path / 'missing', ['a.png'])
