"""Opening an image to read crops of it, decoding no more than has to be."""

from dataclasses import dataclass

import numpy as np

from c2fdft_model.images.image_io import decode_rgb
from c2fdft_model.images.indexed_png import IndexedPng, open_indexed


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
