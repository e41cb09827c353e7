"""Indexed PNG files: any reader reads them, and crops cost no whole decoding."""

from __future__ import annotations

import io
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from c2fdft_model.data.lmdb.plan import encode_ppm
from c2fdft_model.images.image_io import (
    ImageReadError,
    decode_rgb,
    image_size,
)
from c2fdft_model.images.indexed_png import IndexedPng, WholeImage, encode, open_image, open_indexed
from helpers.paired_data import encode_png

RNG = np.random.default_rng(0)


def smooth_image(height: int, width: int, dtype=np.uint8) -> np.ndarray:
    small = RNG.integers(0, np.iinfo(dtype).max + 1, (5, 6, 3)).astype(dtype)
    return cv2.resize(small, (width, height))


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
@pytest.mark.parametrize('size', [(1, 1), (31, 7), (32, 9), (33, 50), (100, 64)])
@pytest.mark.parametrize('level', [0, 1, 9])
def test_every_reader_reads_them(tmp_path, dtype, size, level):
    image = smooth_image(*size, dtype)
    data = encode(image, level)
    flags = cv2.IMREAD_UNCHANGED
    by_opencv = cv2.imdecode(np.frombuffer(data, np.uint8), flags)[..., ::-1]
    assert by_opencv.dtype == dtype
    assert np.array_equal(by_opencv, image)
    assert np.array_equal(decode_rgb(data, 'x'), image)
    (tmp_path / 'image.png').write_bytes(data)
    assert image_size(tmp_path / 'image.png') == size
    with Image.open(io.BytesIO(data)) as opened:
        opened.load()  # checks the sums of all chunks
        if dtype == np.uint8:
            assert np.array_equal(np.asarray(opened), image)


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
@pytest.mark.parametrize('rows', [1, 5, 32])
def test_crops_are_parts_of_the_image(dtype, rows):
    image = smooth_image(70, 45, dtype)
    opened = open_indexed(encode(image, rows=rows), 'x')
    assert (opened.height, opened.width) == (70, 45)
    for _ in range(200):
        top, left = RNG.integers(0, 70), RNG.integers(0, 45)
        height, width = RNG.integers(1, 71 - top), RNG.integers(1, 46 - left)
        crop = opened.crop(top, left, height, width)
        assert crop.dtype == dtype
        assert np.array_equal(crop, image[top : top + height, left : left + width])


def test_only_the_blocks_of_the_crop_are_decoded(monkeypatch):
    image = smooth_image(320, 45)
    opened = open_indexed(encode(image), 'x')
    inflated = []
    decompressobj = zlib.decompressobj

    class Counting:
        def __init__(self, bits):
            self.inner = decompressobj(bits)

        def decompress(self, data, limit):
            inflated.append(self.inner.decompress(data, limit))
            return inflated[-1]

    monkeypatch.setattr(zlib, 'decompressobj', Counting)
    opened.crop(40, 10, 30, 30)
    assert sum(map(len, inflated)) == (3 * 16) * (1 + 45 * 3)


def test_files_are_no_larger_than_opencv_s():
    image = cv2.GaussianBlur(RNG.integers(0, 256, (200, 300, 3), dtype=np.uint8), (5, 5), 2)
    assert len(encode(image)) < 1.05 * len(encode_png(image, 1))


def test_other_files_have_no_index():
    image = smooth_image(20, 30)
    for data in (encode_png(image), encode_ppm(image), b'', b'x' * 100):
        assert open_indexed(data, 'x') is None


@pytest.mark.parametrize('encoder', [encode, encode_png, encode_ppm])
def test_every_opened_image_gives_its_size_and_crops(encoder):
    image = smooth_image(40, 30)
    opened = open_image(encoder(image), 'x')
    assert isinstance(opened, IndexedPng if encoder is encode else WholeImage)
    assert (opened.height, opened.width) == (40, 30)
    assert np.array_equal(opened.crop(3, 4, 5, 6), image[3:8, 4:10])


def test_truncated_files_are_named():
    data = encode(smooth_image(100, 64))
    with pytest.raises(ImageReadError, match=r'broken\.png: truncated'):
        open_indexed(data[: len(data) // 2], 'broken.png')


def test_damaged_blocks_are_named():
    data = bytearray(encode(RNG.integers(0, 256, (100, 64, 3), dtype=np.uint8)))
    opened = open_indexed(bytes(data), 'x')
    start, end = opened.bounds[1], opened.bounds[2]
    data[start:end] = b'\xff' * (end - start)
    damaged = open_indexed(bytes(data), 'broken.png')
    assert damaged.crop(0, 0, 16, 64).shape == (16, 64, 3)
    with pytest.raises(ImageReadError, match=r'broken\.png: truncated or damaged'):
        damaged.crop(16, 0, 8, 8)
