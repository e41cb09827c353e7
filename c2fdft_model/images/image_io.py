"""Image files, decoded the same way for training, testing, evaluating and restoring.

Pixels are stored values, uint8 or uint16, RGB. OpenCV decodes what training reads most, because it
is fast; tifffile, TIFF of 16 bits; Pillow, which gives the same pixels as OpenCV, all else.
"""

import contextlib
import io
import os
import re
import stat
import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

import cv2
import numpy as np
from PIL import Image

from c2fdft_arch.common.errors import C2FDFTError
from c2fdft_arch.common.free_memory import free_memory
from c2fdft_arch.common.messages import one_line
from c2fdft_model.images import tiff
from c2fdft_model.images.tiff import UnsupportedImageError, upright

FORMATS = {
    '.png': 'PNG',
    **dict.fromkeys(('.jpg', '.jpeg', '.jpe', '.jfif'), 'JPEG'),
    **dict.fromkeys(('.tif', '.tiff'), 'TIFF'),
    '.webp': 'WEBP',
}
"""Endings of names and their formats: what is written, and read with all that belongs to it."""
IMAGE_SUFFIXES = (*FORMATS, '.bmp', '.ppm', '.pgm', '.pnm', '.gif', '.jp2', '.avif')
"""Endings of all files whose pixels are read."""
CAMERA_SUFFIXES = ('.dng', '.cr2', '.cr3', '.nef', '.arw', '.orf', '.raf', '.rw2')
NOT_READ_SUFFIXES = ('.heic', '.heif', '.jxl', '.psd', '.exr', *CAMERA_SUFFIXES)
"""Endings of images that are not read."""
KINDS = (*dict.fromkeys(FORMATS.values()), 'BMP', 'PPM', 'GIF', 'JPEG2000', 'AVIF')
"""What Pillow calls the formats that are read; a file's content tells which it is."""
NOT_READ = {
    'a HEIC image': rb'....ftyp(he|mif1|msf1)',
    'a JPEG XL image': rb'\xff\x0a|\0\0\0\x0cJXL ',
    'a Photoshop document': rb'8BPS',
    'a web page': rb'(?i)\s*<(!doctype|html)',
    'a pointer of Git LFS, which "git lfs pull" replaces by the image': rb'version https://git-lfs',
}
LARGEST = 2**30
"""Pixels; OpenCV decodes no more."""
DENSEST = 1600
"""So many bytes of pixels are in no byte of a file, but of flat WebP, JPEG 2000 and AVIF files."""
MOST_EXIF_SEGMENTS = 256
CHECKED = 2**28
"""Bytes; for less, the free memory is not looked up."""

_JPEG_MARKER = re.compile(rb'\xff([^\x00\x01\xd0-\xd9\xff])', re.DOTALL)
_PPM_HEADER = re.compile(rb'P6\s(\d+)\s(\d+)\s(255|65535)\s')
_PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_END = {'PNG': b'IEND', 'JPEG': b'\xff\xd9'}
_FAST = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION


class ImageReadError(C2FDFTError, OSError):
    """A file that cannot be read as an image; the text names it and says why."""

    kind = 'unreadable'


class Header(NamedTuple):
    """What a file says of its image, as stored."""

    kind: str
    height: int
    width: int
    channels: int = 3
    depth: int = 8
    orientation: int = 1
    exif: bytes | None = b''
    """None if they are damaged."""


@contextlib.contextmanager
def naming(name: str) -> Iterator[None]:
    """Turn the errors of files and decoders into an ImageReadError with the file's name."""
    try:
        yield
    except ImageReadError:
        raise
    except Exception as error:  # decoders raise all kinds for damaged files
        reason = f'truncated or damaged image ({one_line(error).rstrip(".")})'
        if isinstance(error, UnsupportedImageError):
            reason = str(error)
        elif isinstance(error, MemoryError):
            reason = 'it does not fit into memory'
        raise ImageReadError(f'{name}: {getattr(error, "strerror", None) or reason}.') from error


