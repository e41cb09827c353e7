"""Image files in and out, with everything kept that a restoration does not change, or named."""

from __future__ import annotations

import io
import os
import re
import struct
from collections.abc import Container, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, PngImagePlugin
from PIL.MpoImagePlugin import MpoImageFile

from c2fdft_arch.common import atomic_write
from c2fdft_arch.common.errors import C2FDFTError
from c2fdft_arch.common.messages import one_line
from c2fdft_model.images import image_io, indexed_png, tiff
from c2fdft_model.images.image_io import FORMATS, three_channels, to_float

LARGEST_SIDE = {'JPEG': 65500, 'WEBP': 16383}
LONGEST_IN_JPEG = 65000
"""Bytes of EXIF data, XMP, IPTC data or comment."""
NAMES = {
    'exif': 'EXIF data',
    'icc': 'colour profile',
    'xmp': 'XMP',
    'dpi': 'resolution',
    'iptc': 'IPTC data',
    'comment': 'comment',
    'text': 'text',
}
"""What belongs to an image beside its pixels: fields of a record, and what messages call them."""
HELD = {'WEBP': ('exif', 'icc', 'xmp'), 'TIFF': tuple(NAMES)[:5], 'JPEG': tuple(NAMES)[:6]}
"""The fields that a format can hold; PNG holds all."""
_IPTC = b'8BIM\x04\x04'
_XMP_TEXT, _IPTC_TEXT = 'XML:com.adobe.xmp', 'Raw profile type iptc'


class ImageFileError(C2FDFTError, ValueError):
    """A file cannot be written; the message says which, why and what to do."""


@dataclass(frozen=True)
class ImageRecord:
    """An upright image and what belongs to its file."""

    colour: np.ndarray
    """(H, W, 3) float32 RGB in [0, 1]; of a grey image three equal channels."""
    alpha: np.ndarray | None = None
    """(H, W) of `depth` bits, as in the file; the colours are not multiplied by it."""
    depth: int = 8
    """Bits per channel, 8 or 16."""
    grey: bool = False
    exif: bytes = b''
    """EXIF data, with the orientation in which the pixels were and will be stored."""
    icc: bytes = b''
    xmp: bytes = b''
    iptc: bytes = b''
    dpi: tuple[float, float] | None = None
    comment: bytes = b''
    text: Mapping[str, str] = field(default_factory=dict)
    lost: tuple[str, ...] = ()
    """What the file holds beside the image and could not be read."""


def is_image_name(path: Path) -> bool:
    """Whether a file's name ends like those that are written."""
    return path.suffix.lower() in FORMATS


def read_image(path: str | os.PathLike[str]) -> ImageRecord:
    """Read an image file with all that belongs to it. Raises ImageReadError."""
    data = image_io.read_bytes(path)
    with image_io.naming(str(path)):
        header = image_io.read_header(io.BytesIO(data), data)
        image_io.check_size(header, len(data))
        pixels, image = image_io.decode(data, header)
        found = _of_others(image, header) if header.kind != 'TIFF' and image else _of_tiff(data)
    channels = pixels.shape[2]
    return ImageRecord(
        colour=to_float(three_channels(pixels)),
        alpha=np.ascontiguousarray(pixels[:, :, -1]) if channels in (2, 4) else None,
        depth=8 * pixels.dtype.itemsize,
        grey=channels < 3,
        **found,
    )


def write_image(
    path: str | os.PathLike[str], record: ImageRecord, quality: int = 95
) -> tuple[str, ...]:
    """Write a PNG, JPEG, TIFF or WebP file, as its name ends; folders are made as needed.

    JPEG and WebP have 8 bits; their `quality` is 1 to 100, and 100 is lossless for WebP. Returns
    the names of what belongs to the record and could not be kept. Raises ImageFileError.
    """
    path = Path(path)
    check_writable(path, record)
    kind = _kind(path)
    try:
        held, lost = _held_by(kind, record)
        try:
            content = _encode(held, kind, quality)
        except (ValueError, TypeError, LookupError, struct.error):  # something beside the image
            held, more = _without(held, NAMES)
            content, lost = _encode(held, kind, quality), lost + more
        atomic_write.write_bytes(path, content)
    except MemoryError:
        raise
    except Exception as error:
        reason = getattr(error, 'strerror', None) or one_line(error)
        raise ImageFileError(f'{path} cannot be written: {reason}.') from error
    return tuple(dict.fromkeys(lost))


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
    return to_float(three_channels(_file_pixels(record, _kind(path))))


