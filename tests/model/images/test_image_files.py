from __future__ import annotations

import os
import struct
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms, ImageOps

from c2fdft_model.images import image_files
from c2fdft_model.images.image_files import (
    ImageFileError,
    ImageRecord,
    quantised,
    read_image,
    write_image,
)

ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile('sRGB')).tobytes()
CHANNELS = {'L': 1, 'LA': 2, 'RGB': 3, 'RGBA': 4}


def pixels_of(height, width, channels, depth=8, seed=0):
    rng = np.random.default_rng(seed)
    kind = np.uint8 if depth == 8 else np.uint16
    return rng.integers(0, 2**depth, (height, width, channels), dtype=kind)


def exif_with(tags, byteorder='<'):
    exif = Image.Exif()
    exif.endian = byteorder
    for tag, value in tags.items():
        exif[tag] = value
    return exif.tobytes()


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
    smooth = record.with_colour(record.colour * 0 + 0.5)
    write_image(tmp_path / 'a.jpg', smooth)
    read = read_image(tmp_path / 'a.jpg')
    np.testing.assert_allclose(read.colour, smooth.colour, atol=0.01)
    assert read.grey == smooth.grey


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


@pytest.mark.parametrize('orientation', range(1, 9))
@pytest.mark.parametrize(
    ('suffix', 'depth'), [('.jpg', 8), ('.png', 8), ('.tif', 8), ('.webp', 8), ('.png', 16)]
)
def test_pictures_are_turned_upright_and_stored_as_they_lay(tmp_path, suffix, depth, orientation):
    exif = exif_with({274: orientation})
    stored = np.zeros((8, 16, 3), np.uint8)
    stored[:4, :8], stored[:4, 8:], stored[4:, :8] = 255, 160, 80
    upright = image_files.UPRIGHT[orientation](stored) / np.float32(255)
    record = ImageRecord(upright, depth=depth, orientation=orientation, exif=exif)
    write_image(tmp_path / f'a{suffix}', record, quality=100)

    expected = ImageOps.exif_transpose(Image.open(tmp_path / f'a{suffix}'))
    np.testing.assert_allclose(np.asarray(expected), upright * 255, atol=2)
    read = read_image(tmp_path / f'a{suffix}')
    np.testing.assert_allclose(read.colour, upright, atol=0.01)
    assert read.orientation == orientation


@pytest.mark.parametrize('orientation', [3, 6, 8])
def test_a_turned_sixteen_bit_tiff_is_read_upright(tmp_path, orientation):
    exif = exif_with({274: orientation})
    record = record_of(3, 16, orientation=orientation, exif=exif)
    write_image(tmp_path / 'a.tif', record)
    read = read_image(tmp_path / 'a.tif')
    assert_same(read, record)
    assert read.orientation == orientation
    assert Image.open(tmp_path / 'a.tif').tag_v2[274] == orientation


@pytest.mark.parametrize(
    ('suffix', 'depth'),
    [('.jpg', 8), ('.png', 8), ('.tif', 8), ('.webp', 8), ('.png', 16), ('.tif', 16)],
)
def test_the_colour_profile_and_the_camera_are_kept(tmp_path, suffix, depth):
    exif = exif_with({271: 'Maker'})
    write_image(tmp_path / f'a{suffix}', record_of(3, depth, icc=ICC, exif=exif))
    read = read_image(tmp_path / f'a{suffix}')
    assert read.icc == ICC
    assert tags_of(read.exif)[271] == 'Maker'


EXPOSURE, PLACE = 0x8769, 0x8825
CAMERA = {271: 'Maker', 315: 'Artist', EXPOSURE: {33434: 0.5, 34855: 400}, PLACE: {1: 'N'}}
FILES = [('.jpg', 8), ('.png', 8), ('.tif', 8), ('.webp', 8), ('.png', 16), ('.tif', 16)]


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


def test_a_picture_is_written_upright_without_what_its_format_refuses(tmp_path, monkeypatch):
    given = record_of(3, 8, exif=exif_with({274: 6}), orientation=6, icc=ICC)
    monkeypatch.setattr(image_files, 'with_exif', lambda *_: 1 / 0)
    assert write_image(tmp_path / 'a.tif', given) == ('EXIF data', 'colour profile')
    read = read_image(tmp_path / 'a.tif')
    assert_same(read, given)
    assert (read.orientation, read.exif, read.icc) == (1, None, None)


def test_damaged_entries_are_named_and_the_others_kept(tmp_path):
    exif = bytearray(exif_with({271: 'Maker with a long name', 315: 'Artist with a long name'}))
    at = exif.index(struct.pack('<HH', 315, 2))
    exif[at + 8 : at + 12] = b'\xff\xff\xff\x7f'
    Image.fromarray(pixels_of(8, 8, 3)).save(tmp_path / 'a.jpg', exif=bytes(exif))
    read = read_image(tmp_path / 'a.jpg')
    assert read.lost == ('Artist',)
    assert tags_of(read.exif)[271] == 'Maker with a long name'
    assert write_image(tmp_path / 'b.jpg', read) == ('Artist',)


