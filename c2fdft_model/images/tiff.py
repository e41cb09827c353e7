"""EXIF data and TIFF files, which share a structure, and the pixels of TIFF files of 16 bits.

Tags are copied byte by byte, so that whatever a camera has written is kept. Time and memory grow
with the number of bytes, whatever the tags claim. Source: TIFF 6.0; Exif 2.32, section 4.6.
"""

import contextlib
import io
import logging
import math
import struct
from collections.abc import Container, Iterator
from typing import Any, BinaryIO

import cv2
import numpy as np
import tifffile

from c2fdft_arch.common.errors import C2FDFTError

WHITE = 65535
ASSOCIATED_ALPHA = 1
UNCOMPRESSED = 1
HEADER = b'Exif\0\0'
ORIENTATION = 274
SECTIONS = {0x8769: 'ExifTag', 0x8825: 'GPSTag'}
"""Tags that point to the EXIF and the GPS directory; tifffile writes them only by these names."""
OF_PIXELS = frozenset(
    (*range(254, 269), 273, *range(277, 285), *range(286, 305), *range(317, 348), 400)
    + (*range(512, 533), 559, 37724)
)
"""Tags that say how the pixels are stored, and Photoshop's layers."""
OF_FIELDS = frozenset((700, 33723, 34377, 34675))
"""XMP, IPTC data, Photoshop's resources and profile, which are fields of a record."""
INTEROPERABILITY = 0xA005
"""Points to a directory that says nothing of the image."""
OF_SECTION = frozenset(range(2**16)) - {*SECTIONS, INTEROPERABILITY}
OF_IMAGE = (OF_SECTION | SECTIONS.keys()) - OF_PIXELS - OF_FIELDS
"""Tags of EXIF data, whatever a camera or an application has written."""

_LEFT, _HALF, _RIGHT = cv2.ROTATE_90_COUNTERCLOCKWISE, cv2.ROTATE_180, cv2.ROTATE_90_CLOCKWISE
TURNS = {1: None, 2: None, 3: _HALF, 4: _HALF, 5: _LEFT, 6: _RIGHT, 7: _RIGHT, 8: _LEFT}
"""Orientation -> the turn, behind the mirroring of some, that makes an image upright."""
MIRRORED = (2, 4, 5, 7)

# Without a handler of the application, its warnings of damage would go to the terminal.
logging.getLogger('tifffile').addHandler(logging.NullHandler())


class UnsupportedImageError(C2FDFTError, ValueError):
    """A file is sound but of a kind that is not read; the text says what to do."""


def upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """(H, W, channels) as stored, turned upright; a copy where there is something to turn."""
    turn = TURNS[orientation]
    turned = cv2.flip(pixels, 1) if orientation in MIRRORED else pixels
    turned = turned if turn is None else cv2.rotate(turned, turn)
    return turned.reshape(*turned.shape[:2], pixels.shape[2])  # OpenCV drops a single channel


