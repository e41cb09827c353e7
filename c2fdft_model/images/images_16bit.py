"""Pixels of 16-bit PNG and TIFF files, which Pillow reads and writes with 8 bits.

TIFF files of 8 bits are written here, too: Pillow does not write the EXIF data of compressed ones.
"""

import contextlib
import io
import logging
import math
import struct
import zlib
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import cv2
import numpy as np

from c2fdft_arch.common.errors import C2FDFTError
from c2fdft_model.images import png
from c2fdft_model.images.orientation import ORIENTATION_TAG

MINISWHITE, MINISBLACK, RGB, SEPARATED = 0, 1, 2, 5
ASSOCIATED_ALPHA = 1
UNCOMPRESSED = 1
WHITE = 65535


class UnsupportedImageError(C2FDFTError, ValueError):
    """A file is sound but of a kind that is not read; the text says what to do."""


def read_png16(content: bytes, transparent: int | Sequence[int] | None = None) -> np.ndarray:
    """Decode a 16-bit PNG to uint16 (H, W, 1 to 4), grey or RGB, then alpha.

    `transparent` is a value (grey) or colour, in 16 bits, that stands for alpha 0; with it there is
    an alpha channel more. Raises ValueError if it cannot be decoded.
    """
    channels = {kind: channels for channels, kind in png.COLOUR_TYPES.items()}[content[25]]
    pixels = np.atleast_3d(_decode(content))
    # OpenCV gives blue first, and grey with alpha as blue, green, red with alpha
    order = {1: [0], 2: [0, -1], 3: [2, 1, 0], 4: [2, 1, 0, 3]}[channels]
    pixels = np.ascontiguousarray(pixels[:, :, order])
    if transparent is None or channels not in (1, 3):
        return pixels
    opaque = (pixels != np.asarray(transparent)).any(axis=2, keepdims=True)
    return np.concatenate([pixels, opaque * np.uint16(WHITE)], axis=2)


def read_tiff16(content: bytes) -> np.ndarray:
    """Decode a 16-bit TIFF to uint16 (H, W, channels) as stored, without regard to its orientation.

    Channels are grey or RGB, then alpha, by which the colours are not multiplied. Raises
    UnsupportedImageError for other kinds of colours, and errors of many kinds for damaged files.
    """
    with _first_page(content) as page:
        _check_colours(page)
        _check_length(page, len(content))
        try:
            pixels = page.asarray()
            if page.axes == 'SYX':
                pixels = np.moveaxis(pixels, 0, -1)
        except ValueError:
            # a compression that needs tifffile's optional codecs; OpenCV has its own
            pixels = _decode_tiff(content, page)
    if pixels.dtype != np.uint16:
        raise ValueError(f'its pixels are {pixels.dtype}')
    pixels = np.atleast_3d(pixels)
    if page.photometric == MINISWHITE:
        pixels = np.concatenate([WHITE - pixels[:, :, :1], pixels[:, :, 1:]], axis=2)
    multiplied = ASSOCIATED_ALPHA in page.extrasamples and pixels.shape[2] in (2, 4)
    return _divided_by_alpha(pixels) if multiplied else pixels


def check_length(content: bytes) -> None:
    """Raise ValueError if an uncompressed TIFF file ends before its pixels, which Pillow allows."""
    with _first_page(content) as page:
        if page.compression == UNCOMPRESSED and page.dtype is not None:
            _check_length(page, len(content))


def tiff_icc_profile(content: bytes) -> bytes | None:
    """The colour profile of a TIFF file's first page."""
    with _first_page(content) as page:
        return page.tags.valueof(34675)


def write_png16(pixels: np.ndarray, icc: bytes | None = None, exif: bytes | None = None) -> bytes:
    """Encode uint16 (H, W, 1 to 4), grey or RGB, then alpha, as a PNG file."""
    chunks = []
    if icc:
        chunks.append((b'iCCP', b'ICC profile\0\0' + zlib.compress(icc)))
    if exif:
        chunks.append((b'eXIf', exif.removeprefix(b'Exif\0\0')))
    data = b''.join(png.compress_rows(pixels, level=6, rows=256))
    return png.png_file(pixels, [*chunks, (b'IDAT', data)])


def write_tiff(pixels: np.ndarray, icc: bytes | None, byteorder: Literal['<', '>']) -> bytes:
    """Encode uint8 or uint16 (H, W, 1 to 4), grey or RGB, then alpha, as a TIFF file."""
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
def _first_page(content: bytes) -> Iterator[Any]:
    """tifffile's first page of a file; what the library raises, it does not log as well."""
    import tifffile

    logger = logging.getLogger('tifffile')
    before, logger.disabled = logger.disabled, True
    try:
        with tifffile.TiffFile(io.BytesIO(content)) as tiff:
            yield tiff.pages[0]
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
    """Undo the multiplication of the colours by alpha, in pixels (H, W, 2 or 4)."""
    alpha = pixels[:, :, -1:].astype(np.uint64)
    colour = (pixels[:, :, :-1] * np.uint64(WHITE) + alpha // 2) // np.maximum(alpha, 1)
    colour = np.minimum(colour, WHITE).astype(np.uint16)
    return np.concatenate([colour, pixels[:, :, -1:]], axis=2)


def _decode(content: bytes) -> np.ndarray:
    pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.dtype != np.uint16:
        raise ValueError('its 16-bit pixels cannot be decoded')
    return pixels


def _decode_tiff(content: bytes, page: Any) -> np.ndarray:
    if orientation := page.tags.get(ORIENTATION_TAG):
        # OpenCV would turn the image, and some of its versions fail to
        at = orientation.valueoffset
        upright = struct.pack(page.parent.byteorder + 'H', 1)
        content = content[:at] + upright + content[at + 2 :]
    pixels = _decode(content)
    return pixels if pixels.ndim == 2 else pixels[:, :, [2, 1, 0, 3][: pixels.shape[2]]]
