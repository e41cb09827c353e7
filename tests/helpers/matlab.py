"""Miniature MATLAB files, classic and version 7.3, laid out as MATLAB lays them out."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import scipy.io

MATLAB_HEADER = b'MATLAB 7.3 MAT-file'.ljust(512)


def save_classic(path: Path, **arrays) -> Path:
    scipy.io.savemat(path, arrays)
    return path


def save_v73(path: Path, **arrays) -> Path:
    """Arrays with their axes reversed, behind MATLAB's 512 bytes of header."""
    with h5py.File(path, 'w', userblock_size=512) as file:
        for name, array in arrays.items():
            file[name] = np.asarray(array).T
    _write_header(path)
    return path


def save_dnd_info_v73(path: Path, boxes: list[np.ndarray]) -> Path:
    """`info.boundingboxes`: a cell array, which HDF5 holds as references into `#refs#`."""
    with h5py.File(path, 'w', userblock_size=512) as file:
        refs = file.create_group('#refs#')
        cells = np.empty((1, len(boxes)), dtype=h5py.ref_dtype)
        for i, box in enumerate(boxes):
            refs[str(i)] = np.asarray(box, np.float64).T
            cells[0, i] = refs[str(i)].ref
        file.create_group('info')['boundingboxes'] = cells
    _write_header(path)
    return path


def save_dnd_info_classic(path: Path, boxes: list[np.ndarray]) -> Path:
    cells = np.empty((len(boxes), 1), dtype=object)
    for i, box in enumerate(boxes):
        cells[i, 0] = np.asarray(box, np.float64)
    scipy.io.savemat(path, {'info': {'boundingboxes': cells}})
    return path


def _write_header(path: Path) -> None:
    with open(path, 'r+b') as file:
        file.write(MATLAB_HEADER)
