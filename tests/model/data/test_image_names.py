"""What images and their results are called."""

from __future__ import annotations

import unicodedata

import pytest

from c2fdft_model.data.image_names import LONGEST_NAME, image_name, result_names
from c2fdft_model.data.lmdb.plan import key_of


@pytest.mark.parametrize('name', ['1', 'a.b', 'é', 'a b', 'x%2E', 'b\udce9', 'a\nb'])
def test_a_file_and_its_key_in_an_lmdb_have_one_name(name):
    assert image_name(f'/data/lq/d/{name}.png') == name
    assert image_name(key_of(f'd/{name}')) == name


def test_accents_have_one_form():
    composed = unicodedata.normalize('NFC', 'é')
    assert image_name(unicodedata.normalize('NFD', 'é') + '.png') == composed


def test_results_lie_where_their_images_do():
    paths = ['lq/a/1.png', 'lq/b/1.png', 'lq/1.png']
    assert result_names(paths, 'lq') == ['a/1', 'b/1', '1']
    assert result_names([key_of('a/1'), key_of('b/1')], 'lq.lmdb') == ['a/1', 'b/1']


def test_equal_names_stay_apart():
    assert result_names(['lq/1.png', 'lq/1.jpg'], 'lq') == ['1.png', '1.jpg']
    assert result_names(['lq/1.png', 'lq/1.png'], 'lq') == ['1.png', '1.png_2']


def test_a_result_stays_in_its_folder_and_fits_into_a_file_system():
    assert result_names(['..%2F..%2Fetc%2Fx', '%2Ftmp%2Fy'], 'x.lmdb') == ['etc/x', 'tmp/y']
    long = ['ä' * 120 + letter for letter in 'ab']
    names = result_names(long, 'x.lmdb')
    assert len(set(names)) == 2
    assert max(len(name.encode()) for name in names) <= LONGEST_NAME
