"""Files as they are in the wild give the same RGB values by every route."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from c2fdft_model.data.lmdb.plan import encode_ppm
from c2fdft_model.images import tiff
from c2fdft_model.images.image_io import (
    ImageReadError,
    decode_rgb,
    image_size,
    read_rgb,
    to_float,
)
from helpers.paired_data import encode_png

RNG = np.random.default_rng(0)
RGB = cv2.resize(RNG.integers(0, 256, (6, 9, 3), dtype=np.uint8), (36, 24))
RGB16 = RNG.integers(0, 65536, (24, 36, 3), dtype=np.uint16)
GREY16 = RGB16[..., 0]
ALPHA = RNG.integers(0, 256, RGB.shape[:2], dtype=np.uint8)


def saved(image: Image.Image, kind: str, **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def tiff16(image: np.ndarray, **options) -> bytes:
    stream = io.BytesIO()
    tifffile.imwrite(stream, image, **options)
    return stream.getvalue()


def size_of(data: bytes, folder: Path) -> tuple[int, int]:
    (folder / 'image').write_bytes(data)
    return image_size(folder / 'image')


def three(grey: np.ndarray) -> np.ndarray:
    return np.repeat(grey[..., None], 3, axis=2)


COLOUR = Image.fromarray(RGB)
GREY = COLOUR.convert('L')
PALETTE = COLOUR.convert('P')
CLEAR = Image.fromarray(np.dstack([RGB, ALPHA]))
BILEVEL = COLOUR.convert('1')
CMYK = COLOUR.convert('CMYK')


STORED = {
    'colour': (COLOUR, RGB, 'PNG TIFF BMP PPM WEBP'),
    'grey': (GREY, three(np.asarray(GREY)), 'PNG TIFF BMP PPM GIF'),
    'palette': (PALETTE, np.asarray(PALETTE.convert('RGB')), 'PNG TIFF BMP GIF'),
    'bilevel': (BILEVEL, three(np.asarray(BILEVEL) * np.uint8(255)), 'PNG TIFF BMP GIF'),
    'alpha': (CLEAR, RGB, 'PNG TIFF BMP WEBP'),
    'grey alpha': (CLEAR.convert('LA'), three(np.asarray(CLEAR.convert('LA'))[..., 0]), 'PNG TIFF'),
}


@pytest.mark.parametrize(
    ('content', 'kind'),
    [(content, kind) for content, (_, _, kinds) in STORED.items() for kind in kinds.split()],
)
def test_eight_bit_files_without_loss(tmp_path, content, kind):
    image, truth, _ = STORED[content]
    data = saved(image, kind, **({'lossless': True, 'exact': True} if kind == 'WEBP' else {}))
    decoded = decode_rgb(data, 'x')
    assert decoded.dtype == np.uint8
    assert np.array_equal(decoded, truth)
    assert size_of(data, tmp_path) == (24, 36)


@pytest.mark.parametrize(
    ('data', 'truth'),
    [
        (encode_png(RGB16), RGB16),
        (encode_ppm(RGB16), RGB16),
        (tiff16(RGB16, photometric='rgb'), RGB16),
        (tiff16(RGB16, photometric='rgb', compression='zlib'), RGB16),
        (tiff16(RGB16, photometric='rgb', bigtiff=True), RGB16),
        (tiff16(RGB16, photometric='rgb', byteorder='>'), RGB16),
        (
            tiff16(np.dstack([RGB16, GREY16]), photometric='rgb', extrasamples=['unassalpha']),
            RGB16,
        ),
        (tiff16(GREY16), three(GREY16)),
        (tiff16(65535 - GREY16, photometric='miniswhite'), three(GREY16)),
        (tiff16(RGB16.transpose(2, 0, 1), photometric='rgb', planarconfig='separate'), RGB16),
        (cv2.imencode('.png', GREY16)[1].tobytes(), three(GREY16)),
        (cv2.imencode('.pgm', GREY16)[1].tobytes(), three(GREY16)),
    ],
    ids=[
        'png',
        'ppm',
        'tiff',
        'zlib',
        'bigtiff',
        'motorola',
        'alpha',
        'grey',
        'white is zero',
        'planes',
        'grey png',
        'pgm',
    ],
)
def test_sixteen_bits_are_kept(tmp_path, data, truth):
    decoded = decode_rgb(data, 'x')
    assert decoded.dtype == np.uint16
    assert np.array_equal(decoded, truth)
    assert size_of(data, tmp_path) == (24, 36)


@pytest.mark.parametrize('orientation', range(1, 9))
@pytest.mark.parametrize('kind', ['PNG', 'JPEG', 'TIFF', 'WEBP'])
def test_exif_orientation_is_applied(tmp_path, kind, orientation):
    exif = Image.Exif()
    exif[274] = orientation
    upright = decode_rgb(saved(COLOUR, kind), 'x').astype(int)
    data = saved(COLOUR, kind, exif=exif)
    turned = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 3),
        7: np.rot90(upright, 2).transpose(1, 0, 2),
        8: np.rot90(upright, 1),
    }[orientation]
    assert np.array_equal(decode_rgb(data, 'x'), turned)
    assert size_of(data, tmp_path) == turned.shape[:2]


@pytest.mark.parametrize('orientation', range(1, 9))
@pytest.mark.parametrize('channels', [1, 2, 3, 4])
@pytest.mark.parametrize('kind', [np.uint8, np.uint16])
def test_turning_keeps_channels_and_turning_back_gives_what_was_stored(kind, channels, orientation):
    stored = np.arange(5 * 7 * channels, dtype=kind).reshape(5, 7, channels)
    in_other_order = stored.transpose(2, 0, 1).copy().transpose(1, 2, 0)
    upright = tiff.upright(in_other_order, orientation)
    assert upright.shape == ((7, 5, channels) if orientation > 4 else (5, 7, channels))
    np.testing.assert_array_equal(tiff.as_stored(upright, orientation), stored)


def test_exif_orientation_of_sixteen_bit_files(tmp_path):
    data = tiff16(RGB16, photometric='rgb', extratags=[(274, 'H', 1, 6, True)])
    assert np.array_equal(decode_rgb(data, 'x'), np.rot90(RGB16, 3))
    assert size_of(data, tmp_path) == (36, 24)


@pytest.mark.parametrize('kind', ['JPEG', 'TIFF'])
def test_cmyk_becomes_rgb(kind):
    decoded = decode_rgb(saved(CMYK, kind, **({'quality': 95} if kind == 'JPEG' else {})), 'x')
    assert np.abs(decoded.astype(int) - RGB).mean() < (4 if kind == 'JPEG' else 1)


@pytest.mark.parametrize('kind', ['PNG', 'JPEG', 'TIFF', 'BMP', 'GIF', 'WEBP', 'PPM'])
@pytest.mark.parametrize('kept', [0.0, 0.3, 0.9])
def test_truncated_files_are_named(kind, kept, tmp_path):
    whole = saved(PALETTE if kind == 'GIF' else COLOUR, kind)
    path = tmp_path / 'broken.bin'
    path.write_bytes(whole[: int(len(whole) * kept)])
    with pytest.raises(ImageReadError, match='broken.bin: .*(truncated|damaged|empty|no.* image)'):
        read_rgb(path)


@pytest.mark.parametrize('kind', ['PNG', 'JPEG'])
def test_truncation_is_found_whatever_the_decoder_makes_of_it(kind, monkeypatch):
    """Some versions of OpenCV fill up a truncated file in silence."""
    data = saved(COLOUR, kind)[:700]
    monkeypatch.setattr(cv2, 'imdecode', lambda buffer, flags: RGB)
    with pytest.raises(ImageReadError, match='x: truncated'):
        decode_rgb(data, 'x')


def test_foreign_files_are_named(tmp_path):
    path = tmp_path / 'page.png'
    path.write_text('<html>not found</html>')
    with pytest.raises(ImageReadError, match='page.png: it is a web page'):
        read_rgb(path)
    with pytest.raises(ImageReadError, match='page.png: it is a web page'):
        image_size(path)


def test_damaged_exif_of_a_png_is_named():
    """OpenCV does not mind the wrong sum, but Pillow, which is asked for the orientation, does."""
    exif = Image.Exif()
    exif[274] = 6
    data = bytearray(saved(COLOUR, 'PNG', exif=exif))
    data[data.index(b'eXIf') + 30] ^= 1
    with pytest.raises(ImageReadError, match='^x: '):
        decode_rgb(bytes(data), 'x')


def test_exif_behind_the_pixels_of_a_png_turn_it_everywhere(tmp_path):
    exif = Image.Exif()
    exif[274] = 6
    pixels = np.random.default_rng(0).integers(0, 256, (200, 300, 3), np.uint8)
    data = saved(Image.fromarray(pixels), 'PNG', exif=exif)
    start = data.index(b'eXIf') - 4
    end = start + 12 + int.from_bytes(data[start : start + 4], 'big')
    at = data.index(b'IEND') - 4
    assert at > 2**16
    moved = data[:start] + data[end:at] + data[start:end] + data[at:]
    (tmp_path / 'a.png').write_bytes(moved)
    assert image_size(tmp_path / 'a.png') == (300, 200)
    np.testing.assert_array_equal(decode_rgb(moved, 'x'), np.rot90(pixels, -1))


def test_a_damaged_animated_png_gives_no_pixels_that_were_in_memory():
    file = io.BytesIO()
    frames = [Image.fromarray(np.roll(RGB, n, axis=0)) for n in range(3)]
    frames[0].save(file, 'PNG', save_all=True, append_images=frames[1:])
    whole = file.getvalue()
    np.testing.assert_array_equal(decode_rgb(whole, 'x'), RGB)
    places = [k for k in range(len(whole)) if whole.startswith((b'fcTL', b'fdAT', b'IDAT'), k)]
    for place in places:
        for offset in (6, 10, 20, 30):
            data = bytearray(whole)
            data[min(place + offset, len(data) - 1)] ^= 0x40
            read = []
            for _ in range(3):
                with contextlib.suppress(ImageReadError):
                    read.append(decode_rgb(bytes(data), 'x'))
            assert all(np.array_equal(read[0], other) for other in read)


def test_missing_files_are_named(tmp_path):
    with pytest.raises(ImageReadError, match='gone.png: No such file'):
        read_rgb(tmp_path / 'gone.png')
    with pytest.raises(ImageReadError, match='gone.png: No such file'):
        image_size(tmp_path / 'gone.png')


@pytest.mark.parametrize(
    'data',
    [
        tiff16(RGB.astype(np.float32), photometric='rgb'),
        tiff16(GREY16.astype(np.float32)),
        tiff16(np.dstack([RGB16, GREY16]), photometric='separated'),
    ],
    ids=['float colour', 'float grey', 'CMYK of 16 bits'],
)
def test_what_cannot_be_read_rightly_is_refused(data):
    with pytest.raises(ImageReadError, match='^strange.tif: '):
        decode_rgb(data, 'strange.tif')


def test_uncompressed_files_are_not_copied():
    data = encode_ppm(RGB)
    assert np.shares_memory(decode_rgb(data, 'x'), np.frombuffer(data, np.uint8))


def test_to_float_covers_the_unit_interval():
    assert to_float(np.array([[0, 255]], np.uint8)).tolist() == [[0.0, 1.0]]
    assert to_float(np.array([[0, 65535]], np.uint16)).tolist() == [[0.0, 1.0]]
    assert to_float(RGB.transpose(2, 0, 1)).flags.c_contiguous
