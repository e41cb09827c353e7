"""Synthetic rain, noise and blur on photographs (H, W, 3) uint8, each drawn from a generator."""

import cv2
import numpy as np

from common.rain import add_rain


def add_noise(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Sensor noise: a variance that rises with the signal, and read-out noise; both drawn."""
    signal = image.astype(np.float32) / 255
    shot, read = rng.uniform(0.003, 0.02), rng.uniform(0.02, 0.06)
    sigma = np.sqrt(shot * signal + read**2)
    return _uint8(signal + sigma * rng.standard_normal(image.shape, np.float32))


def add_motion_blur(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Camera shake: a kernel that follows a smooth random path of 7 to 19 pixels, little noise."""
    kernel = motion_kernel(rng.uniform(7, 19), rng)
    blurred = cv2.filter2D(
        image.astype(np.float32) / 255, -1, kernel, borderType=cv2.BORDER_REFLECT
    )
    return _uint8(blurred + 0.005 * rng.standard_normal(image.shape, np.float32))


def motion_kernel(length: float, rng: np.random.Generator) -> np.ndarray:
    """A kernel (K, K), K odd, of sum 1: the trace of a point that turns slowly while it moves."""
    points = 200
    turns = np.cumsum(rng.normal(0, 1.2 / np.sqrt(points), points)) + rng.uniform(0, 2 * np.pi)
    path = np.cumsum(np.stack([np.sin(turns), np.cos(turns)], axis=1), axis=0) * length / points
    path -= path.mean(axis=0)
    radius = int(np.ceil(np.abs(path).max())) + 1
    kernel = np.zeros((2 * radius + 1, 2 * radius + 1), np.float32)
    for y, x in path + radius:
        top, left = int(y), int(x)
        dy, dx = y - top, x - left
        kernel[top : top + 2, left : left + 2] += np.outer([1 - dy, dy], [1 - dx, dx])
    return kernel / kernel.sum()


def _uint8(image: np.ndarray) -> np.ndarray:
    return np.round(np.clip(image, 0, 1) * 255).astype(np.uint8)


DEGRADATIONS = {'rain': add_rain, 'noise': add_noise, 'blur': add_motion_blur}
