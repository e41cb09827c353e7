"""Image records of random pixels, EXIF data made by Pillow, and what reading them must give."""

from __future__ import annotations

import io

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms

from c2fdft_model.images.image_files import ImageRecord, read_image
from c2fdft_model.images.image_io import ImageReadError

ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile('sRGB')).tobytes()
CHANNELS = {'L': 1, 'LA': 2, 'RGB': 3, 'RGBA': 4}
FILES = [('.jpg', 8), ('.png', 8), ('.tif', 8), ('.webp', 8), ('.png', 16), ('.tif', 16)]
"""Endings of names and bits per channel."""


class FullDisk(io.FileIO):
    """A file, in place of `open`, on a disk that has room for ten bytes."""

    def write(self, content):
        super().write(content[:10])
        raise OSError(28, 'No space left on device')


def pixels_of(height, width, channels, depth=8, seed=0):
    rng = np.random.default_rng(seed)
    kind = np.uint8 if depth == 8 else np.uint16
    return rng.integers(0, 2**depth, (height, width, channels), dtype=kind)


def exif_with(tags, byteorder='<'):
    exif = Image.Exif()
    exif.endian = byteorder
    for tag, value in tags.items():
        exif[tag] = value
    return exif.tobytes().removeprefix(b'Exif\0\0')


def tags_of(content):
    exif = Image.Exif()
    exif.load(content)
    return exif


def record_of(channels, depth, **fields):
    pixels = pixels_of(13, 7, channels, depth)
    colour = pixels[:, :, : 3 if channels > 2 else 1] / (2**depth - 1)
    return ImageRecord(
        colour=np.repeat(colour, 1 if channels > 2 else 3, axis=2).astype(np.float32),
        alpha=pixels[:, :, -1] if channels in (2, 4) else None,
        depth=depth,
        grey=channels < 3,
        **fields,
    )


def assert_same(read, written):
    np.testing.assert_array_equal(read.colour, written.colour)
    assert (read.alpha is None) == (written.alpha is None)
    if written.alpha is not None:
        np.testing.assert_array_equal(read.alpha, written.alpha)
    assert (read.depth, read.grey) == (written.depth, written.grey)


def refusal(path):
    with pytest.raises(ImageReadError) as caught:
        read_image(path)
    message = str(caught.value)
    assert str(path) in message
    assert '\n' not in message
    return message


def write_tiff16(path, pixels, **options):
    tifffile.imwrite(path, pixels, metadata=None, **options)
