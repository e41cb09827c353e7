"""No file stalls a run, ends it, or takes the machine's memory."""

from __future__ import annotations

import io
import os
import struct
import time
import zlib

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from c2fdft_arch.common import free_memory as memory
from c2fdft_model.images import image_io, indexed_png
from c2fdft_model.images.image_files import read_image
from c2fdft_model.images.image_io import ImageReadError, image_size, read_rgb
from helpers.image_records import pixels_of, refusal

SECONDS = 10
"""Of this process; each of these files took minutes, or gigabytes."""


@pytest.fixture(autouse=True)
def in_time():
    before = time.process_time()
    yield
    assert time.process_time() - before < SECONDS


def overlapping(count: int, size: int) -> bytes:
    """EXIF data of a few bytes for each of `count` tags, which all claim the same `size` bytes."""
    at = 8 + 2 + 12 * count + 4
    rows = (struct.pack('<HHII', 1000 + k, 7, size, at) for k in range(count))
    start = b'II*\0' + struct.pack('<IH', 8, count)
    return b'Exif\0\0' + start + b''.join(rows) + bytes(4 + size)


def saved(kind: str, **options) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels_of(60, 80, 3)).convert('P' if kind == 'GIF' else 'RGB').save(
        stream, kind, **options
    )
    return stream.getvalue()


def jpeg_with(segments: bytes) -> bytes:
    """A JPEG file without the segment that would keep Pillow from reading EXIF data."""
    content = saved('JPEG')
    assert content[2:4] == b'\xff\xe0'
    return content[:2] + segments + content[4 + int.from_bytes(content[4:6], 'big') :]


def exif_segments(content: bytes, size: int) -> bytes:
    parts = (content[k : k + size] for k in range(0, len(content), size))
    return b''.join(
        b'\xff\xe1' + struct.pack('>H', 8 + len(part)) + b'Exif\0\0' + part for part in parts
    )


@pytest.mark.parametrize(
    'content',
    [
        saved('PNG', exif=overlapping(60000, 60000)),
        saved('WEBP', exif=overlapping(60000, 60000)),
        jpeg_with(exif_segments(overlapping(60000, 600000)[6:], 65000)),
        jpeg_with(exif_segments(bytes(40000), 1)),
    ],
    ids=['PNG', 'WebP', 'JPEG', 'JPEG in forty thousand pieces'],
)
def test_exif_data_that_would_take_long_are_dropped_and_named(tmp_path, content):
    (tmp_path / 'a').write_bytes(content)
    assert image_size(tmp_path / 'a') == (60, 80)
    assert read_rgb(tmp_path / 'a').shape == (60, 80, 3)
    read = read_image(tmp_path / 'a')
    assert (read.exif, read.lost) == (b'', ('EXIF data',))


def test_tiff_tags_that_claim_the_same_bytes_are_refused(tmp_path):
    tags = [(60000 + k, 7, 30000, bytes(30000), True) for k in range(2)]
    stream = io.BytesIO()
    tifffile.imwrite(stream, pixels_of(8, 8, 3), photometric='rgb', extratags=tags, metadata=None)
    content = bytearray(stream.getvalue())
    with tifffile.TiffFile(io.BytesIO(bytes(content))) as file:
        first, second = (file.pages[0].tags[60000 + k] for k in range(2))
        content = content[: second.valueoffset]
    content[second.offset + 8 : second.offset + 12] = struct.pack('<I', first.valueoffset)
    (tmp_path / 'a.tif').write_bytes(content)
    assert 'its tags claim more bytes than there are' in refusal(tmp_path / 'a.tif')


def claiming(kind: str, width: int, height: int) -> bytes:
    """A small file that claims to hold a large image."""
    if kind == 'PNG':
        row = zlib.compress(bytes(1 + 3 * width))
        chunks = [(b'IHDR', struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0)), (b'IDAT', row)]
        return b'\x89PNG\r\n\x1a\n' + b''.join(
            struct.pack('>I', len(c)) + n + c + struct.pack('>I', zlib.crc32(n + c))
            for n, c in [*chunks, (b'IEND', b'')]
        )
    if kind == 'TIFF':
        stream = io.BytesIO()
        pixels = pixels_of(8, 8, 3, 16)
        tifffile.imwrite(stream, pixels, photometric='rgb', compression='zlib', metadata=None)
        content = bytearray(stream.getvalue())
        with tifffile.TiffFile(io.BytesIO(bytes(content))) as file:
            places = [file.pages[0].tags[code].offset + 8 for code in (256, 257)]
        for place, side in zip(places, (width, height), strict=True):
            content[place : place + 4] = struct.pack('<I', side)
        return bytes(content)
    content, size = saved(kind), struct.pack('<ii', width, height)
    if kind == 'JPEG':
        at = content.index(b'\xff\xc0') + 5
        return content[:at] + struct.pack('>HH', height, width) + content[at + 4 :]
    if kind == 'GIF':
        return content[:6] + struct.pack('<HH', width, height) + content[10:]
    return content[:18] + size + content[26:]  # BMP


