"""MATLAB files of the real-noise benchmarks: reading them and writing what their servers accept.

Classic files (up to version 7) are read by SciPy, version 7.3 files, which are HDF5, by h5py (the
extra `mat`). Arrays have MATLAB's axis order whatever the file's version.
"""

from __future__ import annotations

import base64
import csv
import difflib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import scipy.io

SIDD_BLOCKS = (40, 32, 256, 256, 3)
"""Scenes, blocks of a scene, height, width and RGB of SIDD's validation and benchmark arrays."""

DND_IMAGES = 50
DND_BOXES = 20
SIDD_MAT_NAME = 'SubmitSrgb.mat'
SIDD_CSV_NAME = 'SubmitSrgb.csv'
_HDF5_SIGNATURE = b'\x89HDF\r\n\x1a\n'
_MATLAB_HEADER_BYTES = 512


class MatFileError(ValueError):
    """A MATLAB file that cannot be read, lacks a variable or holds one of the wrong shape."""

    kind = '.mat file'


def is_hdf5(path: Path) -> bool:
    """Whether a file is of MATLAB's version 7.3 (HDF5, with or without MATLAB's own header)."""
    with open(path, 'rb') as file:
        head = file.read(_MATLAB_HEADER_BYTES + len(_HDF5_SIGNATURE))
    return head.startswith(_HDF5_SIGNATURE) or head[_MATLAB_HEADER_BYTES:] == _HDF5_SIGNATURE


def variable_names(path: str | Path) -> list[str]:
    """The variables of a MATLAB file."""
    path = Path(path)
    if is_hdf5(path):
        with _open_hdf5(path) as file:
            return [name for name in file if not name.startswith('#')]
    with _readable(path):
        return [name for name, _, _ in scipy.io.whosmat(path)]


def read_array(
    path: str | Path,
    variable: str | Sequence[str],
    shape: Sequence[int | None] | None = None,
) -> np.ndarray:
    """Reads a numeric variable, the first there is of several names; `shape` may leave sizes open.

    Raises FileNotFoundError, and MatFileError for a file that is no MATLAB file, a missing variable
    (naming those that are there) or a wrong shape.
    """
    path = Path(path)
    name = _first_present(path, [variable] if isinstance(variable, str) else list(variable))
    if is_hdf5(path):
        with _open_hdf5(path) as file:
            # HDF5 files list MATLAB's axes in reverse
            array = np.asarray(file[name]).T
    else:
        with _readable(path):
            array = scipy.io.loadmat(path, variable_names=[name])[name]
    if not np.issubdtype(array.dtype, np.number):
        raise MatFileError(f'{path}: `{name}` is not a numeric array.')
    _check_shape(path, name, array.shape, shape)
    return array


def read_sidd_blocks(path: str | Path, variable: str | Sequence[str]) -> np.ndarray:
    """Reads blocks (scenes, blocks, height, width, 3) of SIDD, of any count and size."""
    return read_array(path, variable, (None, None, None, None, 3))


def as_unit_range(array: np.ndarray, path: str | Path = 'the array') -> np.ndarray:
    """uint8 or floating point images as float32 in [0, 1]; MatFileError for other values."""
    if array.dtype == np.uint8:
        return array.astype(np.float32) / 255
    if not np.issubdtype(array.dtype, np.floating):
        raise MatFileError(f'{path}: {array.dtype} values; uint8, or floating point in [0, 1].')
    highest = np.nanmax(array, initial=0)
    if highest > 2:
        raise MatFileError(f'{path}: values up to {highest:g}; floating point must be in [0, 1].')
    return array.astype(np.float32, copy=False)


def read_dnd_boxes(path: str | Path) -> list[np.ndarray]:
    """Reads the bounding boxes of DND's `info.mat`: per image (20, 4), rows of
    [first row, first column, last row, last column], counted from 1, last ones included.
    """
    path = Path(path)
    _first_present(path, ['info'])
    if is_hdf5(path):
        with _open_hdf5(path) as file:
            info = file['info']
            if 'boundingboxes' not in info:
                raise MatFileError(
                    f'{path}: `info` has no `boundingboxes`; it has {_listed(info)}.'
                )
            boxes = [np.asarray(file[ref]).T for ref in np.asarray(info['boundingboxes']).ravel()]
    else:
        with _readable(path):
            info = scipy.io.loadmat(path, variable_names=['info'])['info']
        if 'boundingboxes' not in (info.dtype.names or ()):
            names = _listed(info.dtype.names or ())
            raise MatFileError(f'{path}: `info` has no `boundingboxes`; it has {names}.')
        boxes = [np.asarray(box) for box in info['boundingboxes'].item().ravel()]
    for box in boxes:
        _check_shape(path, 'boundingboxes', box.shape, (None, 4))
    return [box.astype(int) for box in boxes]


def crop(image: np.ndarray, box: Sequence[int]) -> np.ndarray:
    """The part of an image (H, W, 3) in one of DND's boxes."""
    top, left, bottom, right = (int(value) for value in box)
    return image[top - 1 : bottom, left - 1 : right]


