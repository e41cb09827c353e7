"""PNG files from which a crop can be read without decoding the whole image.

An ordinary PNG must be decoded from its first row on, and row by row, which takes most of the time
of a training batch. Here the image is compressed in strips of rows that do not depend on each
other, and a private chunk lists where each begins. Any PNG reader reads such a file; one that knows
the chunk decodes just the strips a crop touches. The files are no larger than OpenCV's.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

import numpy as np

from c2fdft_model.images.image_io import ImageReadError

ROWS = 16
INDEX_CHUNK = b'stRP'  # by its case: ancillary, private, not to be copied by editors
_SIGNATURE = b'\x89PNG\r\n\x1a\n'
_HEADER = struct.Struct('>I4sIIBBBBBI')
_CHUNK = struct.Struct('>I4s')
_TRUECOLOUR = 2
_SUB, _UP = 1, 2


def encode(image: np.ndarray, level: int = 1, rows: int = ROWS) -> bytes:
    """A PNG file of an RGB image (H, W, 3), uint8 or uint16; `level` 0 (fast) to 9 (small)."""
    height, width = image.shape[:2]
    depth = 8 * image.dtype.itemsize
    pixels = image.astype(image.dtype.newbyteorder('>')).view(np.uint8).reshape(height, width, -1)
    # Equal runs and Huffman codes do as well as a search for repetitions on filtered photographs.
    deflate = zlib.compressobj(level, zlib.DEFLATED, 15, 9, zlib.Z_RLE)
    strips = []
    for top in range(0, height, rows):
        last = top + rows >= height
        packed = deflate.compress(_filtered(pixels[top : top + rows]))
        strips.append(packed + deflate.flush(zlib.Z_FINISH if last else zlib.Z_FULL_FLUSH))
    ends = np.cumsum([len(strip) for strip in strips])
    return b''.join(
        [
            _SIGNATURE,
            _chunk(b'IHDR', struct.pack('>IIBBBBB', width, height, depth, _TRUECOLOUR, 0, 0, 0)),
            _chunk(INDEX_CHUNK, struct.pack(f'>{len(ends) + 1}I', rows, *ends)),
            _chunk(b'IDAT', b''.join(strips)),
            _chunk(b'IEND', b''),
        ]
    )


def _filtered(strip: np.ndarray) -> bytes:
    """Rows (R, W, bytes) as differences to the row above; the first, to the pixel on the left."""
    lines = np.empty((strip.shape[0], 1 + strip[0].size), np.uint8)
    lines[0, 0], lines[1:, 0] = _SUB, _UP
    differences = lines[:, 1:].reshape(strip.shape)
    differences[0, 0] = strip[0, 0]
    np.subtract(strip[0, 1:], strip[0, :-1], out=differences[0, 1:])
    np.subtract(strip[1:], strip[:-1], out=differences[1:])
    return lines.tobytes()


def _chunk(kind: bytes, content: bytes) -> bytes:
    return _CHUNK.pack(len(content), kind) + content + struct.pack('>I', zlib.crc32(kind + content))


@dataclass(frozen=True)
class IndexedPng:
    """An image in strips that has been opened; nothing is decoded yet."""

    name: str
    height: int
    width: int
    depth: int
    rows: int
    bounds: tuple[int, ...]
    """Where each strip begins and the last one ends, in bytes of `data`."""
    data: bytes

    def crop(self, top: int, left: int, height: int, width: int) -> np.ndarray:
        """A part of the image (height, width, 3), RGB, uint8 or uint16.

        Raises ImageReadError if the strips it touches are damaged.
        """
        first, last = top // self.rows, (top + height - 1) // self.rows
        lines = self._inflate(first, last)
        pixel = 3 * self.depth // 8
        begin, end = 1 + left * pixel, 1 + (left + width) * pixel
        # Row by row of all strips at once: (rows, strips, bytes).
        rows = lines[:, :, begin:end].transpose(1, 0, 2).copy()
        # The first row of a strip refers to the left, all others to the row above.
        first_rows = lines[:, 0, 1:end].reshape(len(lines), -1, pixel)
        first_rows = np.cumsum(first_rows, axis=1, dtype=np.uint8)[:, left:]
        rows[0] = first_rows.reshape(len(lines), -1)
        for above, row in zip(rows[:-1], rows[1:], strict=True):
            np.add(row, above, out=row)
        pixels = rows.transpose(1, 0, 2).reshape(-1, width, pixel)
        pixels = pixels[top - first * self.rows :][:height]
        return pixels if self.depth == 8 else pixels.view('>u2').astype(np.uint16)

    def _inflate(self, first: int, last: int) -> np.ndarray:
        """Filtered lines of these strips, (strips, rows, bytes); those below the image are 0."""
        packed = self.data[self.bounds[first] : self.bounds[last + 1]]
        line = 1 + self.width * 3 * self.depth // 8
        strips = last + 1 - first
        count = min(strips * self.rows, self.height - first * self.rows)
        try:
            inflated = zlib.decompressobj(-15).decompress(packed)
            if len(inflated) != count * line:
                raise ValueError(f'{len(inflated)} bytes, not {count * line}')
        except (zlib.error, ValueError) as error:
            raise ImageReadError(f'{self.name}: truncated or damaged image ({error}).') from error
        if count < strips * self.rows:
            inflated += bytes((strips * self.rows - count) * line)
        return np.frombuffer(inflated, np.uint8).reshape(strips, self.rows, line)


def open_indexed(data: bytes, name: str) -> IndexedPng | None:
    """Open the bytes of an image in strips; None if they are not one.

    Raises ImageReadError if the bytes are truncated.
    """
    after_header = len(_SIGNATURE) + _HEADER.size
    if data[after_header + 4 : after_header + 8] != INDEX_CHUNK:
        return None
    header = _HEADER.unpack_from(data, len(_SIGNATURE))
    width, height, depth = header[2:5]
    length = int.from_bytes(data[after_header : after_header + 4], 'big')
    index = np.frombuffer(data, '>u4', length // 4, after_header + 8)
    start = after_header + 8 + length + 4 + 8
    bounds = (start + 2, *(start + int(end) for end in index[1:]))  # 2 bytes of zlib header
    if len(data) < bounds[-1]:
        raise ImageReadError(f'{name}: the file is truncated.')
    return IndexedPng(name, height, width, depth, int(index[0]), bounds, data)
