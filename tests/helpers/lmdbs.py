"""Folders of pairs under names of all kinds, and the LMDBs they are written to."""

from __future__ import annotations

from pathlib import Path

import lmdb

from c2fdft_model.data.pair_sources import PairSource, file_sources
from c2fdft_model.data.pairing import pair_folders
from helpers.paired_data import pattern, write_rgb

NAMES = ('plain', 'a/b/deep', 'dots.in.name', 'with space', 'über/bild', 'half%2E')


def write_named_folders(root: Path) -> tuple[Path, Path]:
    """A folder of degraded and one of clean images, called `NAMES`."""
    for number, name in enumerate(NAMES):
        clean = pattern(number, 20 + number, 30)
        suffix = ('.png', '.bmp', '.tif')[number % 3]
        write_rgb(root / 'clean' / f'{name}.png', clean)
        write_rgb(root / 'bad' / f'{name}{suffix}', 255 - clean)
    return root / 'bad', root / 'clean'


def sources_of(folders: tuple[Path, Path]) -> list[PairSource]:
    return file_sources(*folders, pair_folders(*folders))


def targets(root: Path) -> tuple[Path, Path]:
    return root / 'out' / 'input.lmdb', root / 'out' / 'target.lmdb'


def content(path: Path) -> dict[str, bytes]:
    with lmdb.open(str(path), readonly=True, lock=False) as environment, environment.begin() as txn:
        return {bytes(key).decode(): bytes(value) for key, value in txn.cursor()}
