"""The real photographs that the scikit-image package carries, read without any download."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import cv2
import numpy as np

# Names are file names in skimage/data. All are photographs; grey ones become three equal channels.
TRAIN_PHOTOS = (
    'astronaut.png',
    'coffee.png',
    'chelsea.png',
    'motorcycle_left.png',
    'ihc.png',
    'camera.png',
    'brick.png',
    'gravel.png',
)
# motorcycle_right is the other eye of a stereo pair whose left image is trained on: an easy case.
# Nothing like rocket is in the training set: it is the case to look at.
HELD_OUT_PHOTOS = ('rocket.jpg', 'motorcycle_right.png')


def photo_folder() -> Path:
    """Return the folder of photographs inside the installed scikit-image."""
    import skimage

    return Path(skimage.__file__).parent / 'data'


def read_photo(name: str, folder: Path | None = None) -> np.ndarray:
    """Return the photograph `name` as (H, W, 3) uint8, BGR.

    Raises FileNotFoundError if this scikit-image does not carry it.
    """
    path = (folder or photo_folder()) / name
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise FileNotFoundError(
            f'scikit-image {version("scikit-image")} carries no readable photograph {name} in '
            f'{path.parent}. Versions 0.19 to 0.26 do: pip install "scikit-image>=0.19"'
        )
    return image
