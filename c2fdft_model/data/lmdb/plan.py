"""What goes into a pair of LMDBs: which images, cut into which sub-images, under which keys."""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from urllib.parse import quote

import numpy as np

from c2fdft_model.data.pair_sources import PairSource
from c2fdft_model.images import indexed_png
from c2fdft_model.images.image_io import ImageReadError

MAX_KEY = 480  # LMDB allows 511 bytes; the numbers of sub-images need a few more


def encode_ppm(image: np.ndarray) -> bytes:
    """An uncompressed PPM file of an RGB image (H, W, 3), uint8 or uint16."""
    height, width = image.shape[:2]
    header = f'P6\n{width} {height}\n{np.iinfo(image.dtype).max}\n'.encode()
    return header + image.astype(image.dtype.newbyteorder('>')).tobytes()


@dataclass(frozen=True)
class StoreOptions:
    """How images are stored.

    With `size`, each image is cut into overlapping squares of this side, `stride` apart.
    `encoding` is `png` (see `indexed_png`) or `raw`: uncompressed, about twice as large.
    """

    size: int | None = None
    stride: int | None = None
    encoding: str = 'png'
    level: int = 1

    def __post_init__(self) -> None:
        if self.size is not None and self.size < 8:
            raise ValueError(f'--size {self.size}: sub-images need sides of at least 8 pixels.')
        if self.stride is not None and not (self.size and 1 <= self.stride <= self.size):
            raise ValueError(
                f'--stride {self.stride} must be between 1 and --size ({self.size}); a larger one '
                'would leave gaps.'
            )
        if self.encoding not in ('png', 'raw'):
            raise ValueError(f'--store {self.encoding}: allowed are png and raw.')

    @property
    def suffix(self) -> str:
        """Suffix of the names in `meta_info.txt`."""
        return 'png' if self.encoding == 'png' else 'ppm'

    def encode(self, image: np.ndarray) -> bytes:
        """The bytes to store for an RGB image."""
        is_png = self.encoding == 'png'
        return indexed_png.encode(image, self.level) if is_png else encode_ppm(image)


@dataclass(frozen=True)
class SubImage:
    """A part of an image, perhaps all of it, and the key it is stored under."""

    key: str
    top: int
    left: int
    height: int
    width: int

    def crop(self, image: np.ndarray) -> np.ndarray:
        """This part of the whole image."""
        return image[self.top : self.top + self.height, self.left : self.left + self.width]


def key_of(name: str) -> str:
    """An LMDB key that BasicSR can use, for an image of any name.

    BasicSR takes a key up to its first dot, encodes it as ASCII and takes what follows a slash for
    the file name; so these and everything that is not ASCII are percent-encoded.
    """
    content = name.encode('utf-8', 'surrogateescape')
    key = quote(content, safe=" !#$&'()+,;=@[]^`{}~").replace('.', '%2E')
    if len(key) > MAX_KEY:
        digest = hashlib.sha256(content).hexdigest()[:16]
        whole_escapes = re.sub('%.?$', '', key[: MAX_KEY - 20])
        key = f'{whole_escapes}--{digest}'
    return key


def sub_images(source: PairSource, options: StoreOptions) -> list[SubImage]:
    """The parts of an image that are stored, from top left to bottom right."""
    key = key_of(source.name)
    height, width = source.size
    if options.size is None:
        return [SubImage(key, 0, 0, height, width)]
    size, stride = options.size, options.stride or options.size
    places = [
        (top, left)
        for top in _starts(height, size, stride)
        for left in _starts(width, size, stride)
    ]
    return [
        SubImage(f'{key}_s{number:03d}', top, left, min(size, height), min(size, width))
        for number, (top, left) in enumerate(places, 1)
    ]


def _starts(length: int, size: int, stride: int) -> list[int]:
    """Where sub-images start to cover the whole length; the last one may overlap more."""
    last = max(0, length - size)
    return [*range(0, last, stride), last]


def fingerprint(sources: Sequence[PairSource], options: StoreOptions) -> str:
    """A digest that is equal only if the same images are to be stored in the same way."""
    content = [asdict(options), [(s.name, s.size, s.stamp) for s in sources]]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def load_pair(source: PairSource) -> tuple[np.ndarray, np.ndarray]:
    """Both images of a source, (H, W, 3) RGB uint8 or uint16.

    Raises ImageReadError if one cannot be read or is not of the size its header says.
    """
    lq, gt = source.load()
    for image, origin in ((lq, source.lq), (gt, source.gt)):
        if image.shape[:2] != source.size:
            raise ImageReadError(
                f'{origin} is {image.shape[1]} x {image.shape[0]}, its header says '
                f'{source.size[1]} x {source.size[0]}.'
            )
    return lq, gt
