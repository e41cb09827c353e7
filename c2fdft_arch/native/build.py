"""Finding, compiling and caching the library of kernels.

Without a compiler, or on a machine that they do not suit, PyTorch's operations serve;
`C2FDFT_NATIVE=0` in the environment switches the kernels off.
"""

import ctypes
import functools
import hashlib
import logging
import os
import platform
import shlex
import subprocess
import tempfile
from pathlib import Path

import torch

from c2fdft_arch.common.errors import C2FDFTError
from c2fdft_arch.common.messages import is_switched_off

SWITCH = 'C2FDFT_NATIVE'
FOLDER = Path(__file__).resolve().parent / 'csrc'
# No flag that lets infinities or NaNs be ignored: they must come out where they go in.
FLAGS = (
    '-std=c++17', '-O3', '-march=native', '-ffp-contract=fast', '-fno-math-errno',
    '-fno-trapping-math', '-fopenmp', '-shared', '-fPIC',
)  # fmt: skip
COMPILE_SECONDS = 300
INSTRUCTIONS = ('AVX2', 'AVX512')  # as PyTorch names what a CPU has


class KernelsUnavailableError(C2FDFTError, RuntimeError):
    """The kernels cannot be used here; the text says why."""


@functools.cache
def compiled_library() -> tuple[ctypes.CDLL | None, str]:
    """The library, compiled if it has not been, or None; and where it is, or why there is none."""
    try:
        path = _find_or_compile()
        return ctypes.CDLL(str(path)), str(path)
    except (KernelsUnavailableError, OSError) as error:
        logging.getLogger(__name__).info('the kernels in C++ are not used: %s', error)
        return None, str(error)


def sources() -> list[Path]:
    """The C++ sources; `kernels.cpp` includes all the others."""
    return sorted([*FOLDER.glob('*.h'), *FOLDER.glob('*.cpp')])


def cache_folder() -> Path:
    """Where the compiled kernels are kept: `$XDG_CACHE_HOME/c2fdft`, or `~/.cache/c2fdft`."""
    return Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache') / 'c2fdft'


def _find_or_compile() -> Path:
    if is_switched_off(SWITCH):
        raise KernelsUnavailableError(f'{SWITCH}={os.environ[SWITCH]} switches them off')
    if platform.machine().lower() not in ('x86_64', 'amd64') or os.name != 'posix':
        raise KernelsUnavailableError(f'not tried on {platform.system()} {platform.machine()}')
    if torch.backends.cpu.get_cpu_capability() not in INSTRUCTIONS:
        raise KernelsUnavailableError('this CPU has neither AVX2 nor AVX-512')
    compiler = shlex.split(os.environ.get('CXX', 'c++'))
    path = cache_folder() / f'kernels-{_digest(compiler)}.so'
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        _compile(compiler, path)
    return path


def _digest(compiler: list[str]) -> str:
    """What the compiled library depends on: sources, compiler, flags, and the CPU's features."""
    parts = [path.read_bytes() for path in sources()]
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
