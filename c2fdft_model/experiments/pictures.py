"""Pieces of the pictures in which results stand side by side: (H, W, 3) uint8, on white."""

import cv2
import numpy as np

GAP = 4
LABEL_HEIGHT = 34


def label(text: str, width: int) -> np.ndarray:
    """A line of text."""
    image = np.full((LABEL_HEIGHT, width, 3), 255, np.uint8)
    black, place = (0, 0, 0), (8, LABEL_HEIGHT - 11)
    return cv2.putText(image, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.62, black, 1, cv2.LINE_AA)


def cell(
    image: np.ndarray, width: int, height: int, interpolation: int = cv2.INTER_CUBIC
) -> np.ndarray:
    """An image, scaled in its own aspect to fit into a cell, in the middle of it."""
    scale = min((width - GAP) / image.shape[1], (height - GAP) / image.shape[0])
    size = (max(round(image.shape[1] * scale), 1), max(round(image.shape[0] * scale), 1))
    canvas = np.full((height, width, 3), 255, np.uint8)
    top, left = (height - size[1]) // 2, (width - size[0]) // 2
    canvas[top : top + size[1], left : left + size[0]] = cv2.resize(
        image, size, None, 0, 0, interpolation
    )
    return canvas
