"""EXIF orientations: how stored pixels become an upright image, and back."""

from collections.abc import Callable

import numpy as np

ORIENTATION_TAG = 274

UPRIGHT: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: a[::-1].swapaxes(0, 1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: a[:, ::-1].swapaxes(0, 1),
}
"""Orientation -> what turns the stored pixels (H, W, ...) upright, a view."""

INVERSE = {orientation: orientation for orientation in UPRIGHT} | {6: 8, 8: 6}
"""Orientation -> the one whose entry in `UPRIGHT` turns upright pixels back."""
