"""A thousand damaged files: each is read alike by all that read it, or refused by name."""

from __future__ import annotations

import io
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image

from c2fdft_model.images.image_files import read_image
from c2fdft_model.images.image_io import ImageReadError, image_size, read_rgb
from helpers.image_records import ICC, exif_with, pixels_of

KINDS = {
    'JPEG': {'quality': 90},
    'PNG': {},
    'WEBP': {},
    'TIFF': {},
    'GIF': {},
    'BMP': {},
    'JPEG2000': {},
    'AVIF': {},
}
FILES_OF_EACH = 130


def sound(kind: str) -> bytes:
    stream = io.BytesIO()
    options = KINDS[kind]
    if kind in ('JPEG', 'PNG', 'WEBP'):
        exif = exif_with({271: 'Maker', 274: 6, 0x8825: {1: 'N'}})
        options = options | {'exif': b'Exif\0\0' + exif, 'icc_profile': ICC[:300]}
    Image.fromarray(pixels_of(24, 31, 3)).save(stream, kind, **options)
    return stream.getvalue()


def damaged(content: bytes, number: int) -> bytes:
    """Bytes changed, cut off, doubled or taken out; half of the changes are near the beginning."""
    rng = np.random.default_rng(number)
    end = len(content) if number % 2 else min(len(content), 400)
    if number % 5 == 0:
        return content[: rng.integers(8, len(content))]
    changed = bytearray(content)
    for place in rng.integers(2, end, 1 + number % 4):
        changed[place] = rng.integers(256)
    if number % 7 == 0:
        first, last = sorted(rng.integers(8, len(content), 2))
        part = changed[first:last]
        changed[first:last] = part * 2 if number % 2 else b''
    return bytes(changed)


def outcome(read, path):
    """The pixels or size, or None for a refusal, which names the file in one line."""
    try:
        return read(path)
    except ImageReadError as error:
        assert str(path) in str(error) and '\n' not in str(error)
        return None


@pytest.mark.parametrize('kind', KINDS)
def test_a_damaged_file_is_read_or_refused_by_name(tmp_path, kind):
    whole = sound(kind)
    path = tmp_path / 'damaged.image'
    refused = 0
    for number in range(FILES_OF_EACH):
        path.write_bytes(damaged(whole, zlib.crc32(kind.encode()) % 1000 + number))
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            size = outcome(image_size, path)
            for_training = outcome(read_rgb, path)
            record = outcome(read_image, path)
        refused += for_training is None
        if for_training is not None:
            assert for_training.shape[:2] == size
        if record is not None:
            assert record.colour.shape[:2] == size
            assert np.isfinite(record.colour).all()
    assert 0 < refused < FILES_OF_EACH


@pytest.mark.parametrize('kind', KINDS)
def test_training_and_restoring_read_the_same_pixels(tmp_path, kind):
    path = tmp_path / 'sound.image'
    path.write_bytes(sound(kind))
    stored = read_rgb(path) / np.float32(255)
    np.testing.assert_allclose(read_image(path).colour, stored, atol=1e-7)
