"""Pixels of 16-bit PNG and TIFF files, which Pillow reads and writes with 8 bits.

TIFF files of 8 bits are written here, too: Pillow does not write the EXIF data of compressed ones.
"""

from __future__ import annotations

import contextlib
import io
import logging
import math
import struct
import zlib
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np

PNG_SIGNATURE = b'\x89PNG\r\n\x1a\n'
PNG_COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}
"""Channels (grey; grey, alpha; RGB; RGBA) -> PNG's colour type."""

ORIENTATION_TAG = 274
MINISWHITE, MINISBLACK, RGB, SEPARATED = 0, 1, 2, 5
ASSOCIATED_ALPHA = 1
UNCOMPRESSED = 1
DEEPEST = 65535

Order = Literal['<', '>']


class UnsupportedImageError(ValueError):
    """A file is sound but of a kind that is not read; the text says what to do."""


def read_png16(
    content: bytes, channels: int, transparent: int | Sequence[int] | None = None
) -> np.ndarray:
    """Decode a 16-bit PNG of 1 to 4 channels to uint16 (H, W, C), grey or RGB, then alpha.

    `transparent` is a value (grey) or colour, in 16 bits, that stands for alpha 0; with it there is
    an alpha channel more. Raises ValueError if it cannot be decoded.
    """
    pixels = _decode(content)
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    # OpenCV gives blue first, and grey with alpha as blue, green, red with alpha
    order = {1: [0], 2: [0, -1], 3: [2, 1, 0], 4: [2, 1, 0, 3]}[channels]
    pixels = np.ascontiguousarray(pixels[:, :, order])
    if transparent is None or channels not in (1, 3):
        return pixels
    opaque = (pixels != np.asarray(transparent)).any(axis=2, keepdims=True)
    return np.concatenate([pixels, opaque * np.uint16(DEEPEST)], axis=2)


def read_tiff16(content: bytes) -> np.ndarray:
    """Decode a 16-bit TIFF to uint16 (H, W, channels) as stored, without regard to its orientation.

    Channels are grey or RGB, then alpha, by which the colours are not multiplied. Raises
    UnsupportedImageError for other kinds of colours, and errors of many kinds for damaged files.
    """
    import tifffile

    with _silent('tifffile'), tifffile.TiffFile(io.BytesIO(content)) as tiff:
        page: Any = tiff.pages[0]
        _check_colours(page)
        _check_length(page, len(content))
        try:
            pixels = page.asarray()
        except ValueError:
            # a compression that needs tifffile's optional codecs; OpenCV has its own
            pixels = _decode_tiff(content, tiff.byteorder, page.tags.get(ORIENTATION_TAG))
        else:
            pixels = np.moveaxis(pixels, 0, -1) if page.axes == 'SYX' else pixels
        inverted = page.photometric == MINISWHITE
        multiplied = ASSOCIATED_ALPHA in page.extrasamples
    if pixels.dtype != np.uint16:
        raise ValueError(f'its pixels are {pixels.dtype}')
    pixels = pixels if pixels.ndim == 3 else pixels[:, :, None]
    if inverted:
        pixels = np.concatenate([DEEPEST - pixels[:, :, :1], pixels[:, :, 1:]], axis=2)
    return _divided_by_alpha(pixels) if multiplied and pixels.shape[2] in (2, 4) else pixels


def check_length(content: bytes) -> None:
    """Raise ValueError if an uncompressed TIFF file ends before its pixels, which Pillow allows."""
    import tifffile

    with _silent('tifffile'), tifffile.TiffFile(io.BytesIO(content)) as tiff:
        page: Any = tiff.pages[0]
        if page.compression == UNCOMPRESSED and page.dtype is not None:
            _check_length(page, len(content))


def write_png16(pixels: np.ndarray, icc: bytes | None = None, exif: bytes | None = None) -> bytes:
    """Encode uint16 (H, W, 1 to 4), grey or RGB, then alpha, as a PNG file."""
    height, width, channels = pixels.shape
    header = struct.pack('>IIBBBBB', width, height, 16, PNG_COLOUR_TYPES[channels], 0, 0, 0)
    chunks = [_chunk(b'IHDR', header)]
    if icc:
        chunks.append(_chunk(b'iCCP', b'ICC profile\0\0' + zlib.compress(icc)))
    if exif:
        chunks.append(_chunk(b'eXIf', exif.removeprefix(b'Exif\0\0')))
    chunks.append(_chunk(b'IDAT', _compressed_rows(pixels)))
    return PNG_SIGNATURE + b''.join(chunks) + _chunk(b'IEND', b'')


