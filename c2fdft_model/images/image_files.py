"""Image files in and out, with everything kept that a restoration does not change.

Alpha, bit depth, grey, EXIF (with the orientation) and the ICC profile pass through; files are
written aside and renamed, so that none is ever half-written.
"""

from __future__ import annotations

import contextlib
import io
import os
import warnings
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from c2fdft_model.images.exif import ICC_PROFILE, Exif, read_exif, tiff_entry, with_exif
from c2fdft_model.images.image_io import IMAGE_SUFFIXES
from c2fdft_model.images.images_16bit import (
    ORIENTATION_TAG,
    UnsupportedImageError,
    check_length,
    read_png16,
    read_tiff16,
    write_png16,
    write_tiff,
)

READABLE = ('PNG', 'JPEG', 'TIFF', 'WEBP')
FORMATS = {suffix: kind for suffix, kind in IMAGE_SUFFIXES.items() if kind in READABLE}
"""Ending of a file's name -> format, of those that are restored."""
DEEP_FORMATS = ('PNG', 'TIFF')
LARGEST_SIDE = {'JPEG': 65500, 'WEBP': 16383}

LONGEST_EXIF = {'JPEG': 65533}
"""Bytes, with their header."""

Transform = Callable[[np.ndarray], np.ndarray]
UPRIGHT: dict[int, Transform] = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: a[::-1].swapaxes(0, 1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: a[:, ::-1].swapaxes(0, 1),
}
"""EXIF orientation -> how the stored pixels (H, W, ...) become an upright picture."""
INVERSE_ORIENTATION = {6: 8, 8: 6}


class ImageFileError(ValueError):
    """A file cannot be read or written; the message says which, why and what to do."""


@dataclass(frozen=True)
class ImageRecord:
    """An upright picture and what belongs to its file."""

    colour: np.ndarray
    """(H, W, 3) float32 RGB in [0, 1]; of a grey picture three equal channels."""
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
    """Pictures in the file, of which this is the first."""
    lost: tuple[str, ...] = ()
    """What the file holds beside the picture and could not be read."""

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
    path: str | os.PathLike[str], photograph: ImageRecord, quality: int = 95
) -> tuple[str, ...]:
    """Write a PNG, JPEG, TIFF or WebP file, as its name ends; folders are made as needed.

    JPEG and WebP have 8 bits; their `quality` is 1 to 100, and 100 is lossless for WebP. Returns
    what belongs to the photograph and could not be kept. Raises ImageFileError.
    """
    path = Path(path)
    check_writable(path, photograph)
    kind = _kind(path)
    try:
        content, lost = _encode_somehow(photograph, kind, quality)
    except MemoryError:
        raise
    except Exception as error:
        raise ImageFileError(f'{path} cannot be written: {_one_line(error)}.') from error
    write_bytes(path, content)
    return lost


