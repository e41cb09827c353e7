"""The images of LMDBs, and everything that does not pair, by name."""

from __future__ import annotations

import lmdb
import numpy as np
import pytest

from c2fdft_model.data.lmdb_contents import pair_lmdbs, read_meta_info
from c2fdft_model.data.pairing import ImagePair, PairingError
from helpers.paired_data import encode_png, pattern


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
    with pytest.raises(
        PairingError, match=r'lq\.lmdb: there is no such folder; `c2fdft prepare-lmdb`'
    ):
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
