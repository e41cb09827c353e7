"""EXIF data and TIFF files, which share a structure, and the pixels of TIFF files of 16 bits.

Tags are copied byte by byte, so that whatever a camera has written is kept. Time and memory grow
with the number of bytes, whatever the tags claim. Source: TIFF 6.0; Exif 2.32, section 4.6.
"""

import contextlib
import io
import logging
import math
import struct
from collections.abc import Callable, Container, Iterator
from typing import Any, BinaryIO

import cv2
import numpy as np

from c2fdft_arch.common.errors import C2FDFTError

WHITE = 65535
ASSOCIATED_ALPHA = 1
UNCOMPRESSED = 1
HEADER = b'Exif\0\0'
ORIENTATION = 274
SECTIONS = (0x8769, 0x8825)
"""Tags that point to the EXIF and the GPS directory."""
TEXTS = (270, 271, 272, 305, 306, 315, 33432, 40091, 40092, 40093, 40094, 40095)
"""Description, make, model, software, date, artist, copyright, and what Windows writes."""
OF_IMAGE = frozenset((ORIENTATION, *TEXTS, *SECTIONS))
OF_SECTION = frozenset(range(2**16)) - {*SECTIONS, 0xA005}
"""Not interoperability, which points to a directory that says nothing of the image."""

UPRIGHT: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: a[::-1].swapaxes(0, 1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: a[:, ::-1].swapaxes(0, 1),
}
"""Orientation -> what turns the stored pixels (H, W, ...) upright, a view."""
INVERSE = {orientation: orientation for orientation in UPRIGHT} | {6: 8, 8: 6}
"""Orientation -> the one whose entry in `UPRIGHT` turns upright pixels back."""


class UnsupportedImageError(C2FDFTError, ValueError):
    """A file is sound but of a kind that is not read; the text says what to do."""


@contextlib.contextmanager
def opened(stream: BinaryIO) -> Iterator[Any]:
    """tifffile's view of a TIFF file or of EXIF data; its warnings are not shown.

    Raises errors of many kinds for other files, and ValueError if tags share bytes, so that
    reading them all could take for ever.
    """
    import tifffile

    with _silence(), tifffile.TiffFile(stream) as tiff:
        _check_sizes(tiff, tiff.pages[0].tags)
        yield tiff


def write_tiff(pixels: np.ndarray, exif: bytes, tags: list[tuple], **options: Any) -> bytes:
    """A TIFF file of uint8 or uint16 (H, W, 1 to 4), grey or RGB, then alpha.

    `tags` and `options` are tifffile's.
    """
    import tifffile

    channels = pixels.shape[2]
    file = io.BytesIO()
    file.write(exif)  # at the beginning, their offsets are right
    file.seek(0)
    with _silence(), tifffile.TiffWriter(file, append=bool(exif)) as tiff:
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
    return _join_exif(file.getvalue()) if exif else file.getvalue()


def orientation(tags: Any) -> int:
    """1 to 8; 1 if it is missing or illegal."""
    value = tags.valueof(ORIENTATION)
    return value if value in UPRIGHT else 1


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
    order = '<' if exif[:2] == b'II' else '>'
    at = struct.unpack_from(order + 'I', exif, 4)[0]
    end = at + 2 + 12 * struct.unpack_from(order + 'H', exif, at)[0]
    return exif[:end] + bytes(4) + exif[end + 4 :] if end + 4 <= len(exif) else exif


def _join_exif(content: bytes) -> bytes:
    """A TIFF file of one image that begins with EXIF data, whose tags become the image's.

    The directory is written anew at the end of the file, and the header points to it.
    """
    with opened(io.BytesIO(content)) as tiff:
        exif, image = (
            {tag.code: content[tag.offset : tag.offset + 12] for tag in page.tags}
            for page in tiff.pages
        )
        rows = {code: row for code, row in exif.items() if code in OF_IMAGE} | image
        at = len(content) + len(content) % 2
        start = content[:4] + struct.pack(tiff.byteorder + 'I', at)
        count = struct.pack(tiff.byteorder + 'H', len(rows))
    ordered = b''.join(rows[code] for code in sorted(rows))
    return (start + content[8:]).ljust(at, b'\0') + count + ordered + bytes(4)


def _directory(tiff: Any, content: bytes, tags: Any, start: int, kept: Container[int]) -> bytes:
    """The directory of the `kept` tags and those below it, as bytes for the position `start`."""
    import tifffile

    _check_sizes(tiff, tags)
    wanted = sorted((tag for tag in tags if tag.code in kept), key=lambda tag: tag.code)
    rows, values = struct.pack(tiff.byteorder + 'H', len(wanted)), b''
    start += 2 + 12 * len(wanted) + 4
    for tag in wanted:
        size, offset = tag.valuebytecount, content[tag.offset + 8 : tag.offset + 12]
        at = struct.unpack(tiff.byteorder + 'I', offset)[0]
        value = offset if size <= 4 else content[at : at + size]
        if tag.code in SECTIONS:
            tiff.filehandle.seek(at)
            below = tifffile.TiffPage(tiff, 0).tags
            value = _directory(tiff, content, below, start + len(values), OF_SECTION)
        rows += struct.pack(tiff.byteorder + 'HHI', tag.code, tag.dtype, tag.count)
        if len(value) > 4:
            rows += struct.pack(tiff.byteorder + 'I', start + len(values))
            values += value + b'\0' * (len(value) % 2)
        else:
            rows += value
    return rows + bytes(4) + values


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
        pixels = np.concatenate([WHITE - pixels[:, :, :1], pixels[:, :, 1:]], axis=2)
    if ASSOCIATED_ALPHA in page.extrasamples and pixels.shape[2] in (2, 4):
        alpha = pixels[:, :, -1:].astype(np.uint64)
        colour = (pixels[:, :, :-1] * np.uint64(WHITE) + alpha // 2) // np.maximum(alpha, 1)
        colour = np.minimum(colour, WHITE).astype(np.uint16)
        pixels = np.concatenate([colour, pixels[:, :, -1:]], axis=2)
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


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    logger = logging.getLogger('tifffile')
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before
