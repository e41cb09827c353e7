"""The photographs that the scikit-image package carries."""

from pathlib import Path

import cv2
import numpy as np


def photo_folder() -> Path:
    """The folder of photographs inside the installed scikit-image."""
    import skimage

    return Path(skimage.__file__).parent / 'data'


def read_photo(path: Path) -> np.ndarray:
    """A photograph as (H, W, 3) uint8, BGR; a grey one has three equal channels.

    Raises FileNotFoundError if it is missing or damaged.
    """
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise FileNotFoundError(
            f'{path} is missing or no readable image. (The photographs used by default come with '
            'scikit-image 0.19 to 0.26: pip install "scikit-image>=0.19")'
        )
    return image
