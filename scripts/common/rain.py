"""Synthetic rain: layers of blurred streaks of random density, length and angle, added to an image.

The model is the additive one of the common deraining sets (Yang et al., CVPR 2017): rainy = clean +
streaks, clipped. Every function draws from the generator it is given and from nothing else.
"""

from dataclasses import dataclass

import cv2
import numpy as np


@dataclass(frozen=True)
class RainLayer:
    """One layer of rain: drops at one distance from the camera, falling in one direction."""

    density: float  # streaks per pixel
    length: float  # pixels
    width: float  # pixels
    angle: float  # degrees from the vertical, positive leans to the right going down
    brightness: float  # of the brightest streak; the image's range is [0, 1]


@dataclass(frozen=True)
class RainRange:
    """The ranges from which the layers of one image are drawn, each uniformly."""

    layers: tuple[int, int] = (1, 2)
    density: tuple[float, float] = (0.001, 0.004)
    length: tuple[float, float] = (10.0, 36.0)
    width: tuple[float, float] = (1.0, 2.0)
    angle: tuple[float, float] = (-40.0, 40.0)
    angle_spread: float = 8.0  # the layers of one image lean alike, within this many degrees
    brightness: tuple[float, float] = (0.4, 0.9)


HEAVY_RAIN = RainRange()


def draw_layers(rng: np.random.Generator, ranges: RainRange = HEAVY_RAIN) -> list[RainLayer]:
    """Draw the layers of rain of one image."""
    wind = rng.uniform(*ranges.angle)
    count = int(rng.integers(ranges.layers[0], ranges.layers[1], endpoint=True))
    return [
        RainLayer(
            density=rng.uniform(*ranges.density),
            length=rng.uniform(*ranges.length),
            width=rng.uniform(*ranges.width),
            angle=wind + rng.uniform(-ranges.angle_spread, ranges.angle_spread),
            brightness=rng.uniform(*ranges.brightness),
        )
        for _ in range(count)
    ]


def streak_kernel(length: float, width: float, angle: float) -> np.ndarray:
    """Return one streak, (K, K) float32 with K odd and a peak of 1.

    Along the streak the brightness is even and fades within a pixel at both ends; across it is a
    Gaussian whose full width at half maximum is `width`.
    """
    radius = int(np.ceil(length / 2 + width)) + 1
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1].astype(np.float64)
    lean = np.deg2rad(angle)
    along = np.abs(y * np.cos(lean) + x * np.sin(lean))
    across = x * np.cos(lean) - y * np.sin(lean)
    profile = np.exp(-4 * np.log(2) * (across / width) ** 2)
    kernel = profile * np.clip(length / 2 - along + 0.5, 0, 1)
    return (kernel / kernel.max()).astype(np.float32)


def render_layer(shape: tuple[int, int], layer: RainLayer, rng: np.random.Generator) -> np.ndarray:
    """Render a layer as (H, W) float32 brightness to be added; zero where no streak is."""
    kernel = streak_kernel(layer.length, layer.width, layer.angle)
    margin = kernel.shape[0] // 2  # drops outside the frame reach into it
    height, width = shape[0] + 2 * margin, shape[1] + 2 * margin
    drops = (rng.random((height, width)) < layer.density).astype(np.float32)
    drops *= rng.uniform(0.3, 1.0, (height, width)).astype(np.float32)
    streaks = cv2.filter2D(drops, -1, kernel, borderType=cv2.BORDER_CONSTANT)
    streaks = streaks[margin : margin + shape[0], margin : margin + shape[1]]
    return layer.brightness * np.minimum(streaks, 1.0)


def add_rain(
    image: np.ndarray, rng: np.random.Generator, ranges: RainRange = HEAVY_RAIN
) -> np.ndarray:
    """Return `image`, (H, W, 3) uint8, with rain: the same streaks in every channel."""
    streaks = np.zeros(image.shape[:2], np.float32)
    for layer in draw_layers(rng, ranges):
        streaks += render_layer(image.shape[:2], layer, rng)
    rainy = image.astype(np.float32) / 255 + streaks[..., None]
    return np.round(np.clip(rainy, 0, 1) * 255).astype(np.uint8)
