"""What belongs to an image beside its pixels is in the result, or the result's writer names it.

The sources are written, and the results are read, by Pillow and tifffile.
"""

from __future__ import annotations

import io
import itertools
import struct
import zlib
from dataclasses import replace

import numpy as np
import pytest
import tifffile
from PIL import ExifTags, Image

from c2fdft_model.images.image_files import NAMES, ImageFileError, read_image, write_image
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


ANY = {316: 'A computer', 18246: 4, 50341: b'PrintIM\0' + bytes(8)}
"""Tags of the first directory that no list of ours has."""


@pytest.mark.parametrize('source', ['jpg', 'tif', 'png', 'webp'])
@pytest.mark.parametrize('target', NAMED)
def test_tags_that_we_do_not_know_are_kept(tmp_path, source, target):
    exif = exif_with({271: 'Maker', 282: 72.0, 531: 1, **ANY})
    Image.fromarray(pixels_of(8, 8, 3)).save(tmp_path / 'a.jpg', exif=b'Exif\0\0' + exif)
    write_image(tmp_path / f'b.{source}', read_image(tmp_path / 'a.jpg'))
    write_image(tmp_path / f'c.{target}', read_image(tmp_path / f'b.{source}'))
    found = Image.open(tmp_path / f'c.{target}').getexif()
    assert {tag: found.get(tag) for tag in ANY} == ANY and found[271] == 'Maker'


GREY_ICC = ICC[:16] + b'GRAY' + ICC[20:]


@pytest.mark.parametrize('target', NAMED)
@pytest.mark.parametrize('mode', ['L', 'LA'])
def test_what_belongs_to_a_grey_image_is_kept_or_named(tmp_path, mode, target):
    grey = Image.fromarray(pixels_of(13, 7, 1)[:, :, 0])
    if mode == 'LA':
        grey.putalpha(Image.fromarray(pixels_of(13, 7, 1, seed=1)[:, :, 0]))
    options = {'icc_profile': GREY_ICC, 'dpi': (300, 150), 'exif': b'Exif\0\0' + EXIF}
    grey.save(tmp_path / 'a.png', **options)
    record, result = read_image(tmp_path / 'a.png'), tmp_path / f'b.{target}'
    if mode == 'LA' and target == 'jpg':
        with pytest.raises(ImageFileError, match='JPEG cannot hold the alpha channel'):
            write_image(result, record)
        return
    named = {'resolution', 'colour profile'} if target == 'webp' else set()
    assert set(write_image(result, record, quality=100)) == named
    found = found_in(result)
    assert found['EXIF data'] == WHOLE['EXIF data'] and found['place'] == WHOLE['place']
    if target != 'webp':
        assert found['colour profile'] == GREY_ICC
        assert [round(x) for x in Image.open(result).info['dpi']] == [300, 150]
    read = read_image(result)
    assert read.grey == (target != 'webp')
    assert np.abs(read.colour - record.colour).max() < 0.03
    assert (record.alpha is None) == (mode == 'L')
    if mode == 'LA':
        np.testing.assert_array_equal(read.alpha, record.alpha)


@pytest.mark.parametrize('ending', ['png', 'gif', 'tif'])
def test_a_palette_becomes_colours_and_what_belongs_to_it_is_kept(tmp_path, ending):
    image = Image.fromarray(pixels_of(13, 7, 3)).quantize(16)
    options = {} if ending == 'gif' else {'icc_profile': ICC, 'dpi': (300, 300)}
    image.save(tmp_path / f'a.{ending}', **options)
    assert write_image(tmp_path / 'b.png', read_image(tmp_path / f'a.{ending}')) == ()
    read = Image.open(tmp_path / 'b.png')
    np.testing.assert_array_equal(np.asarray(read), np.asarray(image.convert('RGB')))
    if options:
        assert read.info['icc_profile'] == ICC and round(read.info['dpi'][0]) == 300


@pytest.mark.parametrize('ending', ['jpg', 'tif'])
def test_cmyk_is_named_and_loses_the_profile_that_describes_it(tmp_path, ending):
    image = Image.fromarray(pixels_of(13, 7, 4), 'CMYK')
    image.save(tmp_path / f'a.{ending}', icc_profile=ICC[:16] + b'CMYK' + ICC[20:])
    lost = write_image(tmp_path / 'b.png', read_image(tmp_path / f'a.{ending}'))
    assert set(lost) == {'CMYK or Lab (now RGB)', 'colour profile'}
    assert 'icc_profile' not in Image.open(tmp_path / 'b.png').info