def is_lossy(path: Path, quality: int) -> bool:
    """Whether a file of this name and quality holds other pixels than were written to it."""
    kind = _kind(path)
    return kind == 'JPEG' or (kind == 'WEBP' and quality < 100)


def _kind(path: Path) -> str:
    return FORMATS[path.suffix.lower()]


def _of_tiff(data: bytes) -> dict[str, Any]:
    """The fields of a record that TIFF tags give."""
    with tiff.opened(io.BytesIO(data)) as file:
        page, tags = file.pages[0], file.pages[0].tags
        numbers = {'icc': 34675, 'xmp': 700, 'iptc': 33723}
        found: dict[str, Any] = {
            name: bytes(tags.valueof(number) or b'') for name, number in numbers.items()
        }
        found['iptc'] = found['iptc'] or _iptc_in(bytes(tags.valueof(34377) or b''))
        has_unit = tags.valueof(296) != 1
        density = page.get_resolution('inch' if has_unit else None) if 282 in tags else None
        kind = getattr(page.photometric, 'name', '')
        is_other = kind in ('SEPARATED', 'CIELAB', 'ICCLAB', 'ITULAB')
        images = len(file.pages)
    try:
        exif = tiff.extract_exif(data)
    except Exception:  # of many kinds
        exif = None
    found |= {'dpi': density if has_unit else None, 'aspect': None if has_unit else density}
    return _with_lost(found, exif, images, is_other)


def _of_others(image: Image.Image, header: image_io.Header) -> dict[str, Any]:
    """The fields of a record that Pillow's image and the header give."""
    info, text = image.info, dict(getattr(image, 'text', {}))
    text.pop(_XMP_TEXT, None)
    digits = ''.join(text.pop(_IPTC_TEXT, '').split('\n')[3:])
    profile = bytes.fromhex(digits) if re.fullmatch('([0-9a-fA-F]{2})*', digits) else b''
    found = {
        'icc': info.get('icc_profile') or b'',
        'xmp': info.get('xmp', b''),
        'iptc': (info.get('photoshop') or {}).get(0x0404) or _iptc_in(profile),
        'dpi': info.get('dpi'),
        'aspect': info.get('aspect') or (info.get('jfif_unit') == 0 and info.get('jfif_density')),
        'comment': info.get('comment') or text.pop('Comment', '').encode(),
        'text': text,
    }
    images = getattr(image, 'n_frames', 1)
    if isinstance(image, MpoImageFile):  # cameras put previews into their JPEG files
        entries = (image.mpinfo or {}).get(0xB002, ())
        images -= sum('Thumbnail' in entry['Attribute']['MPType'] for entry in entries)
    return _with_lost(found, header.exif, images, image.mode in ('CMYK', 'YCbCr', 'LAB', 'HSV'))


def _with_lost(
    found: dict[str, Any], exif: bytes | None, images: int, is_other_colour: bool
) -> dict[str, Any]:
    """The fields with EXIF data, if they are sound, and the names of what is not kept."""
    lost = [f'{images - 1} further images of the file'] if images > 1 else []
    across, down = found.pop('aspect') or (1, 1)
    if across != down:
        lost.append('shape of the pixels')
    if exif is None:
        lost.append(NAMES['exif'])
    if is_other_colour:  # the profile of CMYK and the like describes them alone
        lost += ['CMYK or Lab (now RGB)'] + [NAMES['icc']] * bool(found.pop('icc'))
    return found | {'exif': exif or b'', 'lost': tuple(lost)}


def _iptc_in(resources: bytes) -> bytes:
    """The IPTC data among Photoshop's resources."""
    at = resources.find(_IPTC) + len(_IPTC) + 2  # behind an empty name
    length = int.from_bytes(resources[at : at + 4], 'big')
    return resources[at + 4 : at + 4 + length] if _IPTC in resources else b''


