"""Pairs found by name, and everything that does not pair."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import pytest

from c2fdft_model.data.image_listing import ListingError
from c2fdft_model.data.pairing import (
    ImagePair,
    PairingError,
    listed_pairs,
    match_files,
    pair_folders,
)


@pytest.fixture
def touch(tmp_path):
    """Makes empty files of these names in a folder, which is returned."""

    def make(folder: str, *names: str | bytes) -> Path:
        for name in names:
            path = tmp_path / folder / os.fsdecode(name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        return tmp_path / folder

    return make


def test_names_match_without_suffix():
    pairs, *_ = match_files(['s/1.0.jpg', '2.png'], ['2.tif', 's/1.0.png'])
    assert pairs == [ImagePair('2', '2.png', '2.tif'), ImagePair('s/1.0', 's/1.0.jpg', 's/1.0.png')]


def test_template_of_the_degraded_name():
    pairs, *_ = match_files(['d/ax2.png'], ['d/a.png'], '{}x2')
    assert pairs == [ImagePair('d/a', 'd/ax2.png', 'd/a.png')]


def test_templates_with_several_gaps():
    pairs, *unmatched = match_files(
        ['0001/77_NOISY_SRGB_010.PNG', '0001/77_GT_SRGB_010.PNG'],
        ['0001/77_NOISY_SRGB_010.PNG', '0001/77_GT_SRGB_010.PNG'],
        '{}_NOISY_SRGB_{}',
        '{}_GT_SRGB_{}',
        one_folder=True,
    )
    assert pairs == [
        ImagePair('0001/77/010', '0001/77_NOISY_SRGB_010.PNG', '0001/77_GT_SRGB_010.PNG')
    ]
    assert unmatched == [[], []]


def test_equal_names_pair_by_suffix():
    pairs, *_ = match_files(['a.jpg', 'a.png'], ['a.png', 'a.jpg'])
    assert pairs == [ImagePair('a.jpg', 'a.jpg', 'a.jpg'), ImagePair('a.png', 'a.png', 'a.png')]


def test_doubtful_pairs_are_refused():
    with pytest.raises(PairingError, match=r'a: it is not clear which of a\.jpg, a\.png'):
        match_files(['a.jpg', 'a.png'], ['a.tif'])


def test_a_template_applies_in_subfolders():
    pairs, *unmatched = match_files(['d/rain-1.png'], ['d/norain-1.png'], 'rain-{}', 'norain-{}')
    assert pairs == [ImagePair('d/1', 'd/rain-1.png', 'd/norain-1.png')]
    assert unmatched == [[], []]


def test_a_template_may_hold_folders():
    files = ['s/x/blur/blur_1.png', 's/x/gt/gt_1.png']
    pairs, *_ = match_files(files, files, '{}/blur/blur_{}', '{}/gt/gt_{}', one_folder=True)
    assert pairs == [ImagePair('s/x/1', *files)]


def test_files_that_do_not_fit_their_template_are_not_dropped():
    _, lq, gt = match_files(['1_r.png', 'x.png'], ['1.png'], '{}_r')
    assert (lq, gt) == (['x.png'], [])


@pytest.mark.parametrize('name', ['a\nb.png', 'a\u2028b.png', ' a .png', 'b\udce9.png'])
def test_names_of_any_characters_pair(name):
    pairs, *unmatched = match_files([name], [name])
    assert len(pairs) == 1 and unmatched == [[], []]


def test_composed_and_decomposed_accents_are_one_name():
    composed, decomposed = (unicodedata.normalize(form, 'd/é.png') for form in ('NFC', 'NFD'))
    pairs, *_ = match_files([decomposed], [composed])
    assert pairs == [ImagePair(composed[:-4], decomposed, composed)]


def test_of_equal_names_up_to_the_suffix_the_rest_is_unmatched():
    pairs, lq, gt = match_files(['a.jpg', 'a.png'], ['a.png'])
    assert pairs == [ImagePair('a.png', 'a.png', 'a.png')]
    assert (lq, gt) == (['a.jpg'], [])


def test_folders_and_the_first_of_what_is_missing_are_named(touch):
    lq, gt = touch('lq', 'a.png', 'b.png'), touch('gt', 'a.png', 'c/b.png')
    with pytest.raises(PairingError) as caught:
        pair_folders(lq, gt)
    text = str(caught.value)
    assert text.startswith(f'{lq} and {gt} do not pair: ')
    assert '1 of 2 degraded images have no clean one: b.png' in text
    assert '1 of 2 clean images have no degraded one: c/b.png' in text


def test_templates_that_would_pair_are_suggested(touch):
    lq = touch('lq', 'rain-001.png', 'rain-002.png', 'rain-010.png')
    gt = touch('gt', 'norain-001.png', 'norain-002.png', 'norain-010.png')
    hint = r"With filename_tmpl: 'rain-\{}' filename_tmpl_gt: 'norain-\{}' there would be 3 pairs"
    with pytest.raises(PairingError, match=hint):
        pair_folders(lq, gt)
    assert len(pair_folders(lq, gt, 'rain-{}', 'norain-{}')) == 3


def test_one_folder_may_hold_both_sides(touch):
    both = touch('both', '1_noisy.png', '1_gt.png', 'cover.png')
    assert pair_folders(both, both, '{}_noisy', '{}_gt') == [
        ImagePair('1', '1_noisy.png', '1_gt.png')
    ]


def test_a_folder_without_images_is_named(touch):
    with pytest.raises(ListingError, match='gt: there is no such folder'):
        pair_folders(touch('lq', 'a.png'), 'gt')


def test_template_without_gap_is_refused():
    with pytest.raises(PairingError, match="template 'x2'"):
        match_files(['a.png'], ['a.png'], 'x2')


def test_template_that_fits_nothing_is_refused():
    with pytest.raises(PairingError, match=r"template '{}_q': no file fits it, e\.g\. a\.png"):
        match_files(['a.png'], ['a.png'], '{}_q')


LQ_AND_GT = ('0.png', 'a/0.png', 'a b.png', 'c.jpg')


@pytest.mark.parametrize(
    ('line', 'file'),
    [
        ('0.png (64,64,3)', '0.png'),
        ('a/0.png (64, 64, 3)', 'a/0.png'),
        ('./a/0.png', 'a/0.png'),
        ('a\\0.png (64,64,3)', 'a/0.png'),
        ('a b.png (64,64,3)', 'a b.png'),
        ('a b.png', 'a b.png'),
        ('c.jpg 64 64', 'c.jpg'),
    ],
)
def test_a_listed_line_is_the_path_of_a_clean_image(touch, tmp_path, line, file):
    lq, gt = touch('lq', *LQ_AND_GT), touch('gt', *LQ_AND_GT)
    listed = tmp_path / 'list.txt'
    listed.write_bytes(f'\ufeff{line}\r\n\n  \n'.encode())
    assert listed_pairs(listed, lq, gt) == [ImagePair(os.path.splitext(file)[0], file, file)]


def test_the_order_of_a_list_is_kept_and_an_image_may_be_listed_twice(touch, tmp_path):
    lq, gt = touch('lq', 'r-1.png', 'r-2.png'), touch('gt', '1.png', '2.png')
    listed = tmp_path / 'list.txt'
    listed.write_text('2.png\n1.png\n2.png\n')
    pairs = listed_pairs(listed, lq, gt, 'r-{}')
    assert [pair.lq for pair in pairs] == ['r-2.png', 'r-1.png', 'r-2.png']


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        ('0.png\nb/0.png (64,64,3)\n', r'list\.txt, line 2: there is no image b/0\.png in .*gt'),
        ('', r'list\.txt lists no image'),
        ('x.png\n', r'list\.txt: 1 of 1 listed images have no degraded one in .*lq: x\.png'),
        (None, r'list\.txt: No such file'),
    ],
)
def test_what_a_list_cannot_give_is_named(touch, tmp_path, content, message):
    lq, gt = touch('lq', '0.png', 'a/0.png'), touch('gt', '0.png', 'a/0.png', 'x.png')
    if content is not None:
        (tmp_path / 'list.txt').write_text(content)
    with pytest.raises(PairingError, match=message):
        listed_pairs(tmp_path / 'list.txt', lq, gt)