def test_grey_with_alpha_of_sixteen_bits_keeps_what_belongs_to_it(tmp_path):
    exif = exif_with({**CAMERA, 274: 6})
    given = record_of(2, 16, exif=exif, icc=ICC, orientation=6)
    write_image(tmp_path / 'a.tif', given)
    read = read_image(tmp_path / 'a.tif')
    assert_same(read, given)
    assert (read.icc, read.orientation) == (ICC, 6)
    assert_from_the_camera(tags_of(read.exif))


@pytest.mark.parametrize('channels', [1, 3])
def test_the_transparent_colour_of_a_sixteen_bit_png_becomes_alpha(tmp_path, channels):
    pixels = pixels_of(4, 5, channels, 16)
    content = image_files.write_png16(pixels)
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


def write_tiff16(path, pixels, **options):
    tifffile.imwrite(path, pixels, metadata=None, **options)


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
    assert 'is CMYK of 16 bits: save it as RGB' in refusal(tmp_path / 'a.tif')


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
    assert 'cut short' in refusal(tmp_path / 'a.tif')


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
        except ImageFileError as error:
            assert '\n' not in str(error)


def test_malformed_exif_does_not_stop_a_picture(tmp_path):
    image = Image.fromarray(pixels_of(8, 8, 3))
    image.save(tmp_path / 'a.jpg', exif=b'Exif\0\0MM\0*\xff\xff\xff\xff')
    assert read_image(tmp_path / 'a.jpg').orientation == 1


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
    assert read.colour.shape == (8, 8, 3) and read.icc is None


def test_sixteen_bits_are_rounded_to_eight_for_jpeg(tmp_path):
    record = record_of(3, 16)
    record = record.with_colour(record.colour * 0 + 0.25)
    write_image(tmp_path / 'a.jpg', record)
    assert read_image(tmp_path / 'a.jpg').depth == 8


def test_the_alpha_of_sixteen_bits_is_rounded_to_eight_for_webp(tmp_path):
    record = record_of(4, 16)
    write_image(tmp_path / 'a.webp', record, quality=100)
    expected = np.rint(record.alpha / 257)
    np.testing.assert_array_equal(read_image(tmp_path / 'a.webp').alpha, expected)


def test_the_pictures_of_a_file_are_counted(tmp_path):
    first, second = (Image.fromarray(pixels_of(8, 8, 3, seed=s)) for s in (0, 1))
    first.save(tmp_path / 'a.tif', save_all=True, append_images=[second])
    read = read_image(tmp_path / 'a.tif')
    assert read.frames == 2
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
    np.testing.assert_array_equal(quantised(record), read_image(tmp_path / 'a.png').colour)


def refusal(path):
    with pytest.raises(ImageFileError) as caught:
        read_image(path)
    message = str(caught.value)
    assert str(path) in message
    assert '\n' not in message
    return message


def test_a_missing_file_is_refused(tmp_path):
    assert 'no such file' in refusal(tmp_path / 'a.png')


def test_a_folder_is_refused(tmp_path):
    assert 'folder' in refusal(tmp_path)


def test_an_empty_file_is_refused(tmp_path):
    (tmp_path / 'a.png').touch()
    assert 'empty' in refusal(tmp_path / 'a.png')


@pytest.mark.parametrize('content', [b'hello', b'II*\0hello', b'\x89PNG\r\n\x1a\n', b'\xff\xd8'])
def test_what_is_no_image_is_refused(tmp_path, content):
    (tmp_path / 'a.png').write_bytes(content)
    refusal(tmp_path / 'a.png')


@pytest.mark.parametrize(
    ('suffix', 'depth'),
    [('.jpg', 8), ('.png', 8), ('.tif', 8), ('.webp', 8), ('.png', 16), ('.tif', 16)],
)
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

    def refuse(_):
        raise PermissionError(13, 'Permission denied')

    monkeypatch.setattr(image_files.Path, 'read_bytes', refuse)
    assert 'no permission' in refusal(tmp_path / 'a.png')


def test_an_unknown_format_is_refused(tmp_path):
    with pytest.raises(ImageFileError, match=r'a\.gif'):
        write_image(tmp_path / 'a.gif', record_of(3, 8))


def test_jpeg_refuses_alpha(tmp_path):
    with pytest.raises(ImageFileError, match='alpha'):
        write_image(tmp_path / 'a.jpg', record_of(4, 8))


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    write_image(tmp_path / 'a.png', record_of(3, 8))
    before = (tmp_path / 'a.png').read_bytes()

    def fill(path, content):
        with open(path, 'wb') as file:
            file.write(content[:10])
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(image_files.Path, 'write_bytes', fill)
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
