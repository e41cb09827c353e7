"""What is stored under which keys, and how runs recognise it."""

from __future__ import annotations

import os
from urllib.parse import unquote

import pytest

from c2fdft_model.data.lmdb.plan import StoreOptions, fingerprint, key_of, sub_images
from c2fdft_model.data.pair_sources import PairSource
from helpers.lmdbs import NAMES, sources_of


@pytest.mark.parametrize('name', [*NAMES, 'ключ/図', 'a\tb', "it's (1)"])
def test_keys_are_ascii_without_dots_and_reversible(name):
    key = key_of(name)
    assert key.isascii()
    assert not set('./') & set(key)
    assert unquote(key) == name


def test_keys_of_long_names_stay_short_and_distinct():
    long = '図' * 200
    keys = {key_of(long + str(number)) for number in range(5)}
    assert len(keys) == 5
    assert all(len(key) <= 480 and key.isascii() and unquote(key)[:20] == '図' * 20 for key in keys)


@pytest.mark.parametrize(
    ('size', 'stride', 'length', 'starts'),
    [
        (512, 384, 512, [0]),
        (512, 384, 300, [0]),
        (512, 384, 1280, [0, 384, 768]),
        (512, 384, 1300, [0, 384, 768, 788]),
        (8, 8, 24, [0, 8, 16]),
    ],
)
def test_sub_images_cover_the_image_up_to_its_edges(size, stride, length, starts):
    source = PairSource('x', (length, 8), '', '', '', lambda: None)
    images = sub_images(source, StoreOptions(size, stride))
    assert [image.top for image in images] == starts
    assert images[-1].top + images[-1].height == length


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'size': 4}, '--size 4'),
        ({'stride': 8}, '--stride 8 must be between 1 and --size'),
        ({'size': 16, 'stride': 17}, '--stride 17'),
        ({'encoding': 'gif'}, '--store gif: allowed are png and raw'),
    ],
)
def test_impossible_ways_of_storing_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        StoreOptions(**options)


def test_the_fingerprint_tells_images_and_settings_apart(folders):
    sources = sources_of(folders)
    digests = {
        fingerprint(sources, StoreOptions()),
        fingerprint(sources, StoreOptions(16)),
        fingerprint(sources, StoreOptions(encoding='raw')),
        fingerprint(sources[1:], StoreOptions()),
    }
    os.utime(sources[0].gt, (1, 1))
    assert len(digests | {fingerprint(sources_of(folders), StoreOptions())}) == 5
