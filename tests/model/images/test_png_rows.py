"""PNG files whose pixels end before their last row are refused; whole ones are not."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from c2fdft_model.images.image_files import read_image
from c2fdft_model.images.image_io import ImageReadError, read_rgb


def chunk(kind, content):
    checksum = zlib.crc32(kind + content)
    return struct.pack('>I', len(content)) + kind + content + struct.pack('>I', checksum)


def png(rows, height=32, width=32, depth=8, colours=2, interlaced=0):
    header = struct.pack('>IIBBBBB', width, height, depth, colours, 0, 0, interlaced)
    pixels = zlib.compress(bytes(rows * (1 + width * 3)))
    parts = chunk(b'IHDR', header), chunk(b'IDAT', pixels[:9]), chunk(b'IDAT', pixels[9:])
    return b'\x89PNG\r\n\x1a\n' + b''.join(parts) + chunk(b'IEND', b'')


def written(folder, content):
    (folder / 'x.png').write_bytes(content)
    return folder / 'x.png'


@pytest.mark.parametrize('read', [read_image, read_rgb])
@pytest.mark.parametrize(
    'content',
    [*map(png, (0, 1, 16, 31)), png(0, 8, 8, interlaced=1), png(7, 8, 8, interlaced=1)],
    ids=['none', 'one', 'half', 'all but one', 'none of an interlaced', 'too few passes'],
)
def test_missing_rows_are_refused(tmp_path, read, content):
    with pytest.raises(ImageReadError, match=r'x\.png: truncated or damaged image'):
        read(written(tmp_path, content))


@pytest.mark.parametrize('rows', [32, 40])
def test_a_whole_file_and_one_with_more_than_its_rows_are_read(tmp_path, rows):
    assert not read_image(written(tmp_path, png(rows))).colour.any()


def test_an_interlaced_file_is_read(tmp_path):
    # 8 x 8 pixels of 3 bytes; the seven passes have 1, 1, 1, 2, 2, 4 and 4 rows: 15 filter bytes
    data = png(0, 8, 8, interlaced=1)
    start = data[: data.index(b'IDAT') - 4]
    content = start + chunk(b'IDAT', zlib.compress(bytes(8 * 8 * 3 + 15))) + chunk(b'IEND', b'')
    assert not read_image(written(tmp_path, content)).colour.any()


@pytest.mark.parametrize('mode', ['1', 'L', 'LA', 'P', 'RGB', 'RGBA', 'I;16'])
@pytest.mark.parametrize('size', [(1, 1), (5, 3), (17, 9)])
def test_every_mode_that_is_written_whole_is_read(tmp_path, mode, size):
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    image = image.convert('L').convert('I;16') if mode == 'I;16' else image.convert(mode)
    image.save(tmp_path / 'x.png')
    assert read_image(tmp_path / 'x.png').colour.shape == pixels.shape
