"""EXIF data as a TIFF structure whose entries are copied byte by byte.

Only the orientation is interpreted, so that whatever a camera has written is kept, and a damaged
entry is lost alone. Source: TIFF 6.0, section 2; Exif 2.32, section 4.6.
"""

from __future__ import annotations

import contextlib
import copy
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

from PIL import ExifTags, Image

from c2fdft_model.images.orientation import ORIENTATION_TAG, UPRIGHT

HEADER = b'Exif\0\0'
TEXTS = (270, 271, 272, 305, 306, 315, 33432)
"""Description, make, model, software, date, artist, copyright."""
SECTIONS = (0x8769, 0x8825)
"""The EXIF and the GPS directory."""
INTEROPERABILITY = 0xA005
"""Points to a directory that says nothing of the image and is dropped."""
KEPT = (ORIENTATION_TAG, *TEXTS, *SECTIONS)
"""Not the thumbnail, which would show the image as it was."""

SHORT, LONG, LONG8 = 3, 4, 16
SIZES = {1: 1, 2: 1, SHORT: 2, LONG: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
BIG_SIZES = {LONG8: 8, 17: 8, 18: 8}
"""Data type -> bytes of a value; the latter in BigTIFF files alone."""


@dataclass(frozen=True)
class Entry:
    """Values of a tag: their data type, how many, and their bytes as in the file."""

    kind: int
    count: int
    data: bytes


Directory: TypeAlias = 'dict[int, Entry | Directory]'
"""Tags with their values, or with a sub-directory."""


@dataclass(frozen=True)
class Layout:
    """How the numbers of a file are written: byte order `<` or `>`, TIFF or BigTIFF."""

    order: Literal['<', '>'] = '<'
    big: bool = False

    @property
    def count(self) -> struct.Struct:
        """The number of entries, with which a directory begins."""
        return struct.Struct(self.order + ('Q' if self.big else 'H'))

    @property
    def offset(self) -> struct.Struct:
        """Where the values lie in the file; values that fit stand here themselves."""
        return struct.Struct(self.order + ('Q' if self.big else 'I'))

    @property
    def entry(self) -> struct.Struct:
        """Tag, data type, number of values; an offset follows."""
        return struct.Struct(self.order + 'HH' + ('Q' if self.big else 'I'))

    @property
    def sizes(self) -> dict[int, int]:
        """Data type -> bytes of a value."""
        return SIZES | BIG_SIZES if self.big else SIZES


@dataclass(frozen=True)
class Exif:
    """What is kept of a file's EXIF data."""

    layout: Layout = Layout()
    tags: Directory = field(default_factory=dict)
    lost: tuple[str, ...] = ()
    """Names of the tags that are damaged."""

    @property
    def orientation(self) -> int | None:
        """As in the file, legal or not."""
        entry = self.tags.get(ORIENTATION_TAG)
        if not isinstance(entry, Entry):
            return None
        return _number(entry.data[: self.layout.sizes[entry.kind]], self.layout)

    def with_orientation(self, orientation: int) -> Exif:
        """The same with another orientation, 1 to 8."""
        data = struct.pack(self.layout.order + 'H', orientation)
        return replace(self, tags={**self.tags, ORIENTATION_TAG: Entry(SHORT, 1, data)})

    def with_legal_orientation(self, otherwise: object = None) -> Exif:
        """The same with its orientation or, if it has none, `otherwise`; what is illegal is 1."""
        given = self.orientation if self.orientation is not None else otherwise
        if given is None:
            return self
        return self.with_orientation(given if isinstance(given, int) and given in UPRIGHT else 1)

    def shortened(self, limit: int) -> Exif:
        """The same without its longest entries, so that `to_bytes` is not longer than `limit`."""
        exif, lost = replace(self, tags=copy.deepcopy(self.tags)), list(self.lost)
        directories = [exif.tags, *(d for d in exif.tags.values() if isinstance(d, dict))]
        while len(exif.to_bytes()) > limit:
            entries = [(d, t, e) for d in directories for t, e in d.items() if isinstance(e, Entry)]
            directory, tag, _ = max(entries, key=lambda entry: len(entry[2].data))
            del directory[tag]
            lost.append(tag_name(tag))
        return replace(exif, lost=tuple(lost))

    def to_bytes(self) -> bytes:
        """As in JPEG files: a header, and a TIFF structure without an image."""
        layout = Layout(self.layout.order)
        mark = b'II' if layout.order == '<' else b'MM'
        start = mark + struct.pack(layout.order + 'HI', 42, 8)
        return HEADER + start + _written(self.tags, layout, len(start))


def read_exif(content: bytes) -> Exif:
    """What is kept of EXIF data or of a TIFF file. Raises ValueError if it is neither."""
    content = content.removeprefix(HEADER)
    layout, at = _start(content)
    tags, lost = _read(content, layout, at, only=KEPT)
    return Exif(layout, tags, tuple(map(tag_name, lost)))


def exif_of(image: Image.Image, content: bytes) -> Exif:
    """What is kept of the EXIF data of a file that Pillow has opened; `content` are its bytes.

    The orientation, if there is one, is legal.
    """
    try:
        # also looks for it where Pillow alone does: in text of PNG files, and in XMP
        orientation = image.getexif().get(ORIENTATION_TAG)
    except Exception:  # cameras write what they like, and Pillow raises as many kinds of error
        orientation = None
    data = content if image.format == 'TIFF' else _exif_data(image)
    try:
        exif = read_exif(data) if data else Exif()
    except Exception:
        exif = Exif(lost=('EXIF data',))
    return exif.with_legal_orientation(orientation)


def _exif_data(image: Image.Image) -> bytes:
    if text := image.info.get('Raw profile type exif'):  # lines: name, length, then hexadecimal
        with contextlib.suppress(ValueError):
            return bytes.fromhex(''.join(text.split('\n')[3:]))
    return image.info.get('exif', b'')


def with_exif(tiff: bytes, exif: Exif) -> bytes:
    """A TIFF file of one image, in the byte order of `exif`, with these tags as well.

    The directory is written anew at the end of the file; the header points to it.
    """
    layout, at = _start(tiff)
    own, _ = _read(tiff, layout, at)
    pointer = 8 if layout.big else 4
    tiff += b'\0' * (len(tiff) % 2)
    moved = tiff[:pointer] + layout.offset.pack(len(tiff)) + tiff[pointer + layout.offset.size :]
    return moved + _written(own | exif.tags, layout, len(tiff))


def tag_name(tag: int) -> str:
    """What Exif calls a tag."""
    return {**ExifTags.GPSTAGS, **ExifTags.TAGS}.get(tag, f'tag {tag}')


def _start(content: bytes) -> tuple[Layout, int]:
    """How a TIFF structure is written, and where its first directory is."""
    orders: dict[bytes, Literal['<', '>']] = {b'II': '<', b'MM': '>'}
    order = orders.get(content[:2])
    if order is None or len(content) < 16:
        raise ValueError('there is no TIFF header')
    version = struct.unpack_from(order + 'H', content, 2)[0]
    if version not in (42, 43):
        raise ValueError(f'{version} is no version of TIFF')
    layout = Layout(order, version == 43)
    return layout, layout.offset.unpack_from(content, 8 if layout.big else 4)[0]


def _read(
    content: bytes, layout: Layout, at: int, only: tuple[int, ...] | None = None
) -> tuple[Directory, list[int]]:
    """The directory at a place of `content`, and the tags that are damaged.

    `only` are the tags that are wanted; without it, sub-directories are left as their offsets.
    """
    found: Directory = {}
    lost: list[int] = []
    for tag, kind, count, place in _slots(content, layout, at):
        if not count or (only is not None and tag not in only):
            continue
        size = layout.sizes.get(kind, 0) * count
        if size > layout.offset.size:
            place = layout.offset.unpack_from(content, place)[0]
        data = content[place : place + size]
        if not size or len(data) < size:
            lost.append(tag)
        elif only is not None and tag in SECTIONS:
            below, lost_below = _read(content, layout, _number(data, layout))
            found[tag] = {t: e for t, e in below.items() if t != INTEROPERABILITY}
            lost += lost_below if below else [tag]
        else:
            found[tag] = Entry(kind, count, data)
    return {tag: value for tag, value in found.items() if value}, lost


def _slots(content: bytes, layout: Layout, at: int) -> Iterator[tuple[int, int, int, int]]:
    """Of each entry of a directory: tag, data type, number of values, position of the offset."""
    if at + layout.count.size > len(content):
        return
    count = layout.count.unpack_from(content, at)[0]
    step = layout.entry.size + layout.offset.size
    first = at + layout.count.size
    for place in range(first, min(first + count * step, len(content) - step + 1), step):
        yield (*layout.entry.unpack_from(content, place), place + layout.entry.size)


def _number(data: bytes, layout: Layout) -> int:
    return int.from_bytes(data, 'little' if layout.order == '<' else 'big')


def _written(directory: Directory, layout: Layout, at: int) -> bytes:
    """A directory and its sub-directories as bytes for the even position `at` of a file."""
    kept = {
        tag: value
        for tag, value in sorted(directory.items())
        if (value.kind in layout.sizes if isinstance(value, Entry) else value)
    }
    step = layout.entry.size + layout.offset.size
    values_at = at + layout.count.size + len(kept) * step + layout.offset.size
    entries, values = [layout.count.pack(len(kept))], b''
    for tag, value in kept.items():
        place = layout.offset.pack(values_at + len(values))
        if isinstance(value, dict):
            entries.append(layout.entry.pack(tag, LONG8 if layout.big else LONG, 1) + place)
            values += _written(value, layout, values_at + len(values))
        elif len(value.data) > layout.offset.size:
            entries.append(layout.entry.pack(tag, value.kind, value.count) + place)
            values += value.data + b'\0' * (len(value.data) % 2)
        else:
            inline = value.data.ljust(layout.offset.size, b'\0')
            entries.append(layout.entry.pack(tag, value.kind, value.count) + inline)
    return b''.join(entries) + layout.offset.pack(0) + values