@pytest.mark.parametrize('ending', ['png', 'gif', 'webp', 'tif', 'jpg'])
def test_further_pages_and_frames_are_named(tmp_path, ending):
    frames = [Image.fromarray(pixels_of(16, 16, 3, seed=seed)) for seed in range(3)]
    kind = {'jpg': 'MPO', 'tif': 'TIFF'}.get(ending, ending)
    frames[0].save(tmp_path / f'a.{ending}', kind, save_all=True, append_images=frames[1:])
    lost = write_image(tmp_path / 'b.png', read_image(tmp_path / f'a.{ending}'))
    assert lost == ('2 further images of the file',)


def test_a_preview_of_a_camera_is_no_further_image(tmp_path):
    frames = [Image.fromarray(pixels_of(16, 16, 3, seed=seed)) for seed in range(2)]
    frames[0].save(tmp_path / 'a.jpg', 'MPO', save_all=True, append_images=frames[1:])
    content = (tmp_path / 'a.jpg').read_bytes()
    second = struct.pack('<II', 0, (tmp_path / 'a.jpg').stat().st_size)  # attribute of the entry
    start = content.index(b'MPF\0')
    at = content.index(second[:4], start + 4 + 8 + 2 + 36 + 4 + 16)
    preview = struct.pack('<I', 0x010001)
    (tmp_path / 'a.jpg').write_bytes(content[:at] + preview + content[at + 4 :])
    kinds = [e['Attribute']['MPType'] for e in Image.open(tmp_path / 'a.jpg').mpinfo[0xB002]]
    assert kinds == ['Baseline MP Primary Image', 'Large Thumbnail (VGA Equivalent)']
    assert read_image(tmp_path / 'a.jpg').lost == ()


@pytest.mark.parametrize('unit', ['inch', 'centimeter', 'none'])
@pytest.mark.parametrize('density', [(300, 300), (300, 150)])
def test_the_resolution_is_kept_and_the_shape_of_pixels_named(tmp_path, unit, density):
    options = {'resolution': density, 'resolutionunit': unit, 'photometric': 'rgb'}
    tifffile.imwrite(tmp_path / 'a.tif', pixels_of(8, 8, 3), metadata=None, **options)
    lost = write_image(tmp_path / 'b.png', read_image(tmp_path / 'a.tif'))
    if unit == 'none':
        assert lost == (() if density[0] == density[1] else ('shape of the pixels',))
        return
    assert lost == ()
    per_inch = [x * (2.54 if unit == 'centimeter' else 1) for x in density]
    assert Image.open(tmp_path / 'b.png').info['dpi'] == pytest.approx(per_inch, abs=0.05)


def test_pixels_that_are_not_square_are_named_in_png_and_jpeg(tmp_path):
    png_file = png(8)
    at = png_file.index(b'pHYs')
    changed = chunk(b'pHYs', struct.pack('>IIB', 2, 1, 0))
    (tmp_path / 'a.png').write_bytes(png_file[: at - 4] + changed + png_file[at + 17 :])
    stream = io.BytesIO()
    Image.fromarray(pixels_of(8, 8, 3)).save(stream, 'JPEG')
    content = bytearray(stream.getvalue())
    content[13:18] = bytes([0, 0, 2, 0, 1])  # no unit, two pixels to one
    (tmp_path / 'a.jpg').write_bytes(content)
    assert 'shape of the pixels' in read_image(tmp_path / 'a.png').lost
    assert read_image(tmp_path / 'a.jpg').lost == ('shape of the pixels',)


@pytest.mark.parametrize('name', ['xmp', 'iptc', 'comment'])
def test_what_is_too_long_for_jpeg_is_named_and_the_rest_is_kept(tmp_path, name):
    Image.fromarray(pixels_of(8, 8, 3)).save(tmp_path / 'a.jpg', exif=b'Exif\0\0' + EXIF)
    record = replace(read_image(tmp_path / 'a.jpg'), **{name: b'x' * 66_000})
    assert write_image(tmp_path / 'b.jpg', record) == (NAMES[name],)
    assert found_in(tmp_path / 'b.jpg')['EXIF data'] == WHOLE['EXIF data']
