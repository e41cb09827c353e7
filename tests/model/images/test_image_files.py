"""Image files come back as they were written, and errors name the file."""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageOps

from c2fdft_arch.common import atomic_write
from c2fdft_arch.common.free_memory import free_memory
from c2fdft_model.images import image_io, tiff
from c2fdft_model.images.image_files import (
    ImageFileError,
    ImageRecord,
    quantised,
    read_image,
    write_image,
)
from c2fdft_model.images.image_io import image_size, read_rgb
from helpers.image_records import (
    CHANNELS,
    FILES,
    ICC,
    FullDisk,
    assert_same,
    exif_with,
    pixels_of,
    record_of,
    refusal,
    tags_of,
)


@pytest.mark.parametrize('depth', [8, 16])
@pytest.mark.parametrize('channels', [1, 2, 3, 4])
@pytest.mark.parametrize('suffix', ['.png', '.tif'])
def test_lossless_files_come_back_as_they_were(tmp_path, suffix, channels, depth):
    record = record_of(channels, depth)
    write_image(tmp_path / f'a{suffix}', record)
    assert_same(read_image(tmp_path / f'a{suffix}'), record)


@pytest.mark.parametrize('channels', [3, 4])
def test_webp_of_quality_100_comes_back_as_it_was(tmp_path, channels):
    record = record_of(channels, 8)
    write_image(tmp_path / 'a.webp', record, quality=100)
    assert_same(read_image(tmp_path / 'a.webp'), record)


@pytest.mark.parametrize('channels', [1, 3])
def test_jpeg_comes_back_nearly_as_it_was(tmp_path, channels):
    record = record_of(channels, 8)
    smooth = replace(record, colour=record.colour * 0 + 0.5)
    write_image(tmp_path / 'a.jpg', smooth)
    read = read_image(tmp_path / 'a.jpg')
    np.testing.assert_allclose(read.colour, smooth.colour, atol=0.01)
    assert read.grey == smooth.grey


@pytest.mark.parametrize('orientation', range(1, 9))
@pytest.mark.parametrize(
    ('suffix', 'depth'), [('.jpg', 8), ('.png', 8), ('.tif', 8), ('.webp', 8), ('.png', 16)]
)
def test_images_are_turned_upright_and_stored_as_they_lay(tmp_path, suffix, depth, orientation):
    exif = exif_with({274: orientation})
    stored = np.zeros((8, 16, 3), np.uint8)
    stored[:4, :8], stored[:4, 8:], stored[4:, :8] = 255, 160, 80
    upright = tiff.upright(stored, orientation) / np.float32(255)
    record = ImageRecord(upright, depth=depth, exif=exif)
    write_image(tmp_path / f'a{suffix}', record, quality=100)

    expected = ImageOps.exif_transpose(Image.open(tmp_path / f'a{suffix}'))
    np.testing.assert_allclose(np.asarray(expected), upright * 255, atol=2)
    read = read_image(tmp_path / f'a{suffix}')
    np.testing.assert_allclose(read.colour, upright, atol=0.01)
    assert tags_of(read.exif)[274] == orientation


@pytest.mark.parametrize(('suffix', 'depth'), FILES)
def test_the_colour_profile_and_the_camera_are_kept(tmp_path, suffix, depth):
    exif = exif_with({271: 'Maker'})
    write_image(tmp_path / f'a{suffix}', record_of(3, depth, icc=ICC, exif=exif))
    read = read_image(tmp_path / f'a{suffix}')
    assert read.icc == ICC
    assert tags_of(read.exif)[271] == 'Maker'


def test_an_image_is_written_upright_without_what_its_format_refuses(tmp_path, monkeypatch):
    given = record_of(3, 8, exif=exif_with({274: 6}), icc=ICC)
    write = tiff.write_tiff

    def fail(pixels, exif, *arguments, **options):
        return write(pixels, exif, *arguments, **options) if not exif else int('x')

    monkeypatch.setattr(tiff, 'write_tiff', fail)
    assert write_image(tmp_path / 'a.tif', given) == ('EXIF data', 'colour profile')
    read = read_image(tmp_path / 'a.tif')
    assert_same(read, given)
    assert (read.exif, read.icc) == (b'', b'')


def test_a_palette_with_transparency_becomes_colour_with_alpha(tmp_path):
    image = Image.fromarray(pixels_of(8, 8, 1)[:, :, 0]).convert('P')
    image.save(tmp_path / 'a.png', transparency=3)
    read = read_image(tmp_path / 'a.png')
    assert read.alpha is not None and not read.grey


def test_black_and_white_becomes_grey(tmp_path):
    Image.fromarray(pixels_of(8, 8, 1)[:, :, 0] > 128).save(tmp_path / 'a.png')
    read = read_image(tmp_path / 'a.png')
    assert read.grey and set(np.unique(read.colour)) == {0, 1}


def test_cmyk_becomes_rgb_without_its_profile(tmp_path):
    image = Image.fromarray(pixels_of(8, 8, 4), 'CMYK')
    image.save(tmp_path / 'a.jpg', icc_profile=ICC)
    read = read_image(tmp_path / 'a.jpg')
    assert read.colour.shape == (8, 8, 3) and read.icc == b''
    assert read.lost == ('CMYK or Lab (now RGB)', 'colour profile')


def test_the_images_of_a_file_are_counted(tmp_path):
    first, second = (Image.fromarray(pixels_of(8, 8, 3, seed=s)) for s in (0, 1))
    first.save(tmp_path / 'a.tif', save_all=True, append_images=[second])
    read = read_image(tmp_path / 'a.tif')
    assert read.lost == ('1 further images of the file',)
    np.testing.assert_array_equal(read.colour, np.asarray(first) / np.float32(255))


