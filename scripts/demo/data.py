"""The demo's data: rainy and clean photographs as PNG folders and as BasicSR's paired LMDBs.

    PYTHONPATH=scripts python -m demo.data noise datasets/demo_noise

writes the same photographs with another degradation (noise or blur).
"""

import argparse
import functools
import itertools
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from c2fdft_model.experiments.files import read_json, write_json
from c2fdft_model.experiments.images import write_png
from common.degradations import DEGRADATIONS
from common.photographs import photo_folder, read_photo
from common.rain import HEAVY_RAIN, RainRange, add_rain

# File names in scikit-image. All are photographs; grey ones become three equal channels.
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


@dataclass(frozen=True)
class DataSettings:
    """What determines every pixel of the demo's data."""

    train_photos: tuple[str, ...] = TRAIN_PHOTOS
    held_out_photos: tuple[str, ...] = HELD_OUT_PHOTOS
    renderings: int = 6  # degraded versions of each training photograph
    tile: int = 128  # pixels; small images decode fast when only a patch of them is wanted
    seed: int = 0
    rain: RainRange = HEAVY_RAIN
    degradation: str = 'rain'

    @property
    def degrade(self) -> Callable[[np.ndarray, np.random.Generator], np.ndarray]:
        """Makes a degraded photograph of a clean one."""
        if self.degradation == 'rain':
            return functools.partial(add_rain, ranges=self.rain)
        return DEGRADATIONS[self.degradation]


def prepare(root: Path, settings: DataSettings | None = None, photos: Path | None = None) -> bool:
    """Write the data under `root` unless it is there already; return whether it was written.

    `root`/train and `root`/test each get the folders `input` and `target` and, beside them,
    `input.lmdb` and `target.lmdb`. What an interrupted run left behind is written anew. `photos` is
    the folder of the photographs, by default scikit-image's.
    """
    settings = settings or DataSettings()
    photos = photos or photo_folder()
    # The settings are written last: an interrupted run has left none.
    if read_json(root / 'settings.json') == json.loads(json.dumps(asdict(settings))):
        return False
    shutil.rmtree(root, ignore_errors=True)
    _write_pairs(root / 'train', training_pairs(settings, photos))
    _write_pairs(root / 'test', held_out_pairs(settings, photos))
    for folder in sorted(root.glob('*/*')):
        make_lmdb(folder, folder.with_suffix('.lmdb'))
    write_json(root / 'settings.json', asdict(settings))
    return True


Pair = tuple[str, np.ndarray, np.ndarray]
"""Name, degraded image and clean image, both (H, W, 3) uint8, BGR."""


def training_pairs(settings: DataSettings, photos: Path) -> Iterator[Pair]:
    """Tiles of the training photographs, each photograph degraded several times.

    Every rendering has the colour channels in another order, for want of colours in so few
    photographs; the first has them as they are.
    """
    orders = list(itertools.permutations(range(3)))
    for number, photo in enumerate(settings.train_photos):
        photograph = read_photo(photos / photo)
        for rendering in range(settings.renderings):
            clean = photograph[..., orders[rendering % len(orders)]]
            rng = np.random.default_rng((settings.seed, 0, number, rendering))
            degraded = settings.degrade(clean, rng)
            for top, left in tile_corners(clean.shape[:2], settings.tile):
                window = np.s_[top : top + settings.tile, left : left + settings.tile]
                name = f'{Path(photo).stem}_{settings.degradation}{rendering}_y{top}_x{left}'
                yield name, degraded[window], clean[window]


def held_out_pairs(settings: DataSettings, photos: Path) -> Iterator[Pair]:
    """The held-out photographs, whole, degraded once each."""
    for number, photo in enumerate(settings.held_out_photos):
        clean = read_photo(photos / photo)
        rng = np.random.default_rng((settings.seed, 1, number))
        yield Path(photo).stem, settings.degrade(clean, rng), clean


def tile_corners(shape: tuple[int, int], tile: int) -> list[tuple[int, int]]:
    """Top left corners of tiles that cover an image with the least overlap, evenly spread."""

    def starts(side: int) -> list[int]:
        count = -(-side // tile)
        return np.linspace(0, max(side - tile, 0), count).round().astype(int).tolist()

    return [(top, left) for top in starts(shape[0]) for left in starts(shape[1])]


def make_lmdb(folder: Path, lmdb: Path) -> None:
    """Write the PNG images of a folder as an LMDB, with BasicSR's tool."""
    from basicsr.utils.lmdb_util import make_lmdb_from_imgs

    names = sorted(path.name for path in folder.glob('*.png'))
    print(f'  {lmdb}: {len(names)} images', flush=True)
    keys = [name.removesuffix('.png') for name in names]
    with open(os.devnull, 'w') as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        make_lmdb_from_imgs(str(folder), str(lmdb), names, keys)


def _write_pairs(folder: Path, pairs: Iterator[Pair]) -> None:
    for name, degraded, clean in pairs:
        write_png(folder / 'input' / f'{name}.png', degraded)
        write_png(folder / 'target' / f'{name}.png', clean)


def main() -> None:
    parser = argparse.ArgumentParser(prog='demo.data', description=__doc__)
    parser.add_argument('degradation', choices=[*DEGRADATIONS])
    parser.add_argument('folder', type=Path, help='where to write')
    args = parser.parse_args()
    prepare(args.folder, DataSettings(degradation=args.degradation))


if __name__ == '__main__':
    main()
