"""Image files in and out, with everything kept that a restoration does not change.

Alpha, bit depth, grey, EXIF (with the orientation) and the ICC profile pass through.
"""

from __future__ import annotations

import contextlib
import io
import os
import warnings
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from c2fdft_arch.common import atomic_write
from c2fdft_arch.common.errors import C2FDFTError
from c2fdft_arch.common.messages import one_line
from c2fdft_model.images.exif import Exif, exif_of, read_exif, with_exif
from c2fdft_model.images.image_io import FORMATS, three_channels, to_float
from c2fdft_model.images.images_16bit import (
    UnsupportedImageError,
    check_length,
    read_png16,
    read_tiff16,
    tiff_icc_profile,
    write_png16,
    write_tiff,
)
from c2fdft_model.images.orientation import INVERSE, UPRIGHT

READABLE = tuple(dict.fromkeys(FORMATS.values()))
LARGEST_SIDE = {'JPEG': 65500, 'WEBP': 16383}


class ImageFileError(C2FDFTError, ValueError):
    """A file cannot be read or written; the message says which, why and what to do."""


@dataclass(frozen=True)
class ImageRecord:
    """An upright image and what belongs to its file."""

    colour: np.ndarray
    """(H, W, 3) float32 RGB in [0, 1]; of a grey image three equal channels."""
    alpha: np.ndarray | None = None
    """(H, W) of `depth` bits, as in the file."""
    depth: int = 8
    """Bits per channel, 8 or 16."""
    grey: bool = False
    orientation: int = 1
    """EXIF orientation of the file, 1 to 8."""
    exif: bytes | None = None
    """EXIF data as they stand in a file, with the orientation."""
    icc: bytes | None = None
    frames: int = 1
    """Images in the file, of which this is the first."""
    lost: tuple[str, ...] = ()
    """What the file holds beside the image and could not be read."""


def is_image_name(path: Path) -> bool:
    """Whether a file's name ends like those that are read."""
    return path.suffix.lower() in FORMATS


def read_image(path: str | os.PathLike[str]) -> ImageRecord:
    """Read a PNG, JPEG, TIFF or WebP file. Raises ImageFileError."""
    path = Path(path)
    content = _read_bytes(path)
    try:
        with (
            _no_pixel_limit(),
            contextlib.suppress(UnidentifiedImageError),
            Image.open(io.BytesIO(content), formats=READABLE) as image,
        ):
            return _decode(image, content)
        return _tiff_of_others(content)
    except Exception as error:  # the decoders raise all kinds for damaged files
        raise _unreadable(path, error) from error


def write_image(
    path: str | os.PathLike[str], record: ImageRecord, quality: int = 95
) -> tuple[str, ...]:
    """Write a PNG, JPEG, TIFF or WebP file, as its name ends; folders are made as needed.

    JPEG and WebP have 8 bits; their `quality` is 1 to 100, and 100 is lossless for WebP. Returns
    what belongs to the record and could not be kept. Raises ImageFileError.
    """
    path = Path(path)
    check_writable(path, record)
    kind = _kind(path)
    try:
        content, lost = _encode_what_is_possible(record, kind, quality)
        atomic_write.write_bytes(path, content)
    except MemoryError:
        raise
    except Exception as error:
        reason = getattr(error, 'strerror', None) or one_line(error)
        raise ImageFileError(f'{path} cannot be written: {reason}.') from error
    return lost