def write_tiff(pixels: np.ndarray, icc: bytes | None = None, byteorder: Order = '<') -> bytes:
    """Encode uint8 or uint16 (H, W, 1 to 4), grey or RGB, then alpha, as a TIFF file.

    `byteorder` of its numbers is `<` or `>`.
    """
    import tifffile

    channels = pixels.shape[2]
    file = io.BytesIO()
    with tifffile.TiffWriter(file, byteorder=byteorder) as tiff:
        tiff.write(
            pixels if channels > 1 else pixels[:, :, 0],
            photometric='rgb' if channels > 2 else 'minisblack',
            planarconfig='contig' if channels > 1 else None,
            extrasamples=['unassalpha'] if channels in (2, 4) else None,
            compression='zlib',
            predictor=True,
            iccprofile=icc,
            metadata=None,
            software=False,
        )
    return file.getvalue()


@contextlib.contextmanager
def _silent(name: str) -> Iterator[None]:
    """Keep a library from logging what is raised as well."""
    logger = logging.getLogger(name)
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


def _check_colours(page: Any) -> None:
    if page.photometric == SEPARATED:
        raise UnsupportedImageError('is CMYK of 16 bits: save it as RGB, or with 8 bits')
    if page.photometric not in (MINISWHITE, MINISBLACK, RGB):
        name = getattr(page.photometric, 'name', page.photometric)
        raise UnsupportedImageError(f'has 16-bit colours of the kind {name}: save it as RGB')


def _check_length(page: Any, length: int) -> None:
    """Raise ValueError if the file ends before the pixels; tifffile takes the rest for black."""
    if not page.dataoffsets or len(page.dataoffsets) != len(page.databytecounts):
        raise ValueError('it does not say where its pixels are')
    end = max(at + size for at, size in zip(page.dataoffsets, page.databytecounts, strict=True))
    if end > length:
        raise ValueError(f'{length} of {end} bytes are there')
    stored, needed = sum(page.databytecounts), math.prod(page.shape) * page.bitspersample // 8
    if min(page.databytecounts) == 0 or (page.compression == UNCOMPRESSED and stored < needed):
        raise ValueError(f'{stored} of {needed} bytes of pixels are there')


def _divided_by_alpha(pixels: np.ndarray) -> np.ndarray:
    """Colours (H, W, 1 or 3, and alpha) that have been multiplied by their alpha as they were."""
    alpha = pixels[:, :, -1:].astype(np.uint64)
    colour = (pixels[:, :, :-1] * np.uint64(DEEPEST) + alpha // 2) // np.maximum(alpha, 1)
    colour = np.minimum(colour, DEEPEST).astype(np.uint16)
    return np.concatenate([colour, pixels[:, :, -1:]], axis=2)


def _decode(content: bytes) -> np.ndarray:
    import cv2

    pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.dtype != np.uint16:
        raise ValueError('its 16-bit pixels cannot be decoded')
    return pixels


def _decode_tiff(content: bytes, byteorder: str, orientation: Any) -> np.ndarray:
    if orientation is not None:
        # OpenCV would turn the picture, and some of its versions fail to
        at = orientation.valueoffset
        content = content[:at] + struct.pack(byteorder + 'H', 1) + content[at + 2 :]
    pixels = _decode(content)
    return pixels if pixels.ndim == 2 else pixels[:, :, [2, 1, 0, 3][: pixels.shape[2]]]


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack('>I', len(data)) + name + data + struct.pack('>I', zlib.crc32(name + data))


def _compressed_rows(pixels: np.ndarray) -> bytes:
    """PNG's image data, each row filtered as the difference to its left neighbours ("Sub")."""
    height, width, channels = pixels.shape
    compressor = zlib.compressobj(6)
    parts = []
    for row in pixels.astype('>u2'):
        line = row.reshape(-1).view(np.uint8)
        filtered = line.copy()
        filtered[2 * channels :] -= line[: -2 * channels]
        parts.append(compressor.compress(b'\x01' + filtered.tobytes()))
    parts.append(compressor.flush())
    return b''.join(parts)
