"""Pairs found in folders and LMDBs, and everything that does not pair, by name."""

from __future__ import annotations

import lmdb
import numpy as np
import pytest
from basicsr.data.data_util import paired_paths_from_meta_info_file

from c2fdft_model.data.pairing import (
    ImagePair,
    PairingError,
    check_sizes,
    list_images,
    listed_pairs,
    match_files,
    pair_folders,
    pair_lmdbs,
    read_meta_info,
)
from helpers.paired_data import encode_png, pattern, write_folders, write_rgb


def test_images_are_found_at_any_depth(tmp_path):
    for name in ('b.png', 'a/deep/c.JPG', 'a/b.v2.tif', 'x.bmp'):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / 'notes.txt').touch()
    (tmp_path / '.hidden.png').touch()
    assert list_images(tmp_path) == ['a/b.v2.tif', 'a/deep/c.JPG', 'b.png', 'x.bmp']


def test_missing_folder_is_named(tmp_path):
    with pytest.raises(PairingError, match='nowhere: there is no such folder'):
        list_images(tmp_path / 'nowhere')


def test_empty_folder_is_named(tmp_path):
    (tmp_path / 'empty').mkdir()
    with pytest.raises(PairingError, match='empty: there is no image in it'):
        list_images(tmp_path / 'empty')


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


@pytest.mark.parametrize(
    ('lq', 'gt', 'message'),
    [
        (['a.png', 'b.png'], ['a.png'], r'1 degraded images \({}\) have no partner: b\.png'),
        (['a.png'], ['a.png', 'c/b.png'], r'1 clean images .*: c/b\.png'),
    ],
)
def test_missing_partners_are_named(tmp_path, lq, gt, message):
    for side, names in (('lq', lq), ('gt', gt)):
        for name in names:
            (tmp_path / side / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / side / name).touch()
    with pytest.raises(PairingError, match=message):
        pair_folders(tmp_path / 'lq', tmp_path / 'gt')


def test_template_without_gap_is_refused():
    with pytest.raises(PairingError, match="template 'x2'"):
        match_files(['a.png'], ['a.png'], 'x2')


def test_template_that_fits_nothing_is_refused():
    with pytest.raises(PairingError, match=r"template '{}_q': no file fits it, e\.g\. a\.png"):
        match_files(['a.png'], ['a.png'], '{}_q')


@pytest.mark.parametrize('template', ['{}', '{}_rain'])
def test_listed_pairs_are_those_of_basicsr(tmp_path, template):
    listed = tmp_path / 'meta.txt'
    listed.write_text('a.png (41,56,3)\nb/c.v2.jpg\n')
    theirs = paired_paths_from_meta_info_file(['lq', 'gt'], ['lq', 'gt'], listed, template)
    ours = listed_pairs(listed, template)
    assert [(f'lq/{pair.lq}', f'gt/{pair.gt}') for pair in ours] == [
        (paths['lq_path'], paths['gt_path']) for paths in theirs
    ]
    assert [pair.name for pair in ours] == ['a', 'b/c.v2']


def test_pairs_of_different_sizes_are_named(tmp_path):
    folders = write_folders(tmp_path, 2)
    write_rgb(tmp_path / 'lq' / '001.png', pattern(1, 30, 50))
    pairs = pair_folders(tmp_path / 'lq', tmp_path / 'gt')
    with pytest.raises(PairingError, match=r'lq/001\.png is 50 x 30, .*gt/001\.png is 56 x 41'):
        check_sizes(*folders.values(), pairs)


def test_files_that_are_no_images_are_named_before_training(tmp_path):
    folders = write_folders(tmp_path, 2)
    (tmp_path / 'gt' / '000.png').write_bytes(b'no image')
    with pytest.raises(
        PairingError, match=r'1 pairs cannot be used:\n .*gt/000\.png: not an image'
    ):
        check_sizes(*folders.values(), [ImagePair('000', '000.png', '000.png')])


