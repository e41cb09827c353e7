"""The photographs of the models that ship: where each comes from, by whom, under which licence.

Those of Debian lie in packages, which anyone can fetch (`apt-get download NAME`) and unpack
(`dpkg-deb -x FILE FOLDER`). Photographs only: the packages' drawings are left out.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from common.photographs import photo_folder, read_photo

LONGEST_SIDE = 1280
"""Larger photographs are reduced: it hides their sensor's noise and JPEG's blocks, so that they
are clean, and sharpens what a wallpaper shows out of focus."""

MATE = ('mate-backgrounds', 'usr/share/backgrounds/mate/nature')
LOMIRI_16 = ('lomiri-wallpapers-16.04', 'usr/share/backgrounds')
LOMIRI_20 = ('lomiri-wallpapers-20.04', 'usr/share/backgrounds')
SCIKIT_IMAGE = ('scikit-image', '')


@dataclass(frozen=True)
class Photograph:
    """A photograph of a package; `folder` is where it lies in the package."""

    source: tuple[str, str]
    file: str
    author: str
    licence: str

    @property
    def name(self) -> str:
        return Path(self.file).stem

    def read(self, packages: Path) -> np.ndarray:
        """(H, W, 3) uint8, BGR, at most `LONGEST_SIDE` pixels; `packages` holds unpacked ones.

        Raises FileNotFoundError, which names the package.
        """
        package, folder = self.source
        if self.source == SCIKIT_IMAGE:
            return read_photo(photo_folder() / self.file)
        path = packages / package / folder / self.file
        image = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if image is None:
            raise FileNotFoundError(
                f'{path} is missing: apt-get download {package}; '
                f'dpkg-deb -x {package}_*.deb {packages / package}'
            )
        scale = LONGEST_SIDE / max(image.shape[:2])
        return cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


def _of(source: tuple[str, str], *entries: tuple[str, str, str]) -> tuple[Photograph, ...]:
    return tuple(Photograph(source, *entry) for entry in entries)


TRAINING = (
    *_of(
        SCIKIT_IMAGE,
        ('astronaut.png', 'NASA', 'public domain'),
        ('coffee.png', 'Rachel Michetti', 'CC0'),
        ('brick.png', 'Rob Tuytel', 'CC0'),
        ('grass.png', 'Rob Tuytel', 'CC0'),
        ('gravel.png', 'Rob Tuytel', 'CC0'),
    ),
    *_of(
        MATE,
        ('Aqua.jpg', 'Charles Barbin', 'GPL-2+'),
        ('Blinds.jpg', 'Lennart Poettering, Andrea Cimitan', 'GPL-2+'),
        ('Dune.jpg', 'Marco Cogoni, Hylke Bons', 'GPL-2+'),
        ('FreshFlower.jpg', 'Jens Ansorg', 'GPL-2+'),
        ('Garden.jpg', 'Charles Barbin', 'GPL-2+'),
        ('GreenMeadow.jpg', 'Timothy Schellhase, Lapo Calamandrei', 'GPL-2+'),
        ('RainDrops.jpg', 'blackcombwhistler07', 'GPL-2+'),
        ('Wood.jpg', 'Jean-François Fortin Tam', 'GPL-2+'),
        ('YellowFlower.jpg', 'Charles Barbin', 'GPL-2+'),
    ),
    *_of(
        LOMIRI_16,
        ('Bridge_by_Sander_Klootwijk.jpg', 'Sander Klootwijk', 'CC-BY-SA-4.0'),
        ('Dragonfly_by_Bolly.jpg', 'Bolly', 'CC-BY-SA-4.0'),
        ('Picture_0B_by_freespace.jpg', 'Trevor "Freespace"', 'CC-BY-4.0'),
        ('Picture_1A_by_freespace.jpg', 'Trevor "Freespace"', 'CC-BY-4.0'),
        ('Wine_by_Jakkub_Mede.jpg', 'Jakub Mede', 'CC-BY-4.0'),
        ('aitzgorri_by_Aitzol_Berasategi.jpg', 'Aitzol Berasategi', 'CC-BY-4.0'),
        ('free_by_Peter_Nerlich.jpg', 'Peter Nerlich', 'CC-BY-SA-4.0'),
        ('greentock_by_Peter_Nerlich.jpg', 'Peter Nerlich', 'CC-BY-SA-4.0'),
        ('life_by_Aitzol_Berasategi.jpg', 'Aitzol Berasategi', 'CC-BY-4.0'),
        ('seeding_by_Clements_Engelhardt.jpg', 'Clemens Engelhardt', 'CC0'),
        ('sunset_by_Aitzol_Berasategi.jpg', 'Aitzol Berasategi', 'CC-BY-4.0'),
    ),
)  # fmt: skip

HELD_OUT = (
    *_of(
        SCIKIT_IMAGE,
        ('rocket.jpg', 'SpaceX', 'CC0'),
        ('chelsea.png', 'Stéfan van der Walt', 'CC0'),
        ('camera.png', 'Lav Varshney', 'CC0'),
    ),
    *_of(MATE, ('LadyBird.jpg', 'Charles Barbin', 'GPL-2+')),
    *_of(
        LOMIRI_16,
        ('friends_by_Aitzol_Berasategi.jpg', 'Aitzol Berasategi', 'CC-BY-4.0'),
        ('picosdeeuropa_by_Aitzol_Berasategi.jpg', 'Aitzol Berasategi', 'CC-BY-4.0'),
    ),
    *_of(LOMIRI_20, ('Kleiber_by_Lukas_Baubkus.jpg', 'Lukas Baubkus', 'CC-BY-SA-3.0')),
)  # fmt: skip
"""Photographs to measure with; none of them, and no other view of them, is trained on."""


def sources(photographs: tuple[Photograph, ...]) -> Iterator[str]:
    """A line for each photograph: package, file, author, licence."""
    for photograph in photographs:
        package = photograph.source[0]
        yield f'{package}: {photograph.file}, {photograph.author}, {photograph.licence}'
