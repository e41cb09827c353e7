"""Image files as they are in the wild, decoded to RGB the same way everywhere.

Grey, palette, transparent (alpha is dropped), 16-bit, EXIF-rotated and CMYK files become arrays
(H, W, 3), RGB, uint8 or uint16, stored values. OpenCV decodes the common formats; Pillow, what
OpenCV cannot decode or decodes wrongly. A file takes the same route wherever it is read.
"""

import contextlib
import io
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from c2fdft_arch.common.errors import C2FDFTError
from c2fdft_arch.common.messages import one_line
from c2fdft_model.images import png
from c2fdft_model.images.orientation import ORIENTATION_TAG, UPRIGHT

FORMATS = {
    '.png': 'PNG',
    '.jpg': 'JPEG',
    '.jpeg': 'JPEG',
    '.tif': 'TIFF',
    '.tiff': 'TIFF',
    '.webp': 'WEBP',
}
"""Endings of names and their formats: what is written, and read with all that belongs to it."""
IMAGE_SUFFIXES = (*FORMATS, '.bmp', '.ppm', '.pgm')
"""Endings of all files whose pixels are read."""

_JPEG = b'\xff\xd8\xff'
_BIG_TIFF = (b'II+\0', b'MM\0+')
_TIFF = (b'II*\0', b'MM\0*', *_BIG_TIFF)
_PNM_HEADER = re.compile(rb'P([56])\s(\d+)\s(\d+)\s(\d+)\s')
_RGB_FLAG = getattr(cv2, 'IMREAD_COLOR_RGB', None)
_AS_STORED = cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION
_BROKEN = (OSError, ValueError, SyntaxError, KeyError, struct.error, Image.DecompressionBombError)


class ImageReadError(C2FDFTError, OSError):
    """A file that cannot be read as an image; the text names it and says why."""

    kind = 'unreadable'


@contextlib.contextmanager
def _naming(name: str) -> Iterator[None]:
    """Turn the errors of files and decoders into an ImageReadError with the file's name."""
    try:
        yield
    except ImageReadError:
        raise
    except (*_BROKEN, cv2.error) as error:
        if isinstance(error, UnidentifiedImageError):
            reason = 'not an image file of a known format'
        else:
            damage = f'truncated or damaged image ({one_line(error).rstrip(".")})'
            reason = getattr(error, 'strerror', None) or damage
        raise ImageReadError(f'{name}: {reason}.') from error


def read_rgb(path: str | Path) -> np.ndarray:
    """Read an image file: (H, W, 3), RGB, uint8 or uint16.

    Raises ImageReadError if the file is missing, truncated or not an image.
    """
    with _naming(str(path)):
        return decode_rgb(Path(path).read_bytes(), str(path))


def decode_rgb(data: bytes, name: str) -> np.ndarray:
    """Decode the bytes of an image file: (H, W, 3), RGB, uint8 or uint16.

    An uncompressed file (PPM) is not copied: the result is a read-only view of `data`. `name` is
    for messages.

    Raises ImageReadError if the bytes are truncated or no image.
    """
    if not data:
        raise ImageReadError(f'{name}: the file is empty.')
    with _naming(name):
        if data[:2] == b'P6':
            return _view_ppm(data, name)
        if data.startswith(png.SIGNATURE):
            _check_end(data, b'IEND')
            return _oriented(_decode_with_opencv(data, name), data, b'eXIf')
        if data.startswith(_JPEG) and jpeg_components(data) != 4:
            _check_end(data, b'\xff\xd9')
            return _oriented(_decode_with_opencv(data, name), data, b'Exif\0\0')
        if data[:4] in _TIFF:
            return _decode_tiff(data, name)
        if data[:2] in (b'BM', b'P5'):
            return _decode_with_opencv(data, name)
        return _decode_with_pillow(data, name)


def image_size(path: str | Path) -> tuple[int, int]:
    """Height and width that decoding would give, from the header of a file.

    Raises ImageReadError if the file is missing or no image.
    """
    with _naming(str(path)), open(path, 'rb') as stream:
        start = stream.read(64)
        stream.seek(0)
        if header := _PNM_HEADER.match(start):
            return int(header[3]), int(header[2])
        if start[:4] in _TIFF:
            tags = _tiff_tags(stream)
            width, height, orientation = tags[256], tags[257], tags.get(ORIENTATION_TAG, 1)
        else:
            with Image.open(stream) as image:
                width, height = image.size
                # Asked for what is not in the header, Pillow would decode a PNG to look for it.
                known = image.format != 'PNG' or 'exif' in image.info
                orientation = image.getexif().get(ORIENTATION_TAG, 1) if known else 1
        return (width, height) if orientation in (5, 6, 7, 8) else (height, width)


def to_float(image: np.ndarray) -> np.ndarray:
    """Stored values, uint8 or uint16, as float32 in [0, 1]; same shape, contiguous."""
    scale = np.float32(255 if image.dtype.itemsize == 1 else 65535)
    return np.divide(image, scale, dtype=np.float32, order='C')


