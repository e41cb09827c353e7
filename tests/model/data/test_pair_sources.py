"""Sizes of pairs, read before anything is written."""

from __future__ import annotations

import pytest

from c2fdft_model.data.pair_sources import check_sizes
from c2fdft_model.data.pairing import ImagePair, PairingError, pair_folders
from helpers.paired_data import pattern, write_folders, write_rgb


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