def check_writable(path: Path, photograph: ImageRecord) -> None:
    """Raise ImageFileError if the file's format or folder cannot take the photograph."""
    kind = FORMATS.get(path.suffix.lower())
    if kind is None:
        raise ImageFileError(
            f'{path}: the name ends in {path.suffix or "nothing"}; written are {" ".join(FORMATS)}.'
        )
    if kind == 'JPEG' and photograph.alpha is not None:
        raise ImageFileError(f'{path}: JPEG cannot hold the alpha channel; write .png or .webp.')
    limit = LARGEST_SIDE.get(kind, max(photograph.colour.shape))
    if max(photograph.colour.shape) > limit:
        raise ImageFileError(f'{path}: {kind} ends at {limit} pixels a side; write .png or .tif.')
    existing = next(folder for folder in path.absolute().parents if folder.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        raise ImageFileError(
            f'{path} cannot be written: {existing} is no folder that can be written to.'
        )


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file aside and rename it, so that it is there whole or not at all.

    Raises ImageFileError if it cannot be written.
    """
    aside = path.with_name(f'.{path.name}.{os.getpid()}.part')
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        aside.write_bytes(content)
        os.replace(aside, path)
    except OSError as error:
        raise ImageFileError(f'{path} cannot be written: {error.strerror or error}.') from error
    finally:
        with contextlib.suppress(OSError):
            aside.unlink(missing_ok=True)


def quantised(photograph: ImageRecord, path: Path | None = None) -> np.ndarray:
    """The colours as a file holds them, before any lossy coding: (H, W, 3) float32 in [0, 1].

    A file of the photograph's depth, or with `path` of the format that its name says.
    """
    depth = photograph.depth if path is None else _depth_of(photograph, _kind(path))
    colour = _integers(_file_colours(photograph), depth) / (2**depth - 1)
    return np.array(np.broadcast_to(colour.astype(np.float32), photograph.colour.shape))


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
    reason = _one_line(error) if told else 'its data contradict each other'
    return ImageFileError(f'{path} is damaged or cut short ({reason}): copy or save it again.')


def _read_bytes(path: Path) -> bytes:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise ImageFileError(f'{path}: no such file.') from None
    except IsADirectoryError:
        raise ImageFileError(f'{path} is a folder, not an image.') from None
    except PermissionError:
        raise ImageFileError(f'{path}: no permission to read it.') from None
    except OSError as error:
        raise ImageFileError(f'{path} cannot be read: {error.strerror or error}.') from error
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
    exif = _exif(image, content)
    orientation = exif.orientation or 1
    icc = image.info.get('icc_profile')
    if image.format == 'TIFF':
        check_length(content)
    # also where OpenCV decodes the pixels, since it lets truncated files pass
    image.load()
    if depth == 16:
        pixels = read_tiff16(content) if image.format == 'TIFF' else _read_png16(image, content)
        pixels = UPRIGHT[orientation](pixels)
    else:
        if image.mode in ('CMYK', 'YCbCr', 'LAB', 'HSV'):
            icc = None  # it describes colours that the result does not have
        turned = image.format == 'TIFF'  # Pillow turns TIFF upright by itself, and no other
        pixels = UPRIGHT[1 if turned else orientation](_eight_bit_pixels(image))
    return _photograph(pixels, depth, exif, icc, frames)


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


def _read_png16(image: Image.Image, content: bytes) -> np.ndarray:
    channels = {0: 1, 4: 2, 2: 3, 6: 4}[content[25]]
    return read_png16(content, channels, image.info.get('transparency'))


def _eight_bit_pixels(image: Image.Image) -> np.ndarray:
    has_alpha = image.has_transparency_data
    grey = image.mode in ('1', 'L', 'LA', 'La')
    mode = ('LA' if has_alpha else 'L') if grey else ('RGBA' if has_alpha else 'RGB')
    pixels = np.asarray(image.convert(mode))
    return pixels if pixels.ndim == 3 else pixels[:, :, None]


def _tiff_of_others(path: Path, content: bytes) -> ImageRecord:
    """A 16-bit TIFF that Pillow does not know, such as grey with alpha. Raises ImageFileError."""
    try:
        exif = _legal(read_exif(content))
    except Exception:
        raise ImageFileError(
            f'{path} is not an image: give PNG, JPEG, TIFF or WebP files.'
        ) from None
    try:
        pixels = UPRIGHT[exif.orientation or 1](read_tiff16(content))
        return _photograph(pixels, 16, exif, tiff_entry(content, ICC_PROFILE), 1)
    except Exception as error:
        raise _unreadable(path, error) from error


def _photograph(
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


def _exif(image: Image.Image, content: bytes) -> Exif:
    """What is kept of the EXIF data, with a legal orientation if any."""
    try:
        # also looks for it where Pillow alone does: in text of PNG files, and in XMP
        of_pillow = image.getexif().get(ORIENTATION_TAG)
    except Exception:  # cameras write what they like, and Pillow raises as many kinds of error
        of_pillow = None
    found = content if image.format == 'TIFF' else _exif_bytes(image)
    if not found:
        return _legal(Exif(), of_pillow)
    try:
        return _legal(read_exif(found), of_pillow)
    except Exception:
        return replace(_legal(Exif(), of_pillow), lost=('EXIF data',))


def _exif_bytes(image: Image.Image) -> bytes:
    if text := image.info.get('Raw profile type exif'):  # lines: name, length, then hexadecimal
        with contextlib.suppress(ValueError):
            return bytes.fromhex(''.join(text.split('\n')[3:]))
    return image.info.get('exif', b'')


def _legal(exif: Exif, otherwise: object = None) -> Exif:
    """EXIF data whose orientation, if there is one, is one of the eight."""
    given = exif.orientation if exif.orientation is not None else otherwise
    if given is None:
        return exif
    return exif.with_orientation(given if isinstance(given, int) and given in UPRIGHT else 1)


def _encode_somehow(
    photograph: ImageRecord, kind: str, quality: int
) -> tuple[bytes, tuple[str, ...]]:
    """A file's content and what it lacks; what cannot be written beside the picture is left out."""
    exif = _exif_to_write(photograph, kind)
    lost = exif.lost if exif else photograph.lost
    try:
        return _encode(photograph, kind, quality, exif), lost
    except MemoryError:
        raise
    except Exception:
        if exif is None and photograph.icc is None:
            raise
    # without EXIF data the picture has to be stored upright
    bare = replace(photograph, icc=None, orientation=1)
    return _encode(bare, kind, quality, None), (*lost, 'EXIF data', 'colour profile')


def _exif_to_write(photograph: ImageRecord, kind: str) -> Exif | None:
    if photograph.exif is None and photograph.orientation == 1:
        return None
    exif = read_exif(photograph.exif) if photograph.exif else Exif()
    exif = replace(exif, lost=photograph.lost).with_orientation(photograph.orientation)
    return exif.shortened(LONGEST_EXIF[kind]) if kind in LONGEST_EXIF else exif


def _encode(photograph: ImageRecord, kind: str, quality: int, exif: Exif | None) -> bytes:
    depth = _depth_of(photograph, kind)
    turn_back = INVERSE_ORIENTATION.get(photograph.orientation, photograph.orientation)
    pixels = np.ascontiguousarray(UPRIGHT[turn_back](_file_pixels(photograph, depth)))
    icc = photograph.icc
    if kind == 'TIFF':
        content = write_tiff(pixels, icc, exif.layout.order if exif else '<')
        return with_exif(content, exif) if exif else content
    exif_bytes = exif.to_bytes() if exif else None
    if depth == 16:
        return write_png16(pixels, icc, exif_bytes)
    options: dict[str, dict[str, Any]] = {
        'PNG': {},
        'JPEG': {'quality': quality, 'subsampling': 0},
        'WEBP': {'quality': quality, 'lossless': quality == 100, 'exact': True},
    }
    file = io.BytesIO()
    image = Image.fromarray(pixels if pixels.shape[2] > 1 else pixels[:, :, 0])
    metadata = {k: v for k, v in {'icc_profile': icc, 'exif': exif_bytes}.items() if v}
    image.save(file, kind, **options[kind], **metadata)
    return file.getvalue()


def _depth_of(photograph: ImageRecord, kind: str) -> int:
    """Bits per channel of a file of this format."""
    return photograph.depth if kind in DEEP_FORMATS else 8


def _file_colours(photograph: ImageRecord) -> np.ndarray:
    """The channels of a file without alpha: (H, W, 1 or 3)."""
    colour = photograph.colour
    return colour.mean(axis=2, keepdims=True) if photograph.grey else colour


def _file_pixels(photograph: ImageRecord, depth: int) -> np.ndarray:
    colour = _file_colours(photograph)
    pixels = _integers(colour, depth)
    if photograph.alpha is None:
        return pixels
    alpha = photograph.alpha
    if photograph.depth != depth:
        alpha = _integers(alpha / (2**photograph.depth - 1), depth)
    return np.concatenate([pixels, alpha[:, :, None]], axis=2)


def _integers(values: np.ndarray, depth: int) -> np.ndarray:
    scaled = np.clip(values, 0, 1) * (2**depth - 1)
    return np.rint(scaled).astype(np.uint8 if depth == 8 else np.uint16)


def _one_line(error: BaseException) -> str:
    return ' '.join(str(error).split()) or type(error).__name__