def _held_by(kind: str, record: ImageRecord) -> tuple[ImageRecord, list[str]]:
    """What a format can hold of a record, and the names of the rest."""
    foreign = [name for name in NAMES if name not in HELD.get(kind, NAMES)]
    if kind == 'WEBP' and record.icc[16:20] == b'GRAY':  # whose pixels are in colour
        foreign.append('icc')
    if kind == 'JPEG':  # it holds only the profile in several parts
        in_one = ('exif', 'xmp', 'iptc', 'comment')
        foreign += [name for name in in_one if len(getattr(record, name)) > LONGEST_IN_JPEG]
    held, lost = _without(record, foreign)
    shallow = ['16 bits per channel'] if record.depth > 8 and kind in LARGEST_SIDE else []
    return held, [*record.lost, *lost, *shallow]


def _without(record: ImageRecord, fields: Container[str]) -> tuple[ImageRecord, list[str]]:
    given = [name for name in NAMES if name in fields and getattr(record, name)]
    nothing: dict[str, Any] = dict.fromkeys(given, b'')
    return replace(record, **nothing), [NAMES[name] for name in given]


def _encode(record: ImageRecord, kind: str, quality: int) -> bytes:
    orientation, _ = image_io.read_exif(record.exif)
    pixels = np.ascontiguousarray(tiff.as_stored(_file_pixels(record, kind), orientation))
    resources = _IPTC + struct.pack('>HI', 0, len(record.iptc)) + record.iptc
    resources += b'\0' * (len(resources) % 2)
    if kind == 'TIFF':
        tags = [(700, 1, record.xmp), (33723, 7, record.iptc)]
        return tiff.write_tiff(
            pixels,
            record.exif,
            [(tag, kind, len(value), value, True) for tag, kind, value in tags if value],
            iccprofile=record.icc or None,
            resolution=record.dpi or None,
            resolutionunit='inch' if record.dpi else None,
        )
    options = {  # each format ignores those that it does not have
        'icc_profile': record.icc,
        'dpi': record.dpi,
        'exif': record.exif and tiff.HEADER + record.exif,
        'xmp': record.xmp,
        'comment': record.comment,
        'extra': _segment(resources) if kind == 'JPEG' and record.iptc else None,
        'pnginfo': _png_texts(record, resources) if kind == 'PNG' else None,
        'quality': quality,
        'subsampling': 0,
        'lossless': quality == 100,
        'exact': True,
    }
    if pixels.dtype == np.uint16:
        # Pillow writes 8 bits, but whatever belongs to them
        png, dot = indexed_png.encode(pixels, 6), np.zeros((1, 1, 1), np.uint8)
        other = _saved(dot, kind, options)
        return png[:33] + other[33 : other.rindex(b'IDAT') - 4] + png[33:]
    return _saved(pixels, kind, options)


def _saved(pixels: np.ndarray, kind: str, options: Mapping[str, Any]) -> bytes:
    file = io.BytesIO()
    given = {name: value for name, value in options.items() if value not in (None, b'')}
    Image.fromarray(pixels if pixels.shape[2] > 1 else pixels[:, :, 0]).save(file, kind, **given)
    return file.getvalue()


def _segment(resources: bytes) -> bytes:
    content = b'Photoshop 3.0\0' + resources
    return b'\xff\xed' + struct.pack('>H', 2 + len(content)) + content


def _png_texts(record: ImageRecord, resources: bytes) -> PngImagePlugin.PngInfo:
    info = PngImagePlugin.PngInfo()
    if record.xmp:
        info.add_itxt(_XMP_TEXT, record.xmp.decode())
    if record.iptc:
        info.add_text(_IPTC_TEXT, f'\niptc\n{len(resources):8d}\n{resources.hex()}\n', zip=True)
    if record.comment:
        info.add_text('Comment', record.comment.decode('utf-8', 'replace'))
    for key, value in record.text.items():
        info.add_text(key, value)
    return info


def _file_pixels(record: ImageRecord, kind: str) -> np.ndarray:
    """Colour and alpha as a file of this format holds them, upright: (H, W, 1 to 4)."""
    depth = record.depth if kind in ('PNG', 'TIFF') else 8
    colour = record.colour.mean(axis=2, keepdims=True) if record.grey else record.colour
    pixels = _integers(colour, depth)
    if record.alpha is None:
        return pixels
    alpha = _integers(to_float(record.alpha), depth)
    return np.concatenate([pixels, alpha[:, :, None]], axis=2)


def _integers(values: np.ndarray, depth: int) -> np.ndarray:
    scaled = np.clip(values, 0, 1) * (2**depth - 1)
    return np.rint(scaled).astype(np.uint8 if depth == 8 else np.uint16)