def write_dnd_image(target: str | Path | BinaryIO, patches: Sequence[np.ndarray]) -> None:
    """Writes one image of a DND submission: its denoised boxes (H, W, 3), float in [0, 1], sRGB."""
    cells = np.empty(len(patches), dtype=object)
    for i, patch in enumerate(patches):
        cells[i] = np.asarray(patch, dtype=np.float32)
    bundle = {'Idenoised': cells, 'israw': False, 'eval_version': '1.0'}
    scipy.io.savemat(target, bundle, do_compression=True)


def read_dnd_image(path: str | Path) -> list[np.ndarray]:
    """Reads one image of a DND submission back and checks its three variables; the boxes."""
    path = Path(path)
    for name in ('Idenoised', 'israw', 'eval_version'):
        _first_present(path, [name])
    if is_hdf5(path):
        with _open_hdf5(path) as file:
            patches = [np.asarray(file[ref]).T for ref in np.asarray(file['Idenoised']).ravel()]
            israw = bool(np.asarray(file['israw']).ravel()[0])
            version = ''.join(chr(code) for code in np.asarray(file['eval_version']).ravel())
    else:
        with _readable(path):
            content = scipy.io.loadmat(path)
        patches = list(content['Idenoised'].ravel())
        israw = bool(content['israw'].ravel()[0])
        version = str(content['eval_version'].ravel()[0])
    if israw:
        raise MatFileError(f'{path}: `israw` is true; sRGB submissions say false.')
    if version != '1.0':
        raise MatFileError(f"{path}: `eval_version` is {version!r}; the server wants '1.0'.")
    return patches


def write_sidd_submission(
    folder: str | Path, blocks: np.ndarray, seconds_per_megapixel: float, method: str
) -> list[Path]:
    """Writes a submission to SIDD's benchmark from uint8 blocks (40, 32, 256, 256, 3).

    `SubmitSrgb.mat` is what the benchmark's own server took; `SubmitSrgb.csv` is the form of the
    same blocks for its successor on Kaggle, one line of base64 a block.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if blocks.dtype != np.uint8:
        raise MatFileError(f'SIDD submissions are uint8, these blocks are {blocks.dtype}.')
    _check_shape(folder, 'DenoisedBlocksSrgb', blocks.shape, (None, None, None, None, 3))
    content = {
        'DenoisedBlocksSrgb': blocks,
        'TimeMPSrgb': float(seconds_per_megapixel),
        'OptionalData': {'MethodName': method},
    }
    scipy.io.savemat(folder / SIDD_MAT_NAME, content, do_compression=True)
    with open(folder / SIDD_CSV_NAME, 'w', newline='') as file:
        writer = csv.writer(file, lineterminator='\n')
        writer.writerow(['ID', 'BLOCK'])
        for i, block in enumerate(blocks.reshape(-1, *blocks.shape[2:])):
            writer.writerow([i, base64.b64encode(block.tobytes()).decode('ascii')])
    return [folder / SIDD_MAT_NAME, folder / SIDD_CSV_NAME]


def read_sidd_csv(path: str | Path, block_shape: Sequence[int] = SIDD_BLOCKS[2:]) -> np.ndarray:
    """Reads the blocks of a SIDD submission's CSV back: uint8 (blocks, height, width, 3)."""
    blocks = []
    csv.field_size_limit(10**8)
    with open(path, newline='') as file:
        for row in csv.DictReader(file):
            values = np.frombuffer(base64.b64decode(row['BLOCK']), np.uint8)
            if values.size != np.prod(block_shape):
                raise MatFileError(f'{path}: block {row["ID"]} has {values.size} values.')
            blocks.append(values.reshape(block_shape))
    return np.stack(blocks)


def _first_present(path: Path, names: list[str]) -> str:
    present = variable_names(path)
    for name in names:
        if name in present:
            return name
    wanted = ' or '.join(f'`{name}`' for name in names)
    near = difflib.get_close_matches(names[0], present, 1)
    hint = f' Did you mean `{near[0]}`?' if near else ''
    raise MatFileError(f'{path}: no variable {wanted}; it has {_listed(present)}.{hint}')


def _listed(names) -> str:
    return ', '.join(f'`{name}`' for name in names) or 'none'


def _check_shape(path, name: str, shape: Sequence[int], wanted) -> None:
    if wanted is None:
        return
    fits = len(shape) == len(wanted) and all(
        w in (None, s) for s, w in zip(shape, wanted, strict=True)
    )
    if not fits:
        expected = ' x '.join('any' if size is None else str(size) for size in wanted)
        found = ' x '.join(str(size) for size in shape)
        raise MatFileError(f'{path}: `{name}` has the shape {found}; {expected} is wanted.')


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turns SciPy's errors about a broken file into one that names it."""
    try:
        yield
    except FileNotFoundError:
        raise
    except Exception as error:
        raise MatFileError(f'{path} is not a readable MATLAB file ({error}).') from error


@contextmanager
def _open_hdf5(path: Path) -> Iterator[Any]:
    try:
        import h5py
    except ImportError as error:
        raise MatFileError(
            f'{path} is a MATLAB 7.3 file, which needs h5py: pip install c2fdft[mat]'
        ) from error
    try:
        file = h5py.File(path, 'r')
    except OSError as error:
        raise MatFileError(f'{path} is not a readable MATLAB 7.3 file ({error}).') from error
    with file:
        yield file