def pad_to(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Reflect an image (H, W, C) at its lower and right edge until it has at least this size."""
    missing = (max(0, height - image.shape[0]), max(0, width - image.shape[1]))
    if missing == (0, 0):
        return image
    return np.pad(image, ((0, missing[0]), (0, missing[1]), (0, 0)), mode='reflect')


def encode_ppm(image: np.ndarray) -> bytes:
    """An uncompressed PPM file of an RGB image (H, W, 3), uint8 or uint16."""
    height, width = image.shape[:2]
    header = f'P6\n{width} {height}\n{np.iinfo(image.dtype).max}\n'.encode()
    return header + image.astype(image.dtype.newbyteorder('>')).tobytes()


def jpeg_components(data: bytes) -> int:
    """Colour components of a JPEG file (1 grey, 3 colour, 4 CMYK), 0 if the header is broken."""
    place = 2
    while place + 9 < len(data) and data[place] == 0xFF:
        marker = data[place + 1]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return data[place + 9]
        if marker == 0xFF:
            place += 1
        else:
            place += 2 + int.from_bytes(data[place + 2 : place + 4], 'big')
    return 0


def _decode_with_opencv(data: bytes, name: str) -> np.ndarray:
    flag = cv2.IMREAD_COLOR if _RGB_FLAG is None else _RGB_FLAG
    image = cv2.imdecode(np.frombuffer(data, np.uint8), flag | _AS_STORED)
    if image is None or image.dtype not in (np.uint8, np.uint16):
        return _decode_with_pillow(data, name)
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB) if _RGB_FLAG is None else image


def _decode_tiff(data: bytes, name: str) -> np.ndarray:
    # Pillow reads 8 bits in every layout but no 16-bit colour; OpenCV swaps the channels of 16-bit
    # colour if asked for RGB and multiplies by alpha, unless it is to leave everything as stored.
    tags = _tiff_tags(io.BytesIO(data))
    if tags.get(258, (8,))[0] != 16 or tags.get(339, (1,))[0] != 1:
        return _decode_with_pillow(data, name)
    if tags.get(277, 1) > 1 and tags.get(284, 1) == 2:
        raise ImageReadError(
            f'{name}: 16-bit TIFF with separate colour planes is not supported; save it as PNG.'
        )
    stored = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if stored is None or stored.dtype != np.uint16:
        return _decode_with_pillow(data, name)
    return three_channels(stored[..., None] if stored.ndim == 2 else stored[..., [2, 1, 0]])


def _tiff_tags(stream: BinaryIO) -> ImageFileDirectory_v2:
    header = stream.read(8)
    header += stream.read(8) if header[:4] in _BIG_TIFF else b''
    tags = ImageFileDirectory_v2(header)
    stream.seek(tags.next)
    tags.load(stream)
    if 256 not in tags or 257 not in tags:
        raise ValueError('no image size')
    return tags


def _decode_with_pillow(data: bytes, name: str) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as opened:
        image = ImageOps.exif_transpose(opened)
        if image.mode.startswith('I'):
            values = np.asarray(image)
            if values.min() < 0 or values.max() > 65535:
                raise ImageReadError(f'{name}: values beyond 16 bits are not supported.')
            return three_channels(values.astype(np.uint16)[..., None])
        if image.mode == 'F':
            raise ImageReadError(
                f'{name}: floating-point images are not supported; save it with 8 or 16 bits.'
            )
        if image.mode in ('RGBA', 'LA', 'PA', 'P'):
            return three_channels(np.asarray(image.convert('RGBA')))
        return np.array(image.convert('RGB'))


def three_channels(image: np.ndarray) -> np.ndarray:
    """The first three channels of (H, W, 3 or more); of (H, W, 1), the one repeated; contiguous."""
    return np.ascontiguousarray(np.broadcast_to(image[..., :3], (*image.shape[:2], 3)))


def _view_ppm(data: bytes, name: str) -> np.ndarray:
    header = _PNM_HEADER.match(data[:64])
    if header is None or int(header[4]) not in (255, 65535):
        return _decode_with_pillow(data, name)
    width, height = int(header[2]), int(header[3])
    kind = np.dtype(np.uint8 if int(header[4]) == 255 else '>u2')
    needed = width * height * 3 * kind.itemsize
    if len(data) - header.end() < needed:
        raise ImageReadError(f'{name}: the file is truncated.')
    pixels = np.frombuffer(data, kind, width * height * 3, header.end()).reshape(height, width, 3)
    return pixels if kind.itemsize == 1 else pixels.astype(np.uint16)


def _check_end(data: bytes, mark: bytes) -> None:
    # Some OpenCV versions fill up a truncated file without a word.
    if mark not in data[-4096:]:
        with Image.open(io.BytesIO(data)) as image:
            image.load()


def _oriented(image: np.ndarray, data: bytes, marker: bytes) -> np.ndarray:
    if marker not in data:
        return image
    with Image.open(io.BytesIO(data)) as opened:
        orientation = opened.getexif().get(ORIENTATION_TAG, 1)
    return np.ascontiguousarray(UPRIGHT.get(orientation, UPRIGHT[1])(image))