def test_quantised_is_what_the_format_holds_before_its_coding_loses_something(tmp_path):
    values = np.random.default_rng(0).random((8, 8, 3), np.float32)
    record = ImageRecord(values, depth=16, grey=True)
    grey = np.rint(values.mean(axis=2, keepdims=True) * 255) / 255
    jpeg = quantised(record, tmp_path / 'a.jpg')
    np.testing.assert_allclose(jpeg, np.repeat(grey, 3, axis=2), atol=1e-6)
    write_image(tmp_path / 'a.tif', record)
    read = read_image(tmp_path / 'a.tif').colour
    np.testing.assert_array_equal(quantised(record, tmp_path / 'a.tif'), read)


def test_quantised_is_what_the_file_holds(tmp_path):
    record = ImageRecord(np.random.default_rng(0).random((8, 8, 3), np.float32))
    write_image(tmp_path / 'a.png', record)
    np.testing.assert_array_equal(
        quantised(record, tmp_path / 'a.png'), read_image(tmp_path / 'a.png').colour
    )


def test_a_missing_file_is_refused(tmp_path):
    assert 'No such file' in refusal(tmp_path / 'a.png')


def test_a_folder_is_refused(tmp_path):
    assert 'folder' in refusal(tmp_path)


def test_an_empty_file_is_refused(tmp_path):
    (tmp_path / 'a.png').touch()
    assert 'empty' in refusal(tmp_path / 'a.png')


@pytest.mark.parametrize('content', [b'hello', b'II*\0hello', b'\x89PNG\r\n\x1a\n', b'\xff\xd8'])
def test_what_is_no_image_is_refused(tmp_path, content):
    (tmp_path / 'a.png').write_bytes(content)
    refusal(tmp_path / 'a.png')


@pytest.mark.parametrize(('suffix', 'depth'), FILES)
@pytest.mark.parametrize('share', [0.3, 0.9])
def test_a_truncated_file_is_refused(tmp_path, suffix, depth, share):
    pixels = pixels_of(64, 64, 3, depth) / np.float32(2**depth - 1)
    write_image(tmp_path / f'whole{suffix}', ImageRecord(pixels, depth=depth))
    whole = (tmp_path / f'whole{suffix}').read_bytes()
    (tmp_path / f'a{suffix}').write_bytes(whole[: int(len(whole) * share)])
    refusal(tmp_path / f'a{suffix}')


def test_floating_point_tiff_is_refused(tmp_path):
    Image.fromarray(np.ones((8, 8), np.float32)).save(tmp_path / 'a.tif')
    assert '32 bits' in refusal(tmp_path / 'a.tif')


def test_no_permission_to_read_is_named(tmp_path, monkeypatch):
    write_image(tmp_path / 'a.png', record_of(3, 8))

    def refuse(*_):
        raise PermissionError(13, 'Permission denied')

    monkeypatch.setattr(image_io, 'open', refuse, raising=False)
    assert 'Permission denied' in refusal(tmp_path / 'a.png')


def test_an_unknown_format_is_refused(tmp_path):
    with pytest.raises(ImageFileError, match=r'a\.gif: the name ends in \.gif'):
        write_image(tmp_path / 'a.gif', record_of(3, 8))


def test_jpeg_refuses_alpha(tmp_path):
    with pytest.raises(ImageFileError, match='alpha'):
        write_image(tmp_path / 'a.jpg', record_of(4, 8))


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    write_image(tmp_path / 'a.png', record_of(3, 8))
    before = (tmp_path / 'a.png').read_bytes()

    monkeypatch.setattr(atomic_write, 'open', FullDisk, raising=False)
    with pytest.raises(ImageFileError, match='No space left'):
        write_image(tmp_path / 'a.png', record_of(3, 16))
    assert (tmp_path / 'a.png').read_bytes() == before
    assert os.listdir(tmp_path) == ['a.png']


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / 'file').touch()
    with pytest.raises(ImageFileError, match='cannot be written'):
        write_image(tmp_path / 'file' / 'a.png', record_of(3, 8))


@pytest.mark.parametrize('channels', CHANNELS.values(), ids=CHANNELS)
@pytest.mark.parametrize('depth', [8, 16])
def test_a_single_pixel_is_read_and_written(tmp_path, channels, depth):
    record = record_of(channels, depth)
    alpha = None if record.alpha is None else record.alpha[:1, :1]
    pixel = ImageRecord(record.colour[:1, :1], alpha, depth, record.grey)
    write_image(tmp_path / 'a.png', pixel)
    assert_same(read_image(tmp_path / 'a.png'), pixel)


@pytest.mark.parametrize(('suffix', 'kind'), [('.jpg', 'JPEG'), ('.png', 'PNG'), ('.tif', 'TIFF')])
def test_two_hundred_megapixels_are_read_everywhere_alike(tmp_path, suffix, kind):
    side = 14_200
    needed = side**2 * (4 * 3 + 2 * 3)  # bytes, as float32 and twice as stored
    if (free_memory() or needed) < 2 * needed:
        pytest.skip('not enough memory')
    pixels = np.add.outer(np.arange(side) // 61, np.arange(side) // 67).astype(np.uint8)
    options = {'quality': 95} if kind == 'JPEG' else {}
    Image.fromarray(pixels).save(tmp_path / f'a{suffix}', kind, **options)
    path = tmp_path / f'a{suffix}'
    assert image_size(path) == (side, side)
    stored = read_rgb(path)
    some = np.s_[:: side // 100, :: side // 100]
    np.testing.assert_allclose(stored[some], pixels[some][..., None].repeat(3, 2), atol=3)
    restoring = read_image(path).colour
    assert restoring.shape == (side, side, 3)
    np.testing.assert_allclose(restoring[some], stored[some] / np.float32(255), atol=1e-7)
