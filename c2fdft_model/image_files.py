"""Image files in and out, with everything kept that a restoration does not change.

Alpha, bit depth, grey, EXIF (with the orientation) and the ICC profile pass through; files are
written aside and renamed, so that none is ever half-written.
"""

from __future__ import annotations

import contextlib
import io
import os
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from c2fdft_model.deep_images import (
    ORIENTATION_TAG,
    read_png16,
    read_tiff16,
    write_png16,
    write_tiff16,
)

FORMATS = {
    '.png': 'PNG',
    '.jpg': 'JPEG',
    '.jpeg': 'JPEG',
    '.tif': 'TIFF',
    '.tiff': 'TIFF',
    '.webp': 'WEBP',
}
READABLE = tuple(dict.fromkeys(FORMATS.values()))
DEEP_FORMATS = ('PNG', 'TIFF')
LARGEST_SIDE = {'JPEG': 65500, 'WEBP': 16383}

EXIF_TEXTS = (270, 271, 272, 305, 306, 315, 33432)
"""Description, make, model, software, date, artist, copyright."""
EXIF_SECTIONS = (0x8769, 0x8825)
"""Of the exposure and of the place; a thumbnail would show the picture as it was and is dropped."""

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
class Photograph:
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

    def with_colour(self, colour: np.ndarray) -> Photograph:
        """The same file with other colours, (H, W, 3) RGB in [0, 1]."""
        return replace(self, colour=colour)


def is_image_name(path: Path) -> bool:
    """Whether a file's name ends like those that are read."""
    return path.suffix.lower() in FORMATS


def read_photograph(path: str | os.PathLike[str]) -> Photograph:
    """Read a PNG, JPEG, TIFF or WebP file. Raises ImageFileError."""
    path = Path(path)
    content = _read_bytes(path)
    try:
        with _no_pixel_limit(), Image.open(io.BytesIO(content), formats=READABLE) as image:
            return _decode(image, content)
    except UnidentifiedImageError:
        if photograph := _grey_alpha_tiff(content):
            return photograph
        raise ImageFileError(
            f'{path} is not an image: give PNG, JPEG, TIFF or WebP files.'
        ) from None
    except (OSError, ValueError, SyntaxError, EOFError) as error:
        raise ImageFileError(
            f'{path} is damaged or cut short ({_one_line(error)}): copy or save it again.'
        ) from error


def write_photograph(
    path: str | os.PathLike[str], photograph: Photograph, quality: int = 95
) -> None:
    """Write a PNG, JPEG, TIFF or WebP file, as its name ends; folders are made as needed.

    JPEG and WebP have 8 bits; their `quality` is 1 to 100, and 100 is lossless for WebP.
    Raises ImageFileError.
    """
    path = Path(path)
    check_writable(path, photograph)
    write_bytes(path, _encode(photograph, FORMATS[path.suffix.lower()], quality))


def check_writable(path: Path, photograph: Photograph) -> None:
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


def quantised(photograph: Photograph) -> np.ndarray:
    """The colours as a file of the photograph's depth holds them, (H, W, 3) float32 in [0, 1]."""
    largest = 2**photograph.depth - 1
    return (_integers(photograph.colour, photograph.depth) / largest).astype(np.float32)


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


def _decode(image: Image.Image, content: bytes) -> Photograph:
    # cameras put previews into their JPEG files, which Pillow then calls MPO
    frames = 1 if image.format == 'MPO' else getattr(image, 'n_frames', 1)
    depth = _depth(image, content)
    exif, orientation = _exif(image)
    icc = image.info.get('icc_profile')
    # also where OpenCV decodes the pixels, since it lets truncated files pass
    image.load()
    if depth == 16:
        pixels = read_tiff16(content) if image.format == 'TIFF' else _read_png16(content)
        pixels = UPRIGHT[orientation](pixels)
    else:
        if image.mode in ('CMYK', 'YCbCr', 'LAB', 'HSV'):
            icc = None  # it describes colours that the result does not have
        turned = image.format == 'TIFF'  # Pillow turns TIFF upright by itself, and no other
        pixels = UPRIGHT[1 if turned else orientation](_eight_bit_pixels(image))
    return _photograph(pixels, depth, orientation, exif, icc, frames)


