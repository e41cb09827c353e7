"""Pixels of 16-bit PNG and TIFF files, which Pillow reads and writes with 8 bits."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

PNG_SIGNATURE = b'\x89PNG\r\n\x1a\n'
PNG_COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}
"""Channels (grey; grey, alpha; RGB; RGBA) -> PNG's colour type."""

ORIENTATION_TAG = 274
MINISWHITE = 0
DEEPEST = 65535


def read_png16(content: bytes, channels: int) -> np.ndarray:
    """Decode a 16-bit PNG of 1 to 4 channels to uint16 (H, W, channels), grey or RGB, then alpha.

    Raises ValueError if it cannot be decoded.
    """
    pixels = _decode(content)
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    # OpenCV gives blue first, and grey with alpha as blue, green, red with alpha
    order = {1: [0], 2: [0, -1], 3: [2, 1, 0], 4: [2, 1, 0, 3]}[channels]
    return np.ascontiguousarray(pixels[:, :, order])


def read_tiff16(content: bytes) -> np.ndarray:
    """Decode a 16-bit TIFF to uint16 (H, W, channels) as stored, without regard to its orientation.

    Channels are grey or RGB, then alpha. Raises ValueError if it cannot be decoded.
    """
    import tifffile

    with tifffile.TiffFile(io.BytesIO(content)) as tiff:
        page = tiff.pages[0]
        try:
            pixels = page.asarray()
        except ValueError:
            # a compression that needs tifffile's optional codecs; OpenCV has its own
            pixels = _decode_tiff(content, tiff.byteorder, page.tags.get(ORIENTATION_TAG))
        else:
            pixels = np.moveaxis(pixels, 0, -1) if page.axes == 'SYX' else pixels
        inverted = page.photometric == MINISWHITE
    if pixels.dtype != np.uint16:
        raise ValueError(f'its pixels are {pixels.dtype}')
    pixels = pixels if pixels.ndim == 3 else pixels[:, :, None]
    return DEEPEST - pixels if inverted else pixels


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


def write_tiff16(
    pixels: np.ndarray, icc: bytes | None = None, tags: Mapping[int, Any] | None = None
) -> bytes:
    """Encode uint16 (H, W, 1 to 4), grey or RGB, then alpha, as a TIFF file.

    `tags` are text or small integers (0 .. 65535) by their TIFF number.
    """
    import tifffile

    channels = pixels.shape[2]
    extra = [
        (tag, 'H', 1, value, True) if isinstance(value, int) else (tag, 's', 0, value, True)
        for tag, value in (tags or {}).items()
    ]
    file = io.BytesIO()
    tifffile.imwrite(
        file,
        pixels if channels > 1 else pixels[:, :, 0],
        photometric='rgb' if channels > 2 else 'minisblack',
        planarconfig='contig' if channels > 1 else None,
        extrasamples=['unassalpha'] if channels in (2, 4) else None,
        compression='zlib',
        predictor=True,
        iccprofile=icc,
        extratags=extra,
        metadata=None,
        software=False,
    )
    return file.getvalue()


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