def read_rgb(path: str | os.PathLike[str]) -> np.ndarray:
    """Read an image file: (H, W, 3), RGB, uint8 or uint16.

    Raises ImageReadError if the file is missing, truncated or not an image.
    """
    return decode_rgb(read_bytes(path), str(path))


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """The bytes of a regular file. Raises ImageReadError, also for pipes, devices and folders."""
    with naming(str(path)), _opened(path) as stream:
        return stream.read()


def image_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Height and width that decoding would give, from the header of a file.

    Raises ImageReadError if the file is missing or no image.
    """
    with naming(str(path)), _opened(path) as stream:
        header = read_header(stream)
        size = (header.height, header.width)
        return size if header.orientation < 5 else (size[1], size[0])


def decode_rgb(data: bytes, name: str) -> np.ndarray:
    """Decode the bytes of an image file: (H, W, 3), RGB, uint8 or uint16.

    An uncompressed file (PPM) is not copied: the result is a read-only view of `data`. `name` is
    for messages. Raises ImageReadError if the bytes are truncated or no image.
    """
    with naming(name):
        if (pixels := _view_ppm(data)) is not None:
            return pixels
        header = read_header(io.BytesIO(data), data)
        check_size(header, len(data))
        # of a damaged animated PNG OpenCV may leave pixels as the memory was
        is_fast = header.kind in ('BMP', 'PPM') or (header.kind == 'JPEG' and header.channels < 4)
        if is_fast or (header.kind == 'PNG' and b'acTL' not in data[:4096]):
            if _END.get(header.kind, b'') not in data[-4096:]:
                _loaded_by_pillow(data, header)  # some OpenCV versions fill it up
            pixels = cv2.imdecode(np.frombuffer(data, np.uint8), _FAST)
            if pixels is not None and pixels.dtype in (np.uint8, np.uint16):
                return np.ascontiguousarray(upright(pixels, header.orientation))
        return three_channels(decode(data, header)[0])


def decode(data: bytes, header: Header) -> tuple[np.ndarray, Image.Image | None]:
    """Upright pixels (H, W, 1 to 4), grey or RGB, then alpha, and Pillow's image if it was used.

    Alpha is straight. Raises errors of all kinds.
    """
    if header.kind == 'TIFF' and header.depth == 16:
        with tiff.opened(io.BytesIO(data)) as file:
            pixels = tiff.read_pixels(file.pages[0], data)
            return upright(pixels, header.orientation), None
    stored = None
    if header.kind == 'PNG':  # of its decoders, only OpenCV says if rows are missing
        stored = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        if stored is None:
            raise ValueError('not all of its pixels can be decoded')
    image = _loaded_by_pillow(data, header)
    if header.kind == 'TIFF':  # Pillow turns these upright, and no others
        return _pixels_of(image), image
    if stored is None or header.depth < 16:
        return upright(_pixels_of(image), header.orientation), image
    return upright(_pixels_of_png16(stored, header, image), header.orientation), image


def to_float(image: np.ndarray) -> np.ndarray:
    """Stored values, uint8 or uint16, as float32 in [0, 1]; same shape, contiguous."""
    scale = np.float32(255 if image.dtype.itemsize == 1 else 65535)
    return np.divide(image, scale, dtype=np.float32, order='C')


def three_channels(image: np.ndarray) -> np.ndarray:
    """The colours without alpha of (H, W, 1 to 4), grey repeated: (H, W, 3), contiguous."""
    colours = image[..., :3] if image.shape[2] > 2 else image[..., :1]
    return np.ascontiguousarray(np.broadcast_to(colours, (*image.shape[:2], 3)))


def read_header(stream: BinaryIO, start: bytes | None = None) -> Header:
    """What a file says of its image; `start` are its bytes, if they have been read already."""
    is_whole = start is not None
    start = stream.read(2**16) if start is None else start
    stream.seek(0)
    kind = _kind(start)
    if kind == 'JPEG':
        header = _jpeg_header(start) or _jpeg_header(stream.read())
        if header is None:
            raise ValueError('it does not say how large it is')
        return header
    if kind == 'TIFF':
        return _tiff_header(stream)
    if kind == 'PNG':
        width, height, depth, colours = struct.unpack_from('>IIBB', start, 16)
        exif = b'' if is_whole and b'eXIf' not in start else _exif_of_png(stream)
        return Header(kind, height, width, _PNG_CHANNELS.get(colours, 1), depth, *read_exif(exif))
    image = _open_with_pillow(stream)
    channels, exif = len(image.getbands()), image.info.get('exif', b'')
    return Header(kind, *image.size[::-1], channels, 8, *read_exif(exif))


def check_size(header: Header, length: int) -> None:
    """Raise an error if a file of so many bytes cannot hold the image, or the memory cannot."""
    pixels, size = header.height * header.width, f'{header.width} x {header.height} pixels'
    if pixels > LARGEST:
        raise UnsupportedImageError(f'{size} are more than can be read ({LARGEST})')
    is_dense = header.kind not in ('WEBP', 'JPEG2000', 'AVIF') and header.depth >= 8
    if is_dense and pixels * header.channels * header.depth // 8 > DENSEST * length:
        raise ValueError(f'{length} bytes are too few for {size}')
    needed = pixels * (header.channels * header.depth // 4 + 12)  # twice, and as float32
    if needed > CHECKED and (free := free_memory()) is not None and needed > free:
        need = f'{size} need {needed / 2**30:.1f} GiB of memory'
        raise UnsupportedImageError(f'{need}, and {free / 2**30:.1f} GiB are free')


@contextlib.contextmanager
def _opened(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    if os.fspath(path).lower().endswith(CAMERA_SUFFIXES):  # TIFF files of a preview, as it seems
        raise UnsupportedImageError("a camera's raw file, which is not read")
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        raise UnsupportedImageError('it is no regular file but a folder, a pipe or a device')
    if status.st_size == 0:
        raise UnsupportedImageError('the file is empty')
    if status.st_size > CHECKED and status.st_size > (free_memory() or status.st_size):
        raise UnsupportedImageError('the file is larger than the memory that is free')
    with open(path, 'rb') as stream:
        yield stream


def _kind(start: bytes) -> str:
    Image.init()
    for kind in KINDS:
        accept = Image.OPEN[kind][1] if kind in Image.OPEN else None
        if accept and accept(start[:32]) is True:
            return kind
    for what, beginning in NOT_READ.items():
        if re.match(beginning, start, re.DOTALL):
            raise UnsupportedImageError(f'it is {what}')
    raise UnsupportedImageError('not an image file of a known format')


def _open_with_pillow(stream: BinaryIO) -> Image.Image:
    """Pillow's image without its guard against large ones, which is one for all threads."""
    kind = _kind(stream.read(32))
    stream.seek(0)
    return Image.OPEN[kind][0](stream, '')