def _depth(image: Image.Image, content: bytes) -> int:
    if image.format == 'PNG':
        return 16 if content[24] == 16 else 8
    if image.format != 'TIFF':
        return 8
    bits = max(image.tag_v2.get(258, (1,)))  # type: ignore[attr-defined]
    sample_format = max(image.tag_v2.get(339, (1,)))  # type: ignore[attr-defined]
    if bits > 16 or sample_format != 1:
        raise ValueError(f'{bits} bits per channel; 8 and 16 are read')
    return 16 if bits == 16 else 8


def _read_png16(content: bytes) -> np.ndarray:
    channels = {0: 1, 4: 2, 2: 3, 6: 4}[content[25]]
    return read_png16(content, channels)


def _eight_bit_pixels(image: Image.Image) -> np.ndarray:
    has_alpha = image.has_transparency_data
    grey = image.mode in ('1', 'L', 'LA', 'La')
    mode = ('LA' if has_alpha else 'L') if grey else ('RGBA' if has_alpha else 'RGB')
    pixels = np.asarray(image.convert(mode))
    return pixels if pixels.ndim == 3 else pixels[:, :, None]


def _grey_alpha_tiff(content: bytes) -> Photograph | None:
    """A 16-bit TIFF of two channels, which Pillow does not know."""
    if content[:2] not in (b'II', b'MM'):
        return None
    try:
        pixels = read_tiff16(content)
    except Exception:  # tifffile raises all kinds for what is no TIFF
        return None
    return _photograph(pixels, 16, 1, None, None, 1) if pixels.shape[2] == 2 else None


def _photograph(
    pixels: np.ndarray,
    depth: int,
    orientation: int,
    exif: bytes | None,
    icc: bytes | None,
    frames: int,
) -> Photograph:
    channels = pixels.shape[2]
    colour = pixels[:, :, : 3 if channels > 2 else 1].astype(np.float32) / (2**depth - 1)
    return Photograph(
        colour=np.array(np.broadcast_to(colour, (*pixels.shape[:2], 3))),
        alpha=np.ascontiguousarray(pixels[:, :, -1]) if channels in (2, 4) else None,
        depth=depth,
        grey=channels < 3,
        orientation=orientation,
        exif=exif,
        icc=icc,
        frames=frames,
    )


def _exif(image: Image.Image) -> tuple[bytes | None, int]:
    """What is kept of the EXIF data, and the orientation; nothing of data that is malformed."""
    kept = Image.Exif()
    try:
        found = image.getexif()
        for tag in (ORIENTATION_TAG, *EXIF_TEXTS):
            if tag in found:
                kept[tag] = found[tag]
        for section in EXIF_SECTIONS:
            if values := dict(found.get_ifd(section)):
                kept[section] = values
        orientation = kept.get(ORIENTATION_TAG, 1)
        content = kept.tobytes() if len(kept) else None
    except Exception:  # cameras write what they like, and Pillow raises as many kinds of error
        return None, 1
    return content, orientation if orientation in UPRIGHT else 1


def _encode(photograph: Photograph, kind: str, quality: int) -> bytes:
    deep = photograph.depth == 16 and kind in DEEP_FORMATS
    pixels = _file_pixels(photograph, 16 if deep else 8)
    turn_back = INVERSE_ORIENTATION.get(photograph.orientation, photograph.orientation)
    pixels = np.ascontiguousarray(UPRIGHT[turn_back](pixels))
    exif, icc = photograph.exif, photograph.icc
    if deep and kind == 'PNG':
        return write_png16(pixels, icc, exif)
    if deep:
        return write_tiff16(pixels, icc, _plain_tags(exif))
    options: dict[str, dict[str, Any]] = {
        'PNG': {},
        'JPEG': {'quality': quality, 'subsampling': 0},
        'TIFF': {'compression': 'tiff_adobe_deflate'},
        'WEBP': {'quality': quality, 'lossless': quality == 100, 'exact': True},
    }
    file = io.BytesIO()
    image = Image.fromarray(pixels if pixels.shape[2] > 1 else pixels[:, :, 0])
    metadata = {k: v for k, v in {'icc_profile': icc, 'exif': exif}.items() if v}
    image.save(file, kind, **options[kind], **metadata)
    return file.getvalue()


def _plain_tags(exif: bytes | None) -> dict[int, Any]:
    tags = Image.Exif()
    tags.load(exif or b'')
    return {t: v for t, v in tags.items() if t in (ORIENTATION_TAG, *EXIF_TEXTS)}


def _file_pixels(photograph: Photograph, depth: int) -> np.ndarray:
    colour = photograph.colour
    if photograph.grey:
        colour = colour.mean(axis=2, keepdims=True)
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
