"""PNG files from which a crop can be read without decoding the whole image.

An ordinary PNG must be decoded from its first row on, and row by row, which takes most of the time
of a training batch. Here the image is compressed in blocks of rows that do not depend on each
other, and a private chunk lists where each begins. Any PNG reader reads such a file; one that knows
the chunk decodes just the blocks a crop touches. The files are no larger than OpenCV's.
"""

import struct
import zlib
from dataclasses import dataclass

import numpy as np

from c2fdft_model.images import png
from c2fdft_model.images.image_io import ImageReadError, decode_rgb

ROWS = 16
INDEX_CHUNK = b'stRP'  # by its case: ancillary, private, not to be copied by editors
_HEADER = struct.Struct('>I4sIIBBBBBI')


def encode(image: np.ndarray, level: int = 1, rows: int = ROWS) -> bytes:
    """A PNG file of an RGB image (H, W, 3), uint8 or uint16; `level` 0 (fast) to 9 (small)."""
    blocks = png.compress_rows(image, level, rows)
    ends = np.cumsum([len(block) for block in blocks])
    index = struct.pack(f'>{len(ends) + 1}I', rows, *ends)
    return png.png_file(image, [(INDEX_CHUNK, index), (b'IDAT', b''.join(blocks))])


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
        line = 1 + self.width * 3 * self.depth // 8
        blocks = last + 1 - first
        count = min(blocks * self.rows, self.height - first * self.rows)
        try:
            inflated = zlib.decompressobj(-15).decompress(packed)
            if len(inflated) != count * line:
                raise ValueError(f'{len(inflated)} bytes, not {count * line}')
        except (zlib.error, ValueError) as error:
            raise ImageReadError(f'{self.name}: truncated or damaged image ({error}).') from error
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

    Raises ImageReadError if the bytes are truncated.
    """
    after_header = len(png.SIGNATURE) + _HEADER.size
    if data[after_header + 4 : after_header + 8] != INDEX_CHUNK:
        return None
    width, height, depth = _HEADER.unpack_from(data, len(png.SIGNATURE))[2:5]
    length = int.from_bytes(data[after_header : after_header + 4], 'big')
    index = np.frombuffer(data, '>u4', length // 4, after_header + 8)
    start = after_header + 8 + length + 4 + 8
    bounds = (start + 2, *(start + int(end) for end in index[1:]))  # 2 bytes of zlib header
    if len(data) < bounds[-1]:
        raise ImageReadError(f'{name}: the file is truncated.')
    return IndexedPng(name, height, width, depth, int(index[0]), bounds, data)
