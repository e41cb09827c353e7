"""The noise of a camera, as it is in a finished sRGB photograph.

A clean photograph is taken back to linear light, seen through optics and a Bayer filter, given
the noise of photons and of the read-out (its variance rises with the signal: Foi et al., "Practical
Poissonian-Gaussian noise modeling and fitting for single-image raw-data", 2008), demosaicked,
brought to sRGB again and half of the time compressed as JPEG. Brooks et al., "Unprocessing Images
for Learned Raw Denoising" (2019), describe the way.
"""

import cv2
import numpy as np

SHOT = (2e-4, 1.5e-2)
"""Variance of the photons' noise per unit of linear light; drawn evenly on a logarithmic scale."""
READ = (0.5e-3, 2e-2)
"""Standard deviation of the read-out's noise, between these two where `SHOT` is."""
GAINS = (1.4, 2.4)
"""White balance of red and of blue: how many times less light these filters let through."""
JPEG_QUALITY = (85, 98)
LOW_PASS = 0.6
"""Standard deviation in pixels of the blur of the optics, without which there would be moire."""

TO_SRGB_THRESHOLD = 0.0031308


def camera_pair(image: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A photograph (H, W, 3) uint8, BGR, as a camera takes it, from faint noise to heavy, and as
    the same camera would without noise; H and W are even."""
    level = rng.uniform()
    shot = SHOT[0] * (SHOT[1] / SHOT[0]) ** level
    read = READ[0] * (READ[1] / READ[0]) ** level * rng.uniform(0.7, 1.4)
    gains = np.array([rng.uniform(*GAINS), 1, rng.uniform(*GAINS)], np.float32)
    light = cv2.GaussianBlur(to_linear(image.astype(np.float32) / 255), None, LOW_PASS) / gains
    mosaic = bayer_mosaic(light)
    deviation = np.sqrt(shot * mosaic + read**2)
    noisy = mosaic + deviation * rng.standard_normal(mosaic.shape, np.float32)
    noisy, clean = (developed(seen, gains) for seen in (noisy, mosaic))
    if rng.uniform() < 0.5:
        quality = int(rng.integers(*JPEG_QUALITY, endpoint=True))
        _, data = cv2.imencode('.jpg', noisy, [cv2.IMWRITE_JPEG_QUALITY, quality])
        noisy = cv2.imdecode(data, cv2.IMREAD_COLOR)
    return noisy, clean


def developed(mosaic: np.ndarray, gains: np.ndarray) -> np.ndarray:
    """The sRGB photograph (H, W, 3) uint8 of what a sensor has seen."""
    light = np.clip(demosaic(np.clip(mosaic, 0, 1)) * gains, 0, 1)
    return np.round(to_srgb(light) * 255).astype(np.uint8)


def to_linear(image: np.ndarray) -> np.ndarray:
    """Linear light of sRGB values, both in [0, 1] (IEC 61966-2-1)."""
    low = image <= 12.92 * TO_SRGB_THRESHOLD
    return np.where(low, image / 12.92, ((image + 0.055) / 1.055) ** 2.4).astype(np.float32)


def to_srgb(light: np.ndarray) -> np.ndarray:
    """sRGB values of linear light, both in [0, 1]."""
    low = light <= TO_SRGB_THRESHOLD
    high = 1.055 * np.maximum(light, TO_SRGB_THRESHOLD) ** (1 / 2.4) - 0.055
    return np.where(low, 12.92 * light, high).astype(np.float32)


def bayer_mosaic(light: np.ndarray) -> np.ndarray:
    """What each pixel of a sensor with the Bayer filter B G / G R sees of (H, W, 3) BGR light."""
    mosaic = light[..., 1].copy()
    mosaic[0::2, 0::2] = light[0::2, 0::2, 0]
    mosaic[1::2, 1::2] = light[1::2, 1::2, 2]
    return mosaic


def demosaic(mosaic: np.ndarray) -> np.ndarray:
    """(H, W, 3) BGR light from a Bayer mosaic in [0, 1], along edges and not across them."""
    raw = np.round(mosaic * 65535).astype(np.uint16)
    return cv2.cvtColor(raw, cv2.COLOR_BayerRGGB2RGB_EA).astype(np.float32) / 65535