def as_stored(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Upright (H, W, channels), turned back."""
    return upright(pixels, {6: 8, 8: 6}.get(orientation, orientation))


@contextlib.contextmanager
def opened(stream: BinaryIO) -> Iterator[Any]:
    """tifffile's view of a TIFF file or of EXIF data.

    Raises errors of many kinds for other files, and ValueError if tags share bytes, so that
    reading them all could take for ever.
    """
    with tifffile.TiffFile(stream) as tiff:
        _check_sizes(tiff, tiff.pages[0].tags)
        yield tiff


def write_tiff(pixels: np.ndarray, exif: bytes, tags: list[tuple], **options: Any) -> bytes:
    """A TIFF file of uint8 or uint16 (H, W, 1 to 4), grey or RGB, then alpha.

    `tags` and `options` are tifffile's.
    """
    channels = pixels.shape[2]
    exif = without_thumbnail(exif) if exif else exif
    file = io.BytesIO(exif)  # at the beginning, their offsets are right
    if exif:
        with opened(io.BytesIO(exif)) as camera:
            tags = tags + [
                (SECTIONS.get(tag.code, tag.code), tag.dtype, tag.count, _value(tag, exif), True)
                for tag in camera.pages[0].tags
                if tag.code in OF_IMAGE
            ]
    with tifffile.TiffWriter(file, append=bool(exif)) as tiff:
        tiff.write(
            pixels if channels > 1 else pixels[:, :, 0],
            photometric='rgb' if channels > 2 else 'minisblack',
            planarconfig='contig' if channels > 1 else None,
            extrasamples=['unassalpha'] if channels in (2, 4) else None,
            compression='zlib',
            predictor=True,
            metadata=None,
            software=False,
            extratags=tags,
            **options,
        )
    content = file.getvalue()
    if exif:  # the second directory, which is the image's, becomes the only one
        link = _place_of_link(exif)
        content = content[:4] + content[link : link + 4] + content[8:]
    return content


def orientation(tags: Any) -> int:
    """1 to 8; 1 if it is missing or illegal."""
    value = tags.valueof(ORIENTATION)
    return value if value in TURNS else 1


def extract_exif(content: bytes) -> bytes:
    """The EXIF data of a TIFF file on their own. Raises ValueError where that is impossible."""
    with opened(io.BytesIO(content)) as tiff:
        if not OF_IMAGE & {tag.code for tag in tiff.pages[0].tags}:
            return b''
        if tiff.is_bigtiff:
            raise ValueError('EXIF data cannot be BigTIFF')
        header = content[:4] + struct.pack(tiff.byteorder + 'I', 8)
        return header + _directory(tiff, content, tiff.pages[0].tags, len(header), OF_IMAGE)


def without_thumbnail(exif: bytes) -> bytes:
    """EXIF data that do not refer to their second image, which shows the first as it was."""
    link = _place_of_link(exif)
    return exif[:link] + bytes(4) + exif[link + 4 :] if link + 4 <= len(exif) else exif


def _place_of_link(exif: bytes) -> int:
    """Where the first directory ends, with the place of the second one."""
    order = '<' if exif[:2] == b'II' else '>'
    at = struct.unpack_from(order + 'I', exif, 4)[0]
    return at + 2 + 12 * struct.unpack_from(order + 'H', exif, at)[0]


def _directory(tiff: Any, content: bytes, tags: Any, start: int, kept: Container[int]) -> bytes:
    """The directory of the `kept` tags and those below it, as bytes for the position `start`."""
    _check_sizes(tiff, tags)
    wanted = sorted((tag for tag in tags if tag.code in kept), key=lambda tag: tag.code)
    rows, values = struct.pack(tiff.byteorder + 'H', len(wanted)), b''
    start += 2 + 12 * len(wanted) + 4
    for tag in wanted:
        value = _value(tag, content)
        if tag.code in SECTIONS:
            tiff.filehandle.seek(struct.unpack(tiff.byteorder + 'I', value)[0])
            below = tifffile.TiffPage(tiff, 0).tags
            value = _directory(tiff, content, below, start + len(values), OF_SECTION)
        rows += struct.pack(tiff.byteorder + 'HHI', tag.code, tag.dtype, tag.count)
        if len(value) > 4:
            rows += struct.pack(tiff.byteorder + 'I', start + len(values))
            values += value + b'\0' * (len(value) % 2)
        else:
            rows += value.ljust(4, b'\0')
    return rows + bytes(4) + values


def _value(tag: Any, content: bytes) -> bytes:
    """The stored bytes of a tag; for one of a directory, `valueoffset` is that directory."""
    at = tag.offset + 8 if tag.valuebytecount <= 4 else tag.valueoffset
    return content[at : at + tag.valuebytecount]


def _check_sizes(tiff: Any, tags: Any) -> None:
    if sum(tag.valuebytecount for tag in tags) > tiff.filehandle.size:
        raise ValueError('its tags claim more bytes than there are')


def check_length(page: Any) -> None:
    """Raise ValueError if the file of tifffile's page lacks pixels, which decoders fill up."""
    length = page.parent.filehandle.size
    if not page.dataoffsets or len(page.dataoffsets) != len(page.databytecounts):
        raise ValueError('it does not say where its pixels are')
    end = max(at + size for at, size in zip(page.dataoffsets, page.databytecounts, strict=True))
    stored, needed = sum(page.databytecounts), math.prod(page.shape) * page.bitspersample // 8
    is_short = page.compression == UNCOMPRESSED and stored < needed
    if end > length or is_short or min(page.databytecounts) == 0:
        raise ValueError(f'{min(stored, length)} of {max(needed, end)} bytes are there')


def read_pixels(page: Any, content: bytes) -> np.ndarray:
    """Decode tifffile's page of 16 bits to uint16 (H, W, 1 to 4) as stored, not turned upright.

    Channels are grey or RGB, then alpha, by which the colours are not multiplied. Raises
    UnsupportedImageError for other kinds of colours, and errors of many kinds for damaged files.
    """
    name = getattr(page.photometric, 'name', page.photometric)
    if name not in ('MINISWHITE', 'MINISBLACK', 'RGB') or page.samplesperpixel > 4:
        kind = f'{name} of {page.samplesperpixel} channels and 16 bits'
        raise UnsupportedImageError(f'{kind} is not read: save it as RGB, or with 8 bits')
    try:
        pixels = np.atleast_3d(page.asarray())
        if page.axes == 'SYX':
            pixels = np.moveaxis(pixels, 0, -1)
    except ValueError:
        # a compression that needs tifffile's optional codecs; OpenCV has its own
        pixels = _decode_with_opencv(page, content)
    if pixels.dtype != np.uint16:
        raise ValueError(f'its pixels are {pixels.dtype}')
    if name == 'MINISWHITE':
        pixels[:, :, 0] = WHITE - pixels[:, :, 0]
    if ASSOCIATED_ALPHA in page.extrasamples and pixels.shape[2] in (2, 4):
        alpha = np.maximum(pixels[:, :, -1:], 1).astype(np.uint64)
        colour = (pixels[:, :, :-1] * np.uint64(WHITE) + alpha // 2) // alpha
        pixels[:, :, :-1] = np.minimum(colour, WHITE)
    return pixels


def _decode_with_opencv(page: Any, content: bytes) -> np.ndarray:
    if turned := page.tags.get(ORIENTATION):
        # OpenCV would turn the image, and some of its versions fail to
        at = turned.offset + 8
        content = content[:at] + struct.pack(page.parent.byteorder + 'H', 1) + content[at + 2 :]
    pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise ValueError('its pixels cannot be decoded')
    return np.atleast_3d(pixels)[:, :, [2, 1, 0, 3][: pixels.shape[2]] if pixels.ndim > 2 else [0]]