def _loaded_by_pillow(data: bytes, header: Header) -> Image.Image:
    if header.exif is None:  # damage over which Pillow might spend hours
        data = data.replace(tiff.HEADER, bytes(len(tiff.HEADER)))
    image = _open_with_pillow(io.BytesIO(data))
    if image.width * image.height > header.width * header.height:
        raise ValueError('it says two sizes')
    if header.kind == 'TIFF':  # with memory of its own, the guard of its plug-in is not asked
        image.im = Image.core.new(image.mode, getattr(image, '_tile_size', image.size))
    image.load()
    return image


def read_exif(exif: bytes) -> tuple[int, bytes | None]:
    """The orientation in EXIF data, and these without header and thumbnail; None for damaged."""
    if not exif:
        return 1, exif
    try:
        exif = exif.removeprefix(tiff.HEADER)
        with tiff.opened(io.BytesIO(exif)) as file:
            return tiff.orientation(file.pages[0].tags), tiff.without_thumbnail(exif)
    except Exception:  # cameras write what they like
        return 1, None


def _jpeg_header(data: bytes) -> Header | None:
    """What stands before the pixels, as decoders read it: they skip bytes that are no marker."""
    place, exif = 2, list[bytes]()
    while (found := _JPEG_MARKER.search(data, place)) and found[1] != b'\xda':  # start of scan
        place = found.end()
        length = int.from_bytes(data[place : place + 2], 'big')
        content = data[place + 2 : place + length]
        if b'\xc0' <= found[1] < b'\xd0' and found[1] not in b'\xc4\xc8\xcc' and len(content) > 5:
            _, height, width, channels = struct.unpack_from('>BHHB', content)
            # Pillow takes time that grows with the square of this number
            read = read_exif(b''.join(exif)) if len(exif) < MOST_EXIF_SEGMENTS else (1, None)
            return Header('JPEG', height, width, channels, 8, *read)
        if found[1] == b'\xe1' and content.startswith(tiff.HEADER):
            exif.append(content[len(tiff.HEADER) :])
        place += length
    return None


