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
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from c2fdft_arch.common import atomic_write
from c2fdft_arch.common.errors import C2FDFTError
from c2fdft_arch.common.messages import one_line
from c2fdft_model.images.exif import ICC_PROFILE, Exif, exif_of, read_exif, tiff_entry, with_exif
from c2fdft_model.images.image_io import FORMATS
from c2fdft_model.images.images_16bit import (
    UnsupportedImageError,
    check_length,
    read_png16,
    read_tiff16,
    write_png16,
    write_tiff,
)
from c2fdft_model.images.orientation import INVERSE, UPRIGHT

READABLE = tuple(dict.fromkeys(FORMATS.values()))
FORMATS_16BIT = ('PNG', 'TIFF')
LARGEST_SIDE = {'JPEG': 65500, 'WEBP': 16383}

LONGEST_EXIF = {'JPEG': 65533}
"""Bytes, with their header."""


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

    def with_colour(self, colour: np.ndarray) -> ImageRecord:
        """The same file with other colours, (H, W, 3) RGB in [0, 1]."""
        return replace(self, colour=colour)


def is_image_name(path: Path) -> bool:
    """Whether a file's name ends like those that are read."""
    return path.suffix.lower() in FORMATS


def read_image(path: str | os.PathLike[str]) -> ImageRecord:
    """Read a PNG, JPEG, TIFF or WebP file. Raises ImageFileError."""
    path = Path(path)
    content = _read_bytes(path)
    try:
        with _no_pixel_limit(), Image.open(io.BytesIO(content), formats=READABLE) as image:
            return _decode(image, content)
    except UnidentifiedImageError:
        return _tiff_of_others(path, content)
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


def quantised(record: ImageRecord, path: Path | None = None) -> np.ndarray:
    """The colours as a file holds them, before any lossy coding: (H, W, 3) float32 in [0, 1].

    A file of the record's depth, or with `path` of the format that its name says.
    """
    depth = record.depth if path is None else _depth_of(record, _kind(path))
    colour = _integers(_file_colours(record), depth) / (2**depth - 1)
    return np.array(np.broadcast_to(colour.astype(np.float32), record.colour.shape))


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
    if image.format == 'TIFF':
        check_length(content)
    # also where OpenCV decodes the pixels, since it lets truncated files pass
    image.load()
    if depth == 16:
        if image.format == 'TIFF':
            stored = read_tiff16(content)
        else:
            stored = read_png16(content, image.info.get('transparency'))
        pixels = UPRIGHT[orientation](stored)
    else:
        if image.mode in ('CMYK', 'YCbCr', 'LAB', 'HSV'):
            icc = None  # it describes colours that the result does not have
        turned = image.format == 'TIFF'  # Pillow turns TIFF upright by itself, and no other
        pixels = UPRIGHT[1 if turned else orientation](_eight_bit_pixels(image))
    return _record(pixels, depth, exif, icc, frames)


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


def _tiff_of_others(path: Path, content: bytes) -> ImageRecord:
    """A 16-bit TIFF that Pillow does not know, such as grey with alpha. Raises ImageFileError."""
    try:
        exif = read_exif(content).with_legal_orientation()
    except Exception:
        needed = 'give PNG, JPEG, TIFF or WebP files'
        raise ImageFileError(f'{path} is not an image: {needed}.') from None
    try:
        pixels = UPRIGHT[exif.orientation or 1](read_tiff16(content))
        return _record(pixels, 16, exif, tiff_entry(content, ICC_PROFILE), 1)
    except Exception as error:
        raise _unreadable(path, error) from error


def _record(
    pixels: np.ndarray, depth: int, exif: Exif, icc: bytes | None, frames: int
) -> ImageRecord:
    channels = pixels.shape[2]
    colour = pixels[:, :, : 3 if channels > 2 else 1].astype(np.float32) / (2**depth - 1)
    return ImageRecord(
        colour=np.array(np.broadcast_to(colour, (*pixels.shape[:2], 3))),
        alpha=np.ascontiguousarray(pixels[:, :, -1]) if channels in (2, 4) else None,
        depth=depth,
        grey=channels < 3,
        orientation=exif.orientation or 1,
        exif=exif.to_bytes() if exif.tags else None,
        icc=icc,
        frames=frames,
        lost=exif.lost,
    )


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
    return exif.shortened(LONGEST_EXIF[kind]) if kind in LONGEST_EXIF else exif


def _encode(record: ImageRecord, kind: str, quality: int, exif: Exif | None) -> bytes:
    depth = _depth_of(record, kind)
    turned_back = UPRIGHT[INVERSE[record.orientation]](_file_pixels(record, depth))
    pixels = np.ascontiguousarray(turned_back)
    icc = record.icc
    if kind == 'TIFF':
        content = write_tiff(pixels, icc, exif.layout.order if exif else '<')
        return with_exif(content, exif) if exif else content
    exif_bytes = exif.to_bytes() if exif else None
    if depth == 16:
        return write_png16(pixels, icc, exif_bytes)
    options: dict[str, Any] = {'icc_profile': icc, 'exif': exif_bytes}
    options = {name: value for name, value in options.items() if value}
    if kind == 'JPEG':
        options |= {'quality': quality, 'subsampling': 0}
    elif kind == 'WEBP':
        options |= {'quality': quality, 'lossless': quality == 100, 'exact': True}
    file = io.BytesIO()
    image = Image.fromarray(pixels if pixels.shape[2] > 1 else pixels[:, :, 0])
    image.save(file, kind, **options)
    return file.getvalue()


def _depth_of(record: ImageRecord, kind: str) -> int:
    """Bits per channel of a file of this format."""
    return record.depth if kind in FORMATS_16BIT else 8


def _file_colours(record: ImageRecord) -> np.ndarray:
    """The channels of a file without alpha: (H, W, 1 or 3)."""
    colour = record.colour
    return colour.mean(axis=2, keepdims=True) if record.grey else colour


def _file_pixels(record: ImageRecord, depth: int) -> np.ndarray:
    """Colour and alpha as a file of this depth holds them, upright: (H, W, 1 to 4)."""
    pixels, alpha = _integers(_file_colours(record), depth), record.alpha
    if alpha is None:
        return pixels
    if record.depth != depth:
        alpha = _integers(alpha / (2**record.depth - 1), depth)
    return np.concatenate([pixels, alpha[:, :, None]], axis=2)


def _integers(values: np.ndarray, depth: int) -> np.ndarray:
    scaled = np.clip(values, 0, 1) * (2**depth - 1)
    return np.rint(scaled).astype(np.uint8 if depth == 8 else np.uint16)