def check_writable(path: Path, record: ImageRecord) -> None:
    """Raise ImageFileError if the file's format or folder cannot take the record."""
    kind = FORMATS.get(path.suffix.lower())
    if kind is None:
        raise ImageFileError(
            f'{path}: the name ends in {path.suffix or "nothing"}; written are {" ".join(FORMATS)}.'
        )
    if kind == 'JPEG' and record.alpha is not None:
        raise ImageFileError(f'{path}: JPEG cannot hold the alpha channel; write .png or .webp.')
    limit = LARGEST_SIDE.get(kind)
    if limit and max(record.colour.shape) > limit:
        raise ImageFileError(f'{path}: {kind} ends at {limit} pixels a side; write .png or .tif.')
    existing = next(folder for folder in path.absolute().parents if folder.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        raise ImageFileError(
            f'{path} cannot be written: {existing} is no folder that can be written to.'
        )


def quantised(record: ImageRecord, path: Path) -> np.ndarray:
    """The colours as such a file holds them, before any lossy coding: (H, W, 3), [0, 1]."""
    return _colours(_file_pixels(record, _kind(path)))


def is_lossy(path: Path, quality: int) -> bool:
    """Whether a file of this name and quality holds other pixels than were written to it."""
    kind = _kind(path)
    return kind == 'JPEG' or (kind == 'WEBP' and quality < 100)


def _kind(path: Path) -> str:
    return FORMATS[path.suffix.lower()]


def _unreadable(path: Path, error: Exception) -> ImageFileError:
    if isinstance(error, UnsupportedImageError):
        return ImageFileError(f'{path} {error}.')
    if isinstance(error, MemoryError):
        return ImageFileError(f'{path} does not fit into the memory.')
    # the text of other errors is about a decoder's own variables
    told = isinstance(error, (OSError, ValueError, SyntaxError, zlib.error))
    reason = one_line(error) if told else 'its data contradict each other'
    return ImageFileError(f'{path} is damaged or cut short ({reason}): copy or save it again.')


def _read_bytes(path: Path) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        reasons: dict[type[OSError], str] = {
            FileNotFoundError: ': no such file',
            IsADirectoryError: ' is a folder, not an image',
            PermissionError: ': no permission to read it',
        }
        reason = reasons.get(type(error), f' cannot be read: {error.strerror or error}')
        raise ImageFileError(f'{path}{reason}.') from error
    if not content:
        raise ImageFileError(f'{path} is empty (0 bytes): copy it again.')
    return content


@contextlib.contextmanager
def _no_pixel_limit() -> Iterator[None]:
    """Lift Pillow's guard against huge images: the user has named the file."""
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            yield
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def _decode(image: Image.Image, content: bytes) -> ImageRecord:
    # cameras put previews into their JPEG files, which Pillow then calls MPO
    frames = 1 if image.format == 'MPO' else getattr(image, 'n_frames', 1)
    depth = _depth(image, content)
    exif = exif_of(image, content)
    orientation = exif.orientation or 1
    icc = image.info.get('icc_profile')
    is_tiff = image.format == 'TIFF'
    if is_tiff:
        check_length(content)
    # also where OpenCV decodes the pixels, since it lets truncated files pass
    image.load()
    if depth == 8:
        pixels = _eight_bit_pixels(image)
        if is_tiff:
            orientation = 1  # Pillow turns TIFF upright by itself, and no other
        if image.mode in ('CMYK', 'YCbCr', 'LAB', 'HSV'):
            icc = None  # it describes colours that the result does not have
    elif is_tiff:
        pixels = read_tiff16(content)
    else:
        pixels = read_png16(content, image.info.get('transparency'))
    return _record(UPRIGHT[orientation](pixels), exif, icc, frames)


def _depth(image: Image.Image, content: bytes) -> int:
    if image.format == 'PNG':
        return 16 if content[24] == 16 else 8
    if image.format != 'TIFF':
        return 8
    bits = max(image.tag_v2.get(258, (1,)))  # type: ignore[attr-defined]
    sample_format = max(image.tag_v2.get(339, (1,)))  # type: ignore[attr-defined]
    if bits > 16 or sample_format != 1:
        raise UnsupportedImageError(
            f'has {bits} bits per channel{", of floating point" if sample_format == 3 else ""}: '
            'save it with 8 or 16'
        )
    return 16 if bits == 16 else 8


def _eight_bit_pixels(image: Image.Image) -> np.ndarray:
    has_alpha = image.has_transparency_data
    grey = image.mode in ('1', 'L', 'LA', 'La')
    mode = ('LA' if has_alpha else 'L') if grey else ('RGBA' if has_alpha else 'RGB')
    pixels = np.asarray(image.convert(mode))
    return pixels if pixels.ndim == 3 else pixels[:, :, None]


def _tiff_of_others(content: bytes) -> ImageRecord:
    """A 16-bit TIFF that Pillow does not know, such as grey with alpha."""
    try:
        exif = read_exif(content).with_legal_orientation()
    except Exception:
        reason = 'is not an image: give PNG, JPEG, TIFF or WebP files'
        raise UnsupportedImageError(reason) from None
    pixels = UPRIGHT[exif.orientation or 1](read_tiff16(content))
    return _record(pixels, exif, tiff_icc_profile(content), 1)


def _record(pixels: np.ndarray, exif: Exif, icc: bytes | None, frames: int) -> ImageRecord:
    channels = pixels.shape[2]
    return ImageRecord(
        colour=_colours(pixels),
        alpha=np.ascontiguousarray(pixels[:, :, -1]) if channels in (2, 4) else None,
        depth=8 * pixels.dtype.itemsize,
        grey=channels < 3,
        orientation=exif.orientation or 1,
        exif=exif.to_bytes() if exif.tags else None,
        icc=icc,
        frames=frames,
        lost=exif.lost,
    )


def _colours(pixels: np.ndarray) -> np.ndarray:
    """Of (H, W, 1 to 4) as stored, without alpha: (H, W, 3) float32 in [0, 1]."""
    return to_float(three_channels(pixels if pixels.shape[2] > 2 else pixels[:, :, :1]))


def _encode_what_is_possible(
    record: ImageRecord, kind: str, quality: int
) -> tuple[bytes, tuple[str, ...]]:
    """A file's content and what it lacks; what cannot be written beside the image is left out."""
    exif = _exif_to_write(record, kind)
    lost = exif.lost if exif else record.lost
    try:
        return _encode(record, kind, quality, exif), lost
    except MemoryError:
        raise
    except Exception:
        if exif is None and record.icc is None:
            raise
    # without EXIF data the image has to be stored upright
    bare = replace(record, icc=None, orientation=1)
    return _encode(bare, kind, quality, None), (*lost, 'EXIF data', 'colour profile')


def _exif_to_write(record: ImageRecord, kind: str) -> Exif | None:
    if record.exif is None and record.orientation == 1:
        return None
    exif = read_exif(record.exif) if record.exif else Exif()
    exif = replace(exif, lost=record.lost).with_orientation(record.orientation)
    return exif.shortened(65533) if kind == 'JPEG' else exif  # bytes, with the header


def _encode(record: ImageRecord, kind: str, quality: int, exif: Exif | None) -> bytes:
    turned_back = UPRIGHT[INVERSE[record.orientation]](_file_pixels(record, kind))
    pixels = np.ascontiguousarray(turned_back)
    if kind == 'TIFF':
        content = write_tiff(pixels, record.icc, exif.layout.order if exif else '<')
        return with_exif(content, exif) if exif else content
    exif_bytes = exif.to_bytes() if exif else b''
    if pixels.dtype == np.uint16:
        return write_png16(pixels, record.icc, exif_bytes)
    image = Image.fromarray(pixels if pixels.shape[2] > 1 else pixels[:, :, 0])
    options = {'quality': quality, 'subsampling': 0, 'lossless': quality == 100, 'exact': True}
    file = io.BytesIO()  # a format ignores the options that it does not have
    image.save(file, kind, icc_profile=record.icc, exif=exif_bytes, **options)
    return file.getvalue()


def _file_pixels(record: ImageRecord, kind: str) -> np.ndarray:
    """Colour and alpha as a file of this format holds them, upright: (H, W, 1 to 4)."""
    depth = record.depth if kind in ('PNG', 'TIFF') else 8
    colour = record.colour.mean(axis=2, keepdims=True) if record.grey else record.colour
    pixels, alpha = _integers(colour, depth), record.alpha
    if alpha is None:
        return pixels
    if record.depth != depth:
        alpha = _integers(alpha / (2**record.depth - 1), depth)
    return np.concatenate([pixels, alpha[:, :, None]], axis=2)


def _integers(values: np.ndarray, depth: int) -> np.ndarray:
    scaled = np.clip(values, 0, 1) * (2**depth - 1)
    return np.rint(scaled).astype(np.uint8 if depth == 8 else np.uint16)
