"""EXIF data pass through byte by byte, whatever the format."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from PIL import Image

from c2fdft_model.images import tiff
from c2fdft_model.images.image_files import (
    read_image,
    write_image,
)
from helpers.image_records import (
    FILES,
    ICC,
    assert_same,
    exif_with,
    pixels_of,
    record_of,
    tags_of,
)

EXPOSURE, PLACE = 0x8769, 0x8825
CAMERA = {271: 'Maker', 315: 'Artist', EXPOSURE: {33434: 0.5, 34855: 400}, PLACE: {1: 'N'}}


def assert_from_the_camera(exif):
    assert exif[271] == 'Maker' and exif[315] == 'Artist'
    exposure = exif.get_ifd(EXPOSURE)
    assert (float(exposure[33434]), exposure[34855]) == (0.5, 400)
    assert exif.get_ifd(PLACE)[1] == 'N'


@pytest.mark.parametrize(('suffix', 'depth'), FILES)
def test_exposure_and_place_are_kept(tmp_path, suffix, depth):
    path = tmp_path / f'a{suffix}'
    lost = write_image(path, record_of(3, depth, exif=exif_with(CAMERA)))
    assert lost == ()
    assert_from_the_camera(tags_of(read_image(path).exif))
    if depth == 8:
        assert_from_the_camera(Image.open(path).getexif())


@pytest.mark.parametrize('orientation', [0, 9])
@pytest.mark.parametrize('suffix', ['.jpg', '.png', '.tif', '.webp'])
def test_a_photo_of_a_camera_with_an_illegal_orientation_is_written_as_upright(
    tmp_path, suffix, orientation
):
    image = Image.fromarray(pixels_of(8, 16, 3))
    exif = exif_with({**CAMERA, 274: orientation})
    image.save(tmp_path / 'a.jpg', exif=b'Exif\0\0' + exif)
    given = read_image(tmp_path / 'a.jpg')
    write_image(tmp_path / f'b{suffix}', given, quality=100)
    written = Image.open(tmp_path / f'b{suffix}')
    assert written.size == (16, 8)
    difference = read_image(tmp_path / f'b{suffix}').colour - given.colour
    assert np.abs(difference).mean() < 0.05  # JPEG loses something of noise
    assert_from_the_camera(written.getexif())


@pytest.mark.parametrize('byteorder', ['<', '>'])
@pytest.mark.parametrize('depth', [8, 16])
def test_a_tiff_with_the_exposure_becomes_a_tiff_with_it(tmp_path, depth, byteorder):
    content = tiff.write_tiff(pixels_of(8, 8, 3, depth), exif_with(CAMERA, byteorder), [])
    assert content.startswith(b'II' if byteorder == '<' else b'MM')
    (tmp_path / 'a.tif').write_bytes(content)
    write_image(tmp_path / 'b.tif', read_image(tmp_path / 'a.tif'))
    assert_from_the_camera(tags_of(read_image(tmp_path / 'b.tif').exif))


def test_text_beyond_ascii_is_kept_byte_by_byte(tmp_path):
    name = 'Jos\u00e9'.encode()
    exif = exif_with({315: 'A' * len(name)}).replace(b'A' * len(name), name)
    for suffix, depth in FILES:
        write_image(tmp_path / f'a{suffix}', record_of(3, depth, exif=exif))
        assert tags_of(read_image(tmp_path / f'a{suffix}').exif)[315].encode('latin-1') == name


def test_exif_that_is_too_long_for_jpeg_is_named_and_the_image_upright(tmp_path):
    turned = {**CAMERA, 274: 6, EXPOSURE: {**CAMERA[EXPOSURE], 37500: bytes(70000)}}
    exif = exif_with(turned)
    lost = write_image(tmp_path / 'a.jpg', record_of(3, 8, exif=exif))
    assert lost == ('EXIF data',)
    assert (Image.open(tmp_path / 'a.jpg').size, read_image(tmp_path / 'a.jpg').exif) == (
        (7, 13),
        b'',
    )
    assert write_image(tmp_path / 'a.png', record_of(3, 8, exif=exif)) == ()


def test_damaged_entries_are_no_harm_to_the_others(tmp_path):
    exif = bytearray(exif_with({271: 'Maker with a long name', 315: 'Artist with a long name'}))
    at = exif.index(struct.pack('<HH', 315, 2))
    exif[at + 8 : at + 12] = b'\xff\xff\xff\x7f'
    Image.fromarray(pixels_of(8, 8, 3)).save(tmp_path / 'a.jpg', exif=b'Exif\0\0' + exif)
    read = read_image(tmp_path / 'a.jpg')
    assert read.exif == exif
    for suffix in ('.jpg', '.png', '.tif'):
        assert write_image(tmp_path / f'b{suffix}', read) == ()
        assert tags_of(read_image(tmp_path / f'b{suffix}').exif)[271] == 'Maker with a long name'


def test_malformed_exif_does_not_stop_an_image(tmp_path):
    image = Image.fromarray(pixels_of(8, 8, 3))
    image.save(tmp_path / 'a.jpg', exif=b'Exif\0\0MM\0*\xff\xff\xff\xff')
    read = read_image(tmp_path / 'a.jpg')
    assert (read.exif, read.lost) == (b'', ('EXIF data',))


def test_grey_with_alpha_of_sixteen_bits_keeps_what_belongs_to_it(tmp_path):
    exif = exif_with({**CAMERA, 274: 6})
    given = record_of(2, 16, exif=exif, icc=ICC)
    write_image(tmp_path / 'a.tif', given)
    read = read_image(tmp_path / 'a.tif')
    assert_same(read, given)
    assert (read.icc, tags_of(read.exif)[274]) == (ICC, 6)
    assert_from_the_camera(tags_of(read.exif))
