"""MATLAB files of the real-noise benchmarks: reading them and writing what their servers accept.

Classic files (up to version 7) are read by SciPy, version 7.3 files, which are HDF5, by h5py (the
extra `mat`). Arrays have MATLAB's axis order whatever the file's version.
"""

import base64
import csv
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import scipy.io

from c2fdft_arch.common.atomic_write import replacing
from c2fdft_arch.common.errors import C2FDFTError
from c2fdft_arch.common.messages import nearest

SIDD_BLOCKS = (40, 32, 256, 256, 3)
"""Scenes, blocks of a scene, height, width and RGB of SIDD's validation and benchmark arrays."""

DND_IMAGES = 50
DND_BOXES = 20
SIDD_MAT_NAME = 'SubmitSrgb.mat'
SIDD_CSV_NAME = 'SubmitSrgb.csv'
_HDF5_SIGNATURE = b'\x89HDF\r\n\x1a\n'
_MATLAB_HEADER_BYTES = 512


class MatFileError(C2FDFTError, ValueError):
    """A MATLAB file that cannot be read, lacks a variable or holds one of the wrong shape."""

    kind = '.mat file'
    """What an evaluation counts such problems under."""


def variable_names(path: str | Path) -> list[str]:
    """The variables of a MATLAB file."""
    path = Path(path)
    if _is_hdf5(path):
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
    names = [variable] if isinstance(variable, str) else variable
    name, array = _read_variable(path, *names)
    if not isinstance(array, np.ndarray) or not np.issubdtype(array.dtype, np.number):
        raise MatFileError(f'{path}: `{name}` is not a numeric array.')
    if shape is not None:
        _check_shape(path, name, array, shape)
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
    _, boxes = _read_variable(path, 'info', field='boundingboxes')
    for box in boxes:
        _check_shape(path, 'boundingboxes', box, (None, 4))
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
    names = ('Idenoised', 'israw', 'eval_version')
    patches, israw, version = (_read_variable(path, name)[1] for name in names)
    if israw.any():
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
    _check_shape(folder, 'DenoisedBlocksSrgb', blocks, (None, None, None, None, 3))
    content = {
        'DenoisedBlocksSrgb': blocks,
        'TimeMPSrgb': float(seconds_per_megapixel),
        'OptionalData': {'MethodName': method},
    }
    with replacing(folder / SIDD_MAT_NAME) as temporary:
        scipy.io.savemat(temporary, content, do_compression=True)
    with (
        replacing(folder / SIDD_CSV_NAME) as temporary,
        open(temporary, 'w', newline='', encoding='ascii') as file,
    ):
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


def _read_variable(path: Path, *names: str, field: str | None = None) -> tuple[str, Any]:
    """The first variable there is of these names, or a field of this struct.

    Returns the name, and an array, text, or a cell array as a list of arrays.
    """
    present = variable_names(path)
    name = next((name for name in names if name in present), None)
    if name is None:
        wanted = ' or '.join(f'`{name}`' for name in names)
        hint = nearest(names[0], present)
        raise MatFileError(f'{path}: no variable {wanted}; it has {_listed(present)}{hint}.')
    if _is_hdf5(path):
        with _open_hdf5(path) as file:
            value = file[name]
            if field is not None:
                _check_field(path, name, field, list(value) if hasattr(value, 'keys') else ())
                value = value[field]
            return name, _from_hdf5(value, file)
    with _readable(path):
        value = scipy.io.loadmat(path, variable_names=[name])[name]
    if field is not None:
        _check_field(path, name, field, value.dtype.names or ())
        value = value[field].item()
    return name, _from_scipy(value)


def _check_field(path: Path, name: str, field: str, present: Sequence[str]) -> None:
    if field not in present:
        raise MatFileError(f'{path}: `{name}` has no `{field}`; it has {_listed(present)}.')


def _from_scipy(value: np.ndarray) -> Any:
    if value.dtype == object:
        return list(value.ravel())
    return ''.join(value.ravel()) if value.dtype.kind == 'U' else value


def _from_hdf5(value: Any, file: Any) -> Any:
    # HDF5 files list MATLAB's axes in reverse, and hold cells and text as numbers.
    array = np.asarray(value)
    if array.dtype == object:
        return [np.asarray(file[reference]).T for reference in array.ravel()]
    is_text = value.attrs.get('MATLAB_class') == b'char'
    return ''.join(map(chr, array.ravel())) if is_text else array.T


def _listed(names: Iterable[str]) -> str:
    return ', '.join(f'`{name}`' for name in names) or 'none'


def _check_shape(path: Path, name: str, array: np.ndarray, wanted: Sequence[int | None]) -> None:
    fits = array.ndim == len(wanted) and all(
        size in (None, found) for size, found in zip(wanted, array.shape, strict=True)
    )
    if not fits:
        expected = ' x '.join('any' if size is None else str(size) for size in wanted)
        found = ' x '.join(map(str, array.shape))
        raise MatFileError(f'{path}: `{name}` has the shape {found}; {expected} is wanted.')


def _is_hdf5(path: Path) -> bool:
    """Whether a file is of MATLAB's version 7.3 (HDF5, with or without MATLAB's own header)."""
    with open(path, 'rb') as file:
        head = file.read(_MATLAB_HEADER_BYTES + len(_HDF5_SIGNATURE))
    return head.startswith(_HDF5_SIGNATURE) or head[_MATLAB_HEADER_BYTES:] == _HDF5_SIGNATURE


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