@pytest.mark.parametrize('kind', ['PNG', 'JPEG', 'TIFF', 'GIF', 'BMP'])
@pytest.mark.parametrize(
    ('side', 'complaint'), [(30000, 'too few for 30000 x 30000'), (40000, 'more than can be read')]
)
def test_a_claimed_size_is_checked_before_anything_is_decoded(
    tmp_path, monkeypatch, kind, side, complaint
):
    (tmp_path / 'a').write_bytes(claiming(kind, side, side))
    monkeypatch.setattr(cv2, 'imdecode', lambda *_: pytest.fail('it was decoded'))
    monkeypatch.setattr(Image.Image, 'load', lambda _: pytest.fail('it was decoded'))
    assert complaint in refusal(tmp_path / 'a')
    with pytest.raises(ImageReadError, match=complaint):
        read_rgb(tmp_path / 'a')


def test_a_tiff_that_says_two_sizes_is_refused(tmp_path):
    stream = io.BytesIO()
    tifffile.imwrite(stream, pixels_of(8, 9, 3), photometric='rgb', metadata=None)
    content = stream.getvalue()
    at = struct.unpack_from('<I', content, 4)[0]
    rows = [content[k : k + 12] for k in range(at + 2, len(content) - 11, 12)]
    rows = rows[: struct.unpack_from('<H', content, at)[0]]
    rows += [struct.pack('<HHII', tag, 4, 1, 60_000) for tag in (256, 257)]  # of 10 GB
    rows.sort(key=lambda row: struct.unpack('<H', row[:2]))
    directory = struct.pack('<H', len(rows)) + b''.join(rows) + bytes(4)
    path = tmp_path / 'two.tif'
    path.write_bytes(content[:4] + struct.pack('<I', len(content)) + content[8:] + directory)
    assert image_size(path) == (8, 9)
    assert 'it says two sizes' in refusal(path)


def test_what_does_not_fit_into_the_memory_is_refused_with_both_numbers(tmp_path, monkeypatch):
    monkeypatch.setattr(image_io, 'free_memory', lambda: 2**30)
    Image.new('1', (20000, 10000)).save(tmp_path / 'a.png')
    assert image_size(tmp_path / 'a.png') == (10000, 20000)
    assert '20000 x 10000 pixels need 2.2 GiB of memory, and 1.0 GiB are free' in refusal(
        tmp_path / 'a.png'
    )


def test_the_limit_of_a_process_counts(monkeypatch):
    resource = pytest.importorskip('resource')
    free = memory.free_memory()
    used = memory._number_in('/proc/self/status', 'VmSize') * 1024
    monkeypatch.setattr(resource, 'getrlimit', lambda _: (used + 2**20, used + 2**20))
    assert 0 < memory.free_memory() < 2**22 < free


@pytest.mark.parametrize('make', ['pipe', 'link to itself', 'link to a device', 'folder'])
def test_only_regular_files_are_opened(tmp_path, make):
    path = tmp_path / 'x.png'
    {
        'pipe': lambda: os.mkfifo(path),
        'link to itself': lambda: path.symlink_to('x.png'),
        'link to a device': lambda: path.symlink_to('/dev/zero'),
        'folder': path.mkdir,
    }[make]()
    for read in (read_image, read_rgb, image_size):
        with pytest.raises(ImageReadError, match=r'x\.png: (it is no regular file|Too many)'):
            read(path)


def test_a_file_of_many_images_is_counted_in_linear_time(tmp_path):
    stream = io.BytesIO()
    tifffile.imwrite(stream, pixels_of(8, 8, 3), photometric='rgb', metadata=None)
    content, count = stream.getvalue().ljust(4096, b'\0'), 100000
    at = 8 + 2 + 12 * int.from_bytes(content[8:10], 'little')
    more = (
        struct.pack('<HHHIII', 1, 254, 4, 1, 0, 4096 + 18 * (k + 1) if k + 1 < count else 0)
        for k in range(count)
    )
    content = content[:at] + struct.pack('<I', 4096) + content[at + 4 :] + b''.join(more)
    (tmp_path / 'a.tif').write_bytes(content)
    assert read_image(tmp_path / 'a.tif').lost == (f'{count} further images of the file',)


@pytest.mark.parametrize('name', ['a.nef', 'a.DNG'])
def test_the_preview_of_a_raw_file_is_not_taken_for_the_photograph(tmp_path, name):
    Image.fromarray(pixels_of(8, 8, 3)).save(tmp_path / name, 'TIFF')
    assert "a camera's raw file" in refusal(tmp_path / name)


@pytest.mark.parametrize(
    ('content', 'kind'),
    [
        (b'version https://git-lfs.github.com/spec/v1\n', 'a pointer of Git LFS'),
        (b'\0\0\0\x18ftypheic\0\0\0\0', 'a HEIC image'),
        (b'\n<!DOCTYPE html>', 'a web page'),
        (b'\xff\x0a' + bytes(30), 'a JPEG XL image'),
    ],
)
def test_what_is_no_image_that_is_read_is_called_what_it_is(tmp_path, content, kind):
    (tmp_path / 'a.jpg').write_bytes(content)
    assert f'a.jpg: it is {kind}' in refusal(tmp_path / 'a.jpg')


def test_every_damage_of_an_indexed_png_names_the_file():
    whole = indexed_png.encode(np.zeros((70, 40, 3), np.uint8))
    rng = np.random.default_rng(0)
    damaged = [whole[:end] for end in range(len(whole))]
    for _ in range(500):
        flipped = bytearray(whole)
        flipped[rng.integers(8, 90)] = rng.integers(256)
        damaged.append(bytes(flipped))
    for content in damaged:
        try:
            image = indexed_png.open_image(content, 'the_name')
            image.crop(0, 0, min(8, image.height), min(8, image.width))
        except ImageReadError as error:
            assert str(error).startswith('the_name: ')