def make_lmdb(path, images: dict[str, np.ndarray], listed: dict[str, tuple] | None = None):
    """An LMDB as BasicSR's tool writes it."""
    with lmdb.open(str(path), map_size=2**24) as environment, environment.begin(write=True) as txn:
        for key, image in images.items():
            txn.put(key.encode(), encode_png(image))
    shapes = listed or {key: image.shape for key, image in images.items()}
    lines = [f'{key}.png ({h},{w},{c}) 1\n' for key, (h, w, c) in shapes.items()]
    (path / 'meta_info.txt').write_text(''.join(lines))
    return path


IMAGES = {'b.1': pattern(0, 20, 30), 'a c': pattern(1, 22, 30)}


def test_lmdbs_with_dots_and_spaces_in_their_keys_are_paired(tmp_path):
    lq, gt = make_lmdb(tmp_path / 'lq.lmdb', IMAGES), make_lmdb(tmp_path / 'gt.lmdb', IMAGES)
    assert pair_lmdbs(lq, gt) == [ImagePair('a c', 'a c', 'a c'), ImagePair('b.1', 'b.1', 'b.1')]


def test_lmdb_without_meta_info_is_refused(tmp_path):
    folder = make_lmdb(tmp_path / 'lq.lmdb', IMAGES)
    (folder / 'meta_info.txt').unlink()
    with pytest.raises(PairingError, match=r'lq\.lmdb: meta_info\.txt is missing'):
        read_meta_info(folder)


def test_missing_lmdb_is_named(tmp_path):
    with pytest.raises(PairingError, match=r'lq\.lmdb: there is no LMDB'):
        read_meta_info(tmp_path / 'lq.lmdb')


def test_meta_info_of_another_format_is_named(tmp_path):
    folder = make_lmdb(tmp_path / 'lq.lmdb', IMAGES)
    (folder / 'meta_info.txt').write_text('a.png 20 30\n')
    with pytest.raises(PairingError, match="line 1 is 'a.png 20 30'"):
        read_meta_info(folder)


def test_lmdbs_of_different_image_sets_are_refused(tmp_path):
    lq = make_lmdb(tmp_path / 'lq.lmdb', IMAGES)
    gt = make_lmdb(tmp_path / 'gt.lmdb', {'b.1': IMAGES['b.1'], 'other': IMAGES['a c']})
    with pytest.raises(PairingError, match=r'1 keys are in the first alone \(a c\).*\(other\)'):
        pair_lmdbs(lq, gt)


def test_lmdb_pairs_of_different_sizes_are_named(tmp_path):
    lq = make_lmdb(tmp_path / 'lq.lmdb', IMAGES)
    gt = make_lmdb(tmp_path / 'gt.lmdb', IMAGES | {'b.1': pattern(0, 16, 30)})
    with pytest.raises(PairingError, match=r'b\.1: 30 x 20 in .*lq\.lmdb, 30 x 16 in .*gt\.lmdb'):
        pair_lmdbs(lq, gt)


def test_lmdb_that_lacks_images_is_refused(tmp_path):
    """BasicSR's tool, killed, leaves a list that is longer than what was committed."""
    shapes = {key: image.shape for key, image in IMAGES.items()}
    lq = make_lmdb(tmp_path / 'lq.lmdb', IMAGES)
    gt = make_lmdb(tmp_path / 'gt.lmdb', {'b.1': IMAGES['b.1']}, listed=shapes)
    with pytest.raises(PairingError, match=r'gt\.lmdb: 1 images of meta_info\.txt are not in data'):
        pair_lmdbs(lq, gt)


def test_damaged_lmdb_is_named(tmp_path):
    lq = make_lmdb(tmp_path / 'lq.lmdb', IMAGES)
    (lq / 'data.mdb').write_bytes(b'damaged' * 1000)
    with pytest.raises(PairingError, match=r'lq\.lmdb: the LMDB cannot be opened'):
        pair_lmdbs(lq, lq)
