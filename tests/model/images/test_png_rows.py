"""PNG files whose pixels end before their last row are refused; whole ones are not."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from c2fdft_model.images.image_files import read_image
from c2fdft_model.images.image_io import ImageReadError
from c2fdft_model.images.png_rows import check_rows


def chunk(kind, content):
    checksum = zlib.crc32(kind + content)
    return struct.pack('>I', len(content)) + kind + content + struct.pack('>I', checksum)


def png(rows, height=32, width=32, depth=8, colours=2, interlaced=0):
    header = struct.pack('>IIBBBBB', width, height, depth, colours, 0, 0, interlaced)
    pixels = zlib.compress(bytes(rows * (1 + width * 3)))
    parts = chunk(b'IHDR', header), chunk(b'IDAT', pixels[:9]), chunk(b'IDAT', pixels[9:])
    return b'\x89PNG\r\n\x1a\n' + b''.join(parts) + chunk(b'IEND', b'')


@pytest.mark.parametrize('rows', [0, 16, 31])
def test_missing_rows_are_named(tmp_path, rows):
    path = tmp_path / 'x.png'
    path.write_bytes(png(rows))
    with pytest.raises(
        (ImageReadError, ValueError), match=f'x.png.*pixels end after {rows * 97} of 3104'
    ):
        read_image(path)


def test_a_whole_file_and_one_with_more_than_its_rows_pass():
    check_rows(png(32))
    check_rows(png(40))


@pytest.mark.parametrize('mode', ['1', 'L', 'LA', 'P', 'RGB', 'RGBA', 'I;16'])
@pytest.mark.parametrize('size', [(1, 1), (5, 3), (17, 9)])
def test_every_mode_that_is_written_whole_passes(mode, size):
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    image = image.convert('L').convert('I;16') if mode == 'I;16' else image.convert(mode)
    stream = io.BytesIO()
    image.save(stream, 'PNG')
    check_rows(stream.getvalue())


def test_the_passes_of_an_interlaced_image_are_counted():
    # 8 x 8 pixels of 3 bytes; the seven passes have 1, 1, 1, 2, 2, 4 and 4 rows
    data = png(0, 8, 8, interlaced=1)
    with pytest.raises(ValueError, match=f'0 of {64 * 3 + 15} bytes'):
        check_rows(data)
