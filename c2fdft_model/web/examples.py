"""Degraded photographs to try the page with: those of scikit-image with rain, noise and blur."""

from pathlib import Path

import cv2
import numpy as np

SIDE = 256
PHOTOGRAPHS = {'noisy_coffee.png': 'coffee.png', 'rainy_cat.png': 'chelsea.png',
               'blurred_astronaut.png': 'astronaut.png'}  # fmt: skip


def write_examples(folder: Path) -> list[Path]:
    """Write the examples that can be made into `folder`; none without scikit-image's files."""
    import skimage

    written = []
    for name, photograph in PHOTOGRAPHS.items():
        image = cv2.imread(str(Path(skimage.__file__).parent / 'data' / photograph))
        if image is not None:
            degrade = {'noisy': _noisy, 'rainy': _rainy, 'blurred': _blurred}[name.split('_')[0]]
            cv2.imwrite(str(folder / name), degrade(image[:SIDE, :SIDE]))
            written.append(folder / name)
    return written


def _noisy(image: np.ndarray) -> np.ndarray:
    """Gaussian noise with a standard deviation of 25 grey levels."""
    noise = np.random.default_rng(0).normal(0, 25, image.shape)
    return np.clip(np.rint(image + noise), 0, 255).astype(np.uint8)


def _rainy(image: np.ndarray) -> np.ndarray:
    """Bright streaks that all fall one way, added to the image."""
    drops = np.random.default_rng(0).random(image.shape[:2]) > 0.985
    streak = np.eye(15, dtype=np.float32) / 15
    streaks = cv2.filter2D(drops.astype(np.float32) * 255, -1, streak)
    return np.clip(image + 2.5 * streaks[..., None], 0, 255).astype(np.uint8)


def _blurred(image: np.ndarray) -> np.ndarray:
    """A horizontal motion of 11 pixels."""
    return cv2.filter2D(image, -1, np.full((1, 11), 1 / 11))
