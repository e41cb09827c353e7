"""PNG files from which a crop can be read without decoding the whole image.

An ordinary PNG must be decoded from its first row on, and row by row, which takes most of the time
of a training batch. Here the image is compressed in blocks of rows that do not depend on each
other, and a private chunk lists where each begins. Any PNG reader reads such a file; one that knows
the chunk decodes just the blocks a crop touches. The files are no larger than OpenCV's. Checksums
are left to other readers: to verify the whole file for a crop would take 8 to 15 % more time.
Source: PNG (third edition), sections 9 (filters) and 11 (chunks).
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from c2fdft_model.images.image_io import decode_rgb, naming

ROWS = 16
SIGNATURE = b'\x89PNG\r\n\x1a\n'
INDEX_CHUNK = b'stRP'  # by its case: ancillary, private, not to be copied by editors
COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}
"""Channels (grey; grey, alpha; RGB; RGBA) -> PNG's colour type."""
SUB, UP = 1, 2
"""Filters: the difference to the pixel on the left, and to the one above."""
_START = struct.Struct('>8sI4sIIBBBBBII4sI')
"""Signature, header, checksum; length and name of the index, rows of a block."""


def encode(image: np.ndarray, level: int = 1, rows: int = ROWS) -> bytes:
    """A PNG file of (H, W, 1 to 4), uint8 or uint16: grey or RGB, then alpha.

    `level` is 0 (fast) to 9 (small).
    """
    height, width, channels = image.shape
    blocks = list(_compressed(image, level, rows))
    index = struct.pack(f'>{len(blocks) + 1}I', rows, *np.cumsum([len(b) for b in blocks]))
    depth = 8 * image.dtype.itemsize
    header = struct.pack('>IIBBBBB', width, height, depth, COLOUR_TYPES[channels], 0, 0, 0)
    chunks = (b'IHDR', header), (INDEX_CHUNK, index), (b'IDAT', b''.join(blocks)), (b'IEND', b'')
    return SIGNATURE + b''.join(
        struct.pack('>I', len(content))
        + name
        + content
        + struct.pack('>I', zlib.crc32(content, zlib.crc32(name)))
        for name, content in chunks
    )


def _compressed(image: np.ndarray, level: int, rows: int) -> Iterator[bytes]:
    height, width = image.shape[:2]
    data = image.astype(image.dtype.newbyteorder('>')).view(np.uint8).reshape(height, width, -1)
    # Equal runs and Huffman codes do as well as a search for repetitions on filtered photographs.
    deflate = zlib.compressobj(level, zlib.DEFLATED, 15, 9, zlib.Z_RLE)
    for top in range(0, height, rows):
        is_last = top + rows >= height
        packed = deflate.compress(_filtered(data[top : top + rows]))
        yield packed + deflate.flush(zlib.Z_FINISH if is_last else zlib.Z_FULL_FLUSH)


def _filtered(block: np.ndarray) -> bytes:
    """Rows (R, W, bytes) as differences to the row above; the first, to the pixel on the left."""
    lines = np.empty((block.shape[0], 1 + block[0].size), np.uint8)
    lines[0, 0], lines[1:, 0] = SUB, UP
    differences = lines[:, 1:].reshape(block.shape)
    differences[0, 0] = block[0, 0]
    np.subtract(block[0, 1:], block[0, :-1], out=differences[0, 1:])
    np.subtract(block[1:], block[:-1], out=differences[1:])
    return lines.tobytes()


@dataclass(frozen=True)
class IndexedPng:
    """An indexed image that has been opened; nothing is decoded yet."""

    name: str
    height: int
    width: int
    depth: int
    rows: int
    bounds: tuple[int, ...]
    """Where each block begins and the last one ends, in bytes of `data`."""
    data: bytes

    def crop(self, top: int, left: int, height: int, width: int) -> np.ndarray:
        """A part of the image (height, width, 3), RGB, uint8 or uint16.

        Raises ImageReadError if the blocks it touches are damaged.
        """
        first, last = top // self.rows, (top + height - 1) // self.rows
        with naming(self.name):
            lines = self._inflate(first, last)
        pixel = 3 * self.depth // 8
        begin, end = 1 + left * pixel, 1 + (left + width) * pixel
        # Row by row of all blocks at once: (rows, blocks, bytes).
        rows = lines[:, :, begin:end].transpose(1, 0, 2).copy()
        # The first row of a block refers to the left, all others to the row above.
        first_rows = lines[:, 0, 1:end].reshape(len(lines), -1, pixel)
        first_rows = np.cumsum(first_rows, axis=1, dtype=np.uint8)[:, left:]
        rows[0] = first_rows.reshape(len(lines), -1)
        for above, row in zip(rows[:-1], rows[1:], strict=True):
            np.add(row, above, out=row)
        pixels = rows.transpose(1, 0, 2).reshape(-1, width, pixel)
        pixels = pixels[top - first * self.rows :][:height]
        return pixels if self.depth == 8 else pixels.view('>u2').astype(np.uint16)

    def _inflate(self, first: int, last: int) -> np.ndarray:
        """Filtered lines of these blocks, (blocks, rows, bytes); those below the image are 0."""
        packed = self.data[self.bounds[first] : self.bounds[last + 1]]
        line, blocks = 1 + self.width * 3 * self.depth // 8, last + 1 - first
        size = line * min(blocks * self.rows, self.height - first * self.rows)
        inflated = zlib.decompressobj(-15).decompress(packed, size + 1)
        if len(inflated) != size:
            raise ValueError(f'{len(inflated)} bytes, not {size}')
        inflated = inflated.ljust(blocks * self.rows * line, b'\0')
        return np.frombuffer(inflated, np.uint8).reshape(blocks, self.rows, line)


@dataclass(frozen=True)
class WholeImage:
    """An image whose format must be decoded from start to end, or need not be at all (PPM)."""

    pixels: np.ndarray

    @property
    def height(self) -> int:
        return self.pixels.shape[0]

    @property
    def width(self) -> int:
        return self.pixels.shape[1]

    def crop(self, top: int, left: int, height: int, width: int) -> np.ndarray:
        """A part of the image (height, width, 3), RGB, uint8 or uint16."""
        return self.pixels[top : top + height, left : left + width]


def open_image(data: bytes, name: str) -> IndexedPng | WholeImage:
    """Open the bytes of an image file; `height`, `width` and `crop` are what there is to it.

    Raises ImageReadError if the bytes are truncated or no image.
    """
    return open_indexed(data, name) or WholeImage(decode_rgb(data, name))


def open_indexed(data: bytes, name: str) -> IndexedPng | None:
    """Open the bytes of an indexed PNG; None if they are no such file.

    Raises ImageReadError if the bytes are truncated or the index is damaged.
    """
    if len(data) < _START.size or data[37:41] != INDEX_CHUNK:
        return None
    _, _, _, width, height, depth, colours, *_, length, _, rows = _START.unpack_from(data)
    with naming(name):
        if colours != COLOUR_TYPES[3] or depth not in (8, 16) or not rows:
            return None
        ends = struct.unpack_from(f'>{-(-height // rows)}I', data, _START.size)
        start = 41 + length + 4 + 8  # behind the index, its checksum, and the next chunk's head
        bounds = (start + 2, *(start + end for end in ends))  # 2 bytes of zlib header
        if len(data) < bounds[-1]:
            raise ValueError('the file ends before its pixels')
    return IndexedPng(name, height, width, depth, rows, bounds, data)
