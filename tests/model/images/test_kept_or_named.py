"""What belongs to an image beside its pixels is in the result, or the result's writer names it.

The sources are written, and the results are read, by Pillow and tifffile.
"""

from __future__ import annotations

import io
import itertools
import struct
import zlib

import numpy as np
import pytest
import tifffile
from PIL import ExifTags, Image

from c2fdft_model.images.image_files import read_image, write_image
from helpers.image_records import ICC, exif_with, pixels_of

EXIF = exif_with(
    {
        271: 'Maker',
        274: 6,
        0x8769: {33434: 0.5, 37500: b'\0maker note\xff'},
        0x8825: {1: 'N', 2: (1.0, 2.0, 3.5)},
    }
)
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf/></x:xmpmeta>'
IPTC = b'\x1c\x02\x50\x00\x05Byron'
RESOURCES = b'8BIM\x04\x04\0\0' + struct.pack('>I', len(IPTC)) + IPTC
TEXTS = {'Title': 'A title', 'Name': 'Jos\u00e9 \u4e2d'}


def chunk(name: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(name + content)
    return struct.pack('>I', len(content)) + name + content + struct.pack('>I', checksum)


def png(depth: int) -> bytes:
    stored = pixels_of(13, 7, 3, depth).astype('>u2' if depth == 16 else np.uint8)
    rows = b''.join(b'\0' + row.tobytes() for row in stored)
    profile = f'\niptc\n{len(RESOURCES):8d}\n{RESOURCES.hex()}\n'.encode()
    chunks = [
        (b'IHDR', struct.pack('>IIBBBBB', 7, 13, depth, 2, 0, 0, 0)),
        (b'iCCP', b'a\0\0' + zlib.compress(ICC)),
        (b'pHYs', struct.pack('>IIB', 11811, 11811, 1)),
        (b'tEXt', b'Title\0A title'),
        (b'iTXt', b'Name\0\0\0\0\0' + TEXTS['Name'].encode()),
        (b'iTXt', b'XML:com.adobe.xmp\0\0\0\0\0' + XMP),
        (b'zTXt', b'Raw profile type iptc\0\0' + zlib.compress(profile)),
        (b'IDAT', zlib.compress(rows)),
        (b'eXIf', EXIF),  # behind the pixels, which is allowed
        (b'IEND', b''),
    ]
    return b'\x89PNG\r\n\x1a\n' + b''.join(itertools.starmap(chunk, chunks))


def saved(kind: str, **options) -> bytes:
    stream = io.BytesIO()
    options |= {'exif': b'Exif\0\0' + EXIF, 'icc_profile': ICC, 'xmp': XMP}
    Image.fromarray(pixels_of(13, 7, 3)).save(stream, kind, **options)
    return stream.getvalue()


def jpeg() -> bytes:
    segment = b'Photoshop 3.0\0' + RESOURCES
    segment = b'\xff\xed' + struct.pack('>H', 2 + len(segment)) + segment
    return saved('JPEG', quality=95, dpi=(300, 300), comment=b'A comment', extra=segment)


def tiff(depth: int) -> bytes:
    """The tags of the camera are those of EXIF data that lie in front of the image."""
    stream = io.BytesIO()
    stream.write(EXIF)
    stream.seek(0)
    tags = [(700, 1, len(XMP), XMP, True), (33723, 7, len(IPTC), IPTC, True)]
    with tifffile.TiffWriter(stream, append=True) as file:
        file.write(
            pixels_of(13, 7, 3, depth),
            photometric='rgb',
            metadata=None,
            iccprofile=ICC,
            resolution=(300, 300),
            resolutionunit='inch',
            extratags=tags,
        )
    content = stream.getvalue()
    with tifffile.TiffFile(io.BytesIO(content)) as file:
        camera, image = (
            {tag.code: content[tag.offset : tag.offset + 12] for tag in page.tags}
            for page in file.pages
        )
    rows = camera | image
    directory = struct.pack('<H', len(rows)) + b''.join(rows[code] for code in sorted(rows))
    return content[:4] + struct.pack('<I', len(content)) + content[8:] + directory + bytes(4)


SOURCES = {
    'jpg': (jpeg(), {'comment'}),
    '8.png': (png(8), {'text'}),
    '16.png': (png(16), {'text', '16 bits per channel'}),
    '8.tif': (tiff(8), set()),
    '16.tif': (tiff(16), {'16 bits per channel'}),
    'webp': (saved('WEBP', lossless=True), set()),
}
"""Files by ending, and what they have that only some formats hold."""
NAMED = {
    'png': set(),
    'tif': {'comment', 'text'},
    'jpg': {'text', '16 bits per channel'},
    'webp': {'comment', 'text', '16 bits per channel', 'resolution', 'IPTC data'},
}
"""What a format does not hold."""


def found_in(path) -> dict[str, object]:
    """What a file holds, as Pillow and tifffile read it."""
    content = path.read_bytes()
    with Image.open(path) as image:
        image.load()
        exif, info = image.getexif(), image.info
        camera, place = exif.get_ifd(0x8769), exif.get_ifd(0x8825)
        text = {key: str(value) for key, value in getattr(image, 'text', {}).items()}
    orientation = exif.get(274)
    if path.suffix == '.tif':  # Pillow turns the image and takes the tag away
        with tifffile.TiffFile(path) as file:
            orientation = file.pages[0].tags.valueof(274)
    return {
        'EXIF data': (exif.get(271), camera.get(33434), camera.get(37500), orientation),
        'place': (place.get(1), place.get(2)),
        'colour profile': info.get('icc_profile'),
        'XMP': info.get('xmp'),
        'IPTC data': b'Byron' in content or b'Byron'.hex() in text.get('Raw profile type iptc', ''),
        'resolution': [round(value) for value in info.get('dpi', ())],
        'text': {key: text.get(key) for key in TEXTS},
        'comment': info.get('comment') or text.get('Comment', '').encode(),
    }


WHOLE = {
    'EXIF data': ('Maker', 0.5, b'\0maker note\xff', 6),
    'place': ('N', (1.0, 2.0, 3.5)),
    'colour profile': ICC,
    'XMP': XMP,
    'IPTC data': True,
    'resolution': [300, 300],
    'text': TEXTS,
    'comment': b'A comment',
}


@pytest.mark.parametrize('target', NAMED)
@pytest.mark.parametrize('source', SOURCES)
def test_everything_is_kept_or_named(tmp_path, source, target):
    content, special = SOURCES[source]
    path, result = tmp_path / f'a.{source}', tmp_path / f'b.{target}'
    path.write_bytes(content)
    absent = {'comment', 'text', '16 bits per channel'} - special
    absent |= {'resolution', 'IPTC data'} if source == 'webp' else set()
    lost = write_image(result, read_image(path), quality=100)
    assert set(lost) == NAMED[target] - absent
    found = found_in(result)
    for name in WHOLE.keys() - absent - set(lost):
        assert found[name] == WHOLE[name], name
    upright = read_image(path).colour
    assert upright.shape == (7, 13, 3)
    difference = np.abs(read_image(result).colour - upright)
    assert difference.max() < 0.01 or (target == 'jpg' and difference.mean() < 0.02)


def test_a_comment_is_one_again_after_a_png(tmp_path):
    Image.fromarray(pixels_of(8, 8, 3)).save(tmp_path / 'a.jpg', comment='Grüße'.encode())
    for source, target in (('a.jpg', 'b.png'), ('b.png', 'c.png'), ('c.png', 'd.jpg')):
        assert write_image(tmp_path / target, read_image(tmp_path / source)) == ()
    assert Image.open(tmp_path / 'd.jpg').info['comment'].decode() == 'Grüße'


def test_the_thumbnail_of_the_degraded_image_is_not_kept(tmp_path):
    exif = exif_with({271: 'Maker'})
    end = 8 + 2 + 12
    thumbnail = struct.pack('<HHHII', 1, 513, 4, 1, 8) + bytes(4)
    exif = exif[:end] + struct.pack('<I', len(exif)) + exif[end + 4 :] + thumbnail
    Image.fromarray(pixels_of(8, 8, 3)).save(tmp_path / 'a.jpg', exif=b'Exif\0\0' + exif)
    assert Image.open(tmp_path / 'a.jpg').getexif().get_ifd(ExifTags.IFD.IFD1)
    write_image(tmp_path / 'b.jpg', read_image(tmp_path / 'a.jpg'))
    written = Image.open(tmp_path / 'b.jpg').getexif()
    assert written[271] == 'Maker' and not written.get_ifd(ExifTags.IFD.IFD1)


@pytest.mark.parametrize('ending', ['bmp', 'gif', 'jp2', 'avif', 'ppm'])
def test_formats_that_are_only_read_give_their_pixels(tmp_path, ending):
    image = Image.fromarray(pixels_of(8, 9, 1)[:, :, 0]).convert('RGB')
    image.save(tmp_path / f'a.{ending}', **({'quality': 100} if ending == 'avif' else {}))
    read = read_image(tmp_path / f'a.{ending}')
    np.testing.assert_allclose(read.colour * 255, np.asarray(image), atol=4)
    assert write_image(tmp_path / 'b.png', read) == ()
