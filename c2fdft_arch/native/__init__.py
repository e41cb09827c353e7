"""Kernels for CPUs, in C++: compiled when they are first needed, for the machine they run on.

They do what `strip_network` (restoring) and `blocks` (training) do in PyTorch's operations, with
everything between two matrix products done while the data is still in the caches. Without a
compiler, or on a machine that they do not suit, PyTorch's operations serve; `C2FDFT_NATIVE=0` in
the environment switches them off.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import logging
import os
import platform
import shlex
import subprocess
import tempfile
from ctypes import c_int, c_long, c_void_p
from pathlib import Path
from typing import Any

import torch

SWITCH = 'C2FDFT_NATIVE'
FOLDER = Path(__file__).resolve().parent / 'csrc'
SOURCES = (
    'vectors.h', 'products.h', 'sums.h', 'weights.h', 'block.h', 'conv3x3.h', 'convolution.h',
    'attention.h', 'feed_forward.h', 'kernels.cpp',
)  # fmt: skip
# No flag that lets infinities or NaNs be ignored: they must come out where they go in.
FLAGS = (
    '-std=c++17', '-O3', '-march=native', '-ffp-contract=fast', '-fno-math-errno',
    '-fno-trapping-math', '-fopenmp', '-shared', '-fPIC',
)  # fmt: skip
COMPILE_SECONDS = 300
INSTRUCTIONS = ('AVX2', 'AVX512')  # as PyTorch names what a CPU has
FORMATS = {torch.float32: 'float32', torch.bfloat16: 'bfloat16'}


class KernelsUnavailableError(RuntimeError):
    """The kernels cannot be used here; the text says why."""


class Kernels:
    """The compiled functions for one number format; see kernels.cpp."""

    def __init__(self, library: ctypes.CDLL, dtype: torch.dtype) -> None:
        name = FORMATS[dtype]
        self.lanes = library.lanes()

        def function(of: str, *arguments: Any, returns: Any = None) -> Any:
            found = getattr(library, f'{name}_{of}')
            found.argtypes, found.restype = arguments, returns
            return found

        self.packed_bytes = function('packed_bytes', c_void_p, returns=c_long)
        self.pack = function('pack', *[c_void_p] * 4)
        self.block = function('block', *[c_void_p] * 4, c_int, c_int, c_void_p)
        self.convolution = function('convolution', *[c_void_p] * 3, c_int, c_int)
        self.trained_convolution = function('trained_convolution', *[c_void_p] * 3, c_int, c_int)
        self.trained_convolution_gradient = function(
            'trained_convolution_gradient', *[c_void_p] * 5, c_int, c_int
        )
        self.attention = function('attention', c_void_p, c_void_p, c_int, c_int, *[c_void_p] * 3)
        self.attention_gradient = function('attention_gradient', *[c_void_p] * 6)
        self.feed_forward = function('feed_forward', *[c_void_p] * 5)
        self.feed_forward_gradient = function('feed_forward_gradient', *[c_void_p] * 6)


def kernels(dtype: torch.dtype, device: torch.device) -> Kernels | None:
    """The kernels for a number format, or None where PyTorch's operations are to be used."""
    if device.type != 'cpu' or dtype not in FORMATS:
        return None
    if dtype == torch.bfloat16 and has_matrix_units():
        return None
    library = compiled_library()[0]
    return None if library is None else Kernels(library, dtype)


def has_matrix_units() -> bool:
    """Whether the CPU has AMX, which PyTorch's bfloat16 products use and the kernels do not."""
    supported = getattr(torch.cpu, '_is_amx_tile_supported', None)
    return supported is not None and supported()


@functools.cache
def compiled_library() -> tuple[ctypes.CDLL | None, str]:
    """The library, compiled if it has not been, or None; and where it is, or why there is none."""
    try:
        path = _find_or_compile()
        return ctypes.CDLL(str(path)), str(path)
    except (KernelsUnavailableError, OSError) as error:
        logging.getLogger(__name__).info('the kernels in C++ are not used: %s', error)
        return None, str(error)


def _find_or_compile() -> Path:
    if os.environ.get(SWITCH, '').strip().lower() in ('0', 'off', 'false', 'no'):
        raise KernelsUnavailableError(f'{SWITCH}={os.environ[SWITCH]} switches them off')
    if platform.machine().lower() not in ('x86_64', 'amd64') or os.name != 'posix':
        raise KernelsUnavailableError(f'not tried on {platform.system()} {platform.machine()}')
    if torch.backends.cpu.get_cpu_capability() not in INSTRUCTIONS:
        raise KernelsUnavailableError('made for CPUs with AVX2 or AVX-512, which this one has not')
    compiler = shlex.split(os.environ.get('CXX', 'c++'))
    folder = cache_folder()
    path = folder / f'kernels-{_digest(compiler)}.so'
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        _compile(compiler, path)
    return path


def cache_folder() -> Path:
    """Where the compiled kernels are kept: `$XDG_CACHE_HOME/c2fdft`, or `~/.cache/c2fdft`."""
    return Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache') / 'c2fdft'


def _digest(compiler: list[str]) -> str:
    """What the compiled library depends on: sources, compiler, flags, and the CPU's features."""
    parts = [(FOLDER / name).read_bytes() for name in SOURCES]
    parts += [' '.join([*compiler, *FLAGS]).encode(), _run([*compiler, '--version']).encode()]
    # What -march=native stands for.
    parts.append(_run([*compiler, '-march=native', '-Q', '--help=target']).encode())
    return hashlib.sha256(b'\0'.join(parts)).hexdigest()[:16]


def _compile(compiler: list[str], path: Path) -> None:
    logging.getLogger(__name__).warning(
        'compiling kernels for this CPU into %s; it takes some seconds, once', path
    )
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        target = Path(folder) / path.name
        _run([*compiler, *FLAGS, str(FOLDER / 'kernels.cpp'), '-o', str(target)])
        os.replace(target, path)


def _run(command: list[str]) -> str:
    try:
        result = subprocess.run(
            command, check=True, capture_output=True, text=True, timeout=COMPILE_SECONDS
        )
    except FileNotFoundError:
        raise KernelsUnavailableError(
            f'no C++ compiler: {command[0]} is not found (the variable CXX names another)'
        ) from None
    except subprocess.TimeoutExpired:
        raise KernelsUnavailableError(f'{command[0]} took over {COMPILE_SECONDS} s') from None
    except subprocess.CalledProcessError as error:
        lines = error.stderr.strip().splitlines() or ['no message']
        text = next((line for line in lines if 'error' in line), lines[0])
        raise KernelsUnavailableError(f'{command[0]} failed: {text}') from None
    return result.stdout
