"""The restored images of validation and test as files."""

import cv2
import numpy as np

from c2fdft_arch.common import atomic_write
from c2fdft_arch.common.messages import printable


def write_png(path: str, image: np.ndarray) -> None:
    """Write an image (H, W, 3) uint8, BGR, whole or not at all; folders are made as needed.

    Raises OSError naming the file.
    """
    done, content = cv2.imencode('.png', image)
    if not done:
        raise OSError(f'{printable(path)}: OpenCV cannot write this image as PNG.')
    try:
        atomic_write.write_bytes(path, content.tobytes())
    except OSError as error:
        reason = error.strerror or error
        raise OSError(f'{printable(path)} cannot be written: {reason}.') from error
