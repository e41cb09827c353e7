"""16-bit PNG and TIFF files: what is read is what they hold, or an error says why not."""

from __future__ import annotations

import struct
import zlib
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from c2fdft_model.images import indexed_png
from c2fdft_model.images.image_files import (
    read_image,
    write_image,
)
from c2fdft_model.images.image_io import ImageReadError
from helpers.image_records import (
    assert_same,
    exif_with,
    pixels_of,
    record_of,
    refusal,
    tags_of,
    write_tiff16,
)


@pytest.mark.parametrize('suffix', ['.png', '.tif'])
def test_sixteen_bit_files_are_what_others_read(tmp_path, suffix):
    cv2 = pytest.importorskip('cv2')
    record = record_of(3, 16)
    write_image(tmp_path / f'a{suffix}', record)
    blue_first = cv2.imread(str(tmp_path / f'a{suffix}'), cv2.IMREAD_UNCHANGED)
    expected = np.rint(record.colour * 65535).astype(np.uint16)
    np.testing.assert_array_equal(blue_first[:, :, ::-1], expected)


def test_a_tiff_in_a_compression_of_other_programs_is_read(tmp_path):
    cv2 = pytest.importorskip('cv2')
    pixels = pixels_of(9, 11, 3, 16)
    lzw = [cv2.IMWRITE_TIFF_COMPRESSION, 5]
    cv2.imwrite(str(tmp_path / 'a.tif'), pixels[:, :, ::-1], lzw)
    read = read_image(tmp_path / 'a.tif')
    np.testing.assert_array_equal(np.rint(read.colour * 65535), pixels)


@pytest.mark.parametrize('orientation', [3, 6, 8])
def test_a_turned_sixteen_bit_tiff_is_read_upright(tmp_path, orientation):
    exif = exif_with({274: orientation})
    record = record_of(3, 16, exif=exif)
    write_image(tmp_path / 'a.tif', record)
    read = read_image(tmp_path / 'a.tif')
    assert_same(read, record)
    assert tags_of(read.exif)[274] == orientation
    assert Image.open(tmp_path / 'a.tif').tag_v2[274] == orientation


@pytest.mark.parametrize('channels', [1, 3])
def test_the_transparent_colour_of_a_sixteen_bit_png_becomes_alpha(tmp_path, channels):
    pixels = pixels_of(4, 5, channels, 16)
    content = indexed_png.encode(pixels)
    colour = pixels[2, 3].astype('>u2').tobytes()
    chunk = struct.pack('>I', len(colour)) + b'tRNS' + colour
    chunk += struct.pack('>I', zlib.crc32(b'tRNS' + colour))
    at = content.index(b'IDAT') - 4
    (tmp_path / 'a.png').write_bytes(content[:at] + chunk + content[at:])
    read = read_image(tmp_path / 'a.png')
    expected = np.full((4, 5), 65535, np.uint16)
    expected[2, 3] = 0
    np.testing.assert_array_equal(read.alpha, expected)
    np.testing.assert_array_equal(np.rint(read.colour * 65535)[..., :channels], pixels)


def test_colours_multiplied_by_their_alpha_are_divided_by_it(tmp_path):
    pixels = np.array([[[100, 200, 300, 32768], [5, 5, 5, 0], [7, 8, 9, 65535]]], np.uint16)
    options = {'photometric': 'rgb', 'extrasamples': ['assocalpha']}
    write_tiff16(tmp_path / 'a.tif', pixels, **options)
    read = read_image(tmp_path / 'a.tif')
    colours = np.rint(read.colour[0] * 65535)
    np.testing.assert_array_equal(colours[0], [200, 400, 600])
    np.testing.assert_array_equal(colours[2], [7, 8, 9])
    np.testing.assert_array_equal(read.alpha, pixels[..., 3])


def test_sixteen_bit_cmyk_is_refused(tmp_path):
    write_tiff16(tmp_path / 'a.tif', pixels_of(8, 8, 4, 16), photometric='separated')
    assert 'SEPARATED of 4 channels and 16 bits is not read: save it as RGB' in refusal(
        tmp_path / 'a.tif'
    )


@pytest.mark.parametrize('options', [{}, {'rowsperstrip': 4}, {'tile': (16, 16)}])
@pytest.mark.parametrize('planar', ['contig', 'separate'])
def test_an_uncompressed_sixteen_bit_tiff_cut_short_is_refused(tmp_path, planar, options):
    pixels = pixels_of(32, 32, 3, 16)
    options = {'photometric': 'rgb', 'planarconfig': planar, **options}
    if planar == 'separate':
        pixels = np.ascontiguousarray(np.moveaxis(pixels, 2, 0))
    write_tiff16(tmp_path / 'a.tif', pixels, **options)
    read_image(tmp_path / 'a.tif')
    whole = (tmp_path / 'a.tif').read_bytes()
    (tmp_path / 'a.tif').write_bytes(whole[:-100])
    assert 'truncated' in refusal(tmp_path / 'a.tif')


MUTATIONS = 60


@pytest.mark.parametrize(
    ('depth', 'channels', 'options'),
    [
        (8, 3, {'compression': 'zlib'}),
        (16, 3, {'compression': 'zlib', 'predictor': True}),
        (16, 3, {}),
        (16, 2, {'extrasamples': ['unassalpha']}),
        (16, 3, {'tile': (16, 16)}),
    ],
)
def test_a_damaged_tiff_is_refused_in_one_line_or_read(tmp_path, depth, channels, options):
    pixels = pixels_of(20, 20, channels, depth)
    photometric = 'rgb' if channels > 2 else 'minisblack'
    write_tiff16(tmp_path / 'a.tif', pixels, photometric=photometric, **options)
    whole = (tmp_path / 'a.tif').read_bytes()
    rng = np.random.default_rng(0)
    header = 300  # where the directory is, in which changes matter most
    for _ in range(MUTATIONS):
        damaged = bytearray(whole)
        for at in rng.integers(0, min(header, len(whole)), rng.integers(1, 4)):
            damaged[at] = rng.integers(256)
        (tmp_path / 'a.tif').write_bytes(damaged)
        try:
            read_image(tmp_path / 'a.tif')
        except ImageReadError as error:
            assert '\n' not in str(error)


def test_sixteen_bits_are_rounded_to_eight_for_jpeg(tmp_path):
    record = record_of(3, 16)
    record = replace(record, colour=record.colour * 0 + 0.25)
    write_image(tmp_path / 'a.jpg', record)
    assert read_image(tmp_path / 'a.jpg').depth == 8


def test_the_alpha_of_sixteen_bits_is_rounded_to_eight_for_webp(tmp_path):
    record = record_of(4, 16)
    write_image(tmp_path / 'a.webp', record, quality=100)
    expected = np.rint(record.alpha / 257)
    np.testing.assert_array_equal(read_image(tmp_path / 'a.webp').alpha, expected)
