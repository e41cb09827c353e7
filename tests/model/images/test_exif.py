"""EXIF data pass through byte by byte, whatever the format."""

from __future__ import annotations

import struct

import pytest
import tifffile
from PIL import Image

from c2fdft_model.images import image_files
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
    image.save(tmp_path / 'a.jpg', exif=exif_with({**CAMERA, 274: orientation}))
    given = read_image(tmp_path / 'a.jpg')
    write_image(tmp_path / f'b{suffix}', given, quality=100)
    written = Image.open(tmp_path / f'b{suffix}')
    assert written.size == (16, 8)
    assert written.getexif()[274] == 1
    assert_from_the_camera(written.getexif())


@pytest.mark.parametrize('byteorder', ['<', '>'])
@pytest.mark.parametrize('depth', [8, 16])
def test_a_tiff_with_the_exposure_becomes_a_tiff_with_it(tmp_path, depth, byteorder):
    with tifffile.TiffWriter(tmp_path / 'a.tif', byteorder=byteorder) as tiff:
        tiff.write(pixels_of(8, 8, 3, depth), photometric='rgb', metadata=None)
    exif = image_files.read_exif(exif_with(CAMERA, byteorder))
    content = image_files.with_exif((tmp_path / 'a.tif').read_bytes(), exif)
    (tmp_path / 'a.tif').write_bytes(content)
    write_image(tmp_path / 'b.tif', read_image(tmp_path / 'a.tif'))
    assert_from_the_camera(tags_of(read_image(tmp_path / 'b.tif').exif))


def test_text_beyond_ascii_is_kept_byte_by_byte(tmp_path):
    exif = image_files.read_exif(exif_with({271: 'Maker'}))
    name = 'Jos\u00e9'.encode() + b'\0'
    exif.tags[315] = type(exif.tags[271])(2, len(name), name)
    for suffix, depth in FILES:
        write_image(tmp_path / f'a{suffix}', record_of(3, depth, exif=exif.to_bytes()))
        read = image_files.read_exif(read_image(tmp_path / f'a{suffix}').exif)
        assert read.tags[315].data == name


def test_exif_that_is_too_long_for_jpeg_loses_its_longest_entries(tmp_path):
    exif = exif_with({**CAMERA, EXPOSURE: {**CAMERA[EXPOSURE], 37500: bytes(70000)}})
    lost = write_image(tmp_path / 'a.jpg', record_of(3, 8, exif=exif))
    assert lost == ('MakerNote',)
    assert_from_the_camera(Image.open(tmp_path / 'a.jpg').getexif())
    assert write_image(tmp_path / 'a.png', record_of(3, 8, exif=exif)) == ()


def test_damaged_entries_are_named_and_the_others_kept(tmp_path):
    exif = bytearray(exif_with({271: 'Maker with a long name', 315: 'Artist with a long name'}))
    at = exif.index(struct.pack('<HH', 315, 2))
    exif[at + 8 : at + 12] = b'\xff\xff\xff\x7f'
    Image.fromarray(pixels_of(8, 8, 3)).save(tmp_path / 'a.jpg', exif=bytes(exif))
    read = read_image(tmp_path / 'a.jpg')
    assert read.lost == ('Artist',)
    assert tags_of(read.exif)[271] == 'Maker with a long name'
    assert write_image(tmp_path / 'b.jpg', read) == ('Artist',)


def test_malformed_exif_does_not_stop_an_image(tmp_path):
    image = Image.fromarray(pixels_of(8, 8, 3))
    image.save(tmp_path / 'a.jpg', exif=b'Exif\0\0MM\0*\xff\xff\xff\xff')
    assert read_image(tmp_path / 'a.jpg').orientation == 1


def test_grey_with_alpha_of_sixteen_bits_keeps_what_belongs_to_it(tmp_path):
    exif = exif_with({**CAMERA, 274: 6})
    given = record_of(2, 16, exif=exif, icc=ICC, orientation=6)
    write_image(tmp_path / 'a.tif', given)
    read = read_image(tmp_path / 'a.tif')
    assert_same(read, given)
    assert (read.icc, read.orientation) == (ICC, 6)
    assert_from_the_camera(tags_of(read.exif))
