"""Whether a PNG file holds all the rows that it declares, which its decoders do not say.

Source: PNG (third edition), sections 8 (interlacing) and 11 (chunks).
"""

import struct
import zlib
from collections.abc import Iterator

_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""Colour type -> samples of a pixel."""
_ADAM7 = (
    (0, 8, 0, 8), (4, 8, 0, 8), (0, 4, 4, 8), (2, 4, 0, 4), (0, 2, 2, 4), (1, 2, 0, 2),
    (0, 1, 1, 2),
)  # fmt: skip
"""First column, step of columns, first row, step of rows of each pass of an interlaced image."""
_PIECE = 2**20


def check_rows(data: bytes) -> None:
    """Raise ValueError if a PNG file's pixels end before its last row."""
    width, height, depth, colours, _, _, interlaced = struct.unpack_from('>IIBBBBB', data, 16)
    expected = _filtered_bytes(width, height, depth * _SAMPLES.get(colours, 1), bool(interlaced))
    found = sum(map(len, _inflated(data, expected)))
    if found < expected:
        raise ValueError(f'its pixels end after {found} of {expected} bytes')


def _filtered_bytes(width: int, height: int, bits: int, interlaced: bool) -> int:
    """Bytes of all filtered rows, for pixels of so many bits."""
    total = 0
    for left, across, top, down in _ADAM7 if interlaced else ((0, 1, 0, 1),):
        columns, rows = -(-(width - left) // across), -(-(height - top) // down)
        if columns > 0 and rows > 0:
            total += rows * (1 + -(-columns * bits // 8))
    return total


def _inflated(data: bytes, most: int) -> Iterator[bytes]:
    """The pixels' bytes in pieces, up to `most` of them."""
    inflate, place = zlib.decompressobj(), 8
    while place + 8 <= len(data) and most > 0 and not inflate.eof:
        length, kind = struct.unpack_from('>I4s', data, place)
        packed = data[place + 8 : place + 8 + length] if kind == b'IDAT' else b''
        while packed and most > 0 and not inflate.eof:
            piece = inflate.decompress(packed, min(_PIECE, most))
            most -= len(piece)
            packed = inflate.unconsumed_tail
            yield piece
        place += 12 + length
