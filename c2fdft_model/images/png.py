"""Writing PNG files of 8 and 16 bits, their rows in blocks that can be decoded alone.

Source: PNG (third edition), sections 9 (filters) and 11 (chunks).
"""

import struct
import zlib
from collections.abc import Sequence

import numpy as np

SIGNATURE = b'\x89PNG\r\n\x1a\n'
COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}
"""Channels (grey; grey, alpha; RGB; RGBA) -> PNG's colour type."""
SUB, UP = 1, 2
"""Filters: the difference to the pixel on the left, and to the one above."""


def png_file(pixels: np.ndarray, chunks: Sequence[tuple[bytes, bytes]]) -> bytes:
    """A PNG file of these chunks, names and contents, behind the header for `pixels` (H, W, C)."""
    height, width, channels = pixels.shape
    depth, colour_type = 8 * pixels.dtype.itemsize, COLOUR_TYPES[channels]
    header = struct.pack('>IIBBBBB', width, height, depth, colour_type, 0, 0, 0)
    all_chunks = [(b'IHDR', header), *chunks, (b'IEND', b'')]
    return SIGNATURE + b''.join(_chunk(name + content) for name, content in all_chunks)


def _chunk(named: bytes) -> bytes:
    return struct.pack('>I', len(named) - 4) + named + struct.pack('>I', zlib.crc32(named))


def compress_rows(pixels: np.ndarray, level: int, rows: int) -> list[bytes]:
    """The content of `IDAT` for pixels (H, W, C), uint8 or uint16, in blocks of so many rows.

    No block refers to another. `level` is 0 (fast) to 9 (small).
    """
    height, width = pixels.shape[:2]
    data = pixels.astype(pixels.dtype.newbyteorder('>')).view(np.uint8).reshape(height, width, -1)
    # Equal runs and Huffman codes do as well as a search for repetitions on filtered photographs.
    deflate = zlib.compressobj(level, zlib.DEFLATED, 15, 9, zlib.Z_RLE)
    blocks = []
    for top in range(0, height, rows):
        last = top + rows >= height
        packed = deflate.compress(_filtered(data[top : top + rows]))
        blocks.append(packed + deflate.flush(zlib.Z_FINISH if last else zlib.Z_FULL_FLUSH))
    return blocks


def _filtered(block: np.ndarray) -> bytes:
    """Rows (R, W, bytes) as differences to the row above; the first, to the pixel on the left."""
    lines = np.empty((block.shape[0], 1 + block[0].size), np.uint8)
    lines[0, 0], lines[1:, 0] = SUB, UP
    differences = lines[:, 1:].reshape(block.shape)
    differences[0, 0] = block[0, 0]
    np.subtract(block[0, 1:], block[0, :-1], out=differences[0, 1:])
    np.subtract(block[1:], block[:-1], out=differences[1:])
    return lines.tobytes()