def _tiff_header(stream: BinaryIO) -> Header:
    with tiff.opened(stream) as file:
        page = file.pages[0]
        if page.bitspersample > 16 or page.sampleformat not in (1, 4):
            of = ', of floating point' if page.sampleformat == 3 else ''
            bits = f'{page.bitspersample} bits per channel{of}'
            raise UnsupportedImageError(f'it has {bits}; save it with 8 or 16')
        tiff.check_length(page)
        size, orientation = (page.imagelength, page.imagewidth), tiff.orientation(page.tags)
        return Header('TIFF', *size, page.samplesperpixel, page.bitspersample, orientation)


def _exif_of_png(stream: BinaryIO) -> bytes:
    """EXIF data before or behind the pixels, which Pillow would decode to get there."""
    stream.seek(8)
    while len(head := stream.read(8)) == 8:
        length, name = struct.unpack('>I4s', head)
        if name != b'eXIf':
            stream.seek(length + 4, os.SEEK_CUR)
            continue
        content, checksum = stream.read(length), stream.read(4)
        if zlib.crc32(content, zlib.crc32(name)).to_bytes(4, 'big') != checksum:
            raise ValueError('the checksum of its EXIF data is wrong')
        return content
    return b''


def _pixels_of_png16(stored: np.ndarray, header: Header, image: Image.Image) -> np.ndarray:
    # OpenCV gives blue first, and grey with alpha as blue, green, red with alpha
    order = {1: [0], 2: [0, 3], 3: [2, 1, 0], 4: [2, 1, 0, 3]}[header.channels]
    pixels = np.atleast_3d(stored)[:, :, order]
    if header.channels in (2, 4) or 'transparency' not in image.info:
        return pixels
    opaque = (pixels != np.asarray(image.info['transparency'])).any(axis=2, keepdims=True)
    return np.concatenate([pixels, opaque * np.uint16(65535)], axis=2)


def _pixels_of(image: Image.Image) -> np.ndarray:
    if image.mode == 'F':
        raise UnsupportedImageError('floating point is not supported; save it with 8 or 16 bits')
    if image.mode.startswith('I'):
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 65535:
            raise UnsupportedImageError('values beyond 16 bits are not supported')
        return values.astype(np.uint16)[:, :, None]
    mode = 'L' if image.mode in ('1', 'L', 'LA', 'La') else 'RGB'
    alpha = 'A' if image.has_transparency_data else ''
    return np.atleast_3d(np.asarray(image.convert(mode + alpha)))


def _view_ppm(data: bytes) -> np.ndarray | None:
    header = _PPM_HEADER.match(data[:64])
    if header is None:
        return None
    width, height, highest = map(int, header.groups())
    size, kind = width * height * 3, np.dtype('u1' if highest == 255 else '>u2')
    if len(data) - header.end() < size * kind.itemsize:
        raise ValueError(f'{len(data)} bytes are too few for {width} x {height} pixels')
    pixels = np.frombuffer(data, kind, size, header.end()).reshape(height, width, 3)
    return pixels if kind.itemsize == 1 else pixels.astype(np.uint16)
