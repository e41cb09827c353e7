"""BM3D (Dabov et al., 2007) by VapourSynth's plug-in, which is under the MIT licence.

The packages of BM3D's authors, `bm3d` and `bm4d`, are licensed for non-commercial use only.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np

from c2fdft_model.images.image_io import to_float

INSTALL = 'Python 3.12 or later and pip install vapoursynth vapoursynth-bm3d'
SIGMAS = (1, 2, 3, 5, 7, 10, 15, 20, 30)
"""Standard deviations of the noise in grey levels of 255; photographs differ in it."""


def is_installed() -> bool:
    """Whether VapourSynth and its plug-in can be loaded."""
    try:
        import vapoursynth
    except ImportError:
        return False
    return hasattr(vapoursynth.core, 'bm3d')


def bm3d(noisy: np.ndarray, sigma: float) -> np.ndarray:
    """`noisy` (H, W, 3) uint8 RGB without noise of so many grey levels, float32 in [0, 1].

    The colour version: blocks are matched in the luminance of an opponent colour space.
    """
    import vapoursynth

    core = vapoursynth.core
    height, width = noisy.shape[:2]
    image = to_float(noisy)
    blank = core.std.BlankClip(None, width, height, vapoursynth.RGBS, length=1)
    clip = core.std.ModifyFrame(blank, blank, lambda n, f: _filled(f.copy(), image))
    opponent = core.bm3d.RGB2OPP(clip, sample=1)
    sigmas = [float(sigma)] * 3
    basic = core.bm3d.Basic(opponent, sigma=sigmas, matrix=100)
    final = core.bm3d.Final(opponent, basic, sigma=sigmas, matrix=100)
    frame = core.bm3d.OPP2RGB(final, sample=1).get_frame(0)
    return np.stack([np.asarray(frame[plane]) for plane in range(3)], axis=-1)


def tried(noisy: np.ndarray, _: str) -> Iterable[np.ndarray]:
    """Results for a list of noise levels, uint8."""
    for sigma in SIGMAS:
        yield np.round(np.clip(bm3d(noisy, sigma), 0, 1) * 255).astype(np.uint8)


def _filled(frame: Any, image: np.ndarray) -> Any:
    for plane in range(3):
        np.copyto(np.asarray(frame[plane]), image[..., plane])
    return frame
