"""Compiling the C++ sources for this machine, and what the result depends on."""

import hashlib
import os
import platform
import shlex
import signal
import subprocess
import sys
from pathlib import Path

from c2fdft_arch.common.hardware import cpu_flags
from c2fdft_arch.native.errors import KernelsUnavailableError

FOLDER = Path(__file__).resolve().parent / 'csrc'
# No flag that lets infinities or NaNs be ignored: they must come out where they go in.
FLAGS = (
    '-std=c++17', '-O3', '-march=native', '-ffp-contract=fast', '-fno-math-errno',
    '-fno-trapping-math', '-fopenmp', '-shared', '-fPIC',
)  # fmt: skip
MORE_FLAGS = 'C2FDFT_NATIVE_FLAGS'
COMPILE_SECONDS = 1800  # on a busy machine; it takes under a minute of CPU time
# Whether a library can be loaded is tried in another process: one that crashes ends that one.
_LOAD = """
import ctypes, sys
try:
    ctypes.CDLL(sys.argv[1])
except OSError:
    pass
print('survived')
"""
_LOAD_SECONDS = 60


def sources() -> list[Path]:
    """The C++ sources; `kernels.cpp` includes all the others."""
    return sorted([*FOLDER.glob('*.h'), *FOLDER.glob('*.cpp')])


def machine_digest() -> str:
    """What a library depends on beside the compiler: sources, flags, the CPU and the C library."""
    parts = [path.read_bytes() for path in sources()]
    parts += [' '.join(flags()).encode(), ' '.join(sorted(cpu_flags())).encode()]
    parts += [' '.join([platform.machine(), *platform.libc_ver()]).encode()]
    return _digest(parts)


def compiler_digest() -> str:
    """Which compiler it is. Raises KernelsUnavailableError where there is none."""
    command = compiler()
    return _digest([' '.join(command).encode(), _run([*command, '--version']).encode()])


def compile_library(target: Path) -> None:
    """Compile the sources into a file, which has survived being loaded.

    Raises KernelsUnavailableError, with what the compiler said.
    """
    command = compiler()
    _run([*command, *flags(), str(FOLDER / 'kernels.cpp'), '-o', str(target)])
    if sys.executable:
        _check_that_it_loads(command[0], target)


def compiler() -> list[str]:
    """The command of the C++ compiler: `CXX`, or c++. Raises KernelsUnavailableError."""
    return _words('CXX') or ['c++']


def flags() -> list[str]:
    """The compiler's flags, with those of `C2FDFT_NATIVE_FLAGS` at the end."""
    return [*FLAGS, *_words(MORE_FLAGS)]


def _words(variable: str) -> list[str]:
    text = os.environ.get(variable, '')
    try:
        return shlex.split(text)
    except ValueError as error:
        raise KernelsUnavailableError(f'the variable {variable}={text}: {error}') from None


def _digest(parts: list[bytes]) -> str:
    return hashlib.sha256(b'\0'.join(parts)).hexdigest()[:16]


def _check_that_it_loads(compiler: str, library: Path) -> None:
    command = [sys.executable, '-I', '-S', '-c', _LOAD, str(library)]
    try:
        run = subprocess.run(
            command, capture_output=True, stdin=subprocess.DEVNULL, timeout=_LOAD_SECONDS
        )
    except subprocess.TimeoutExpired:
        raise KernelsUnavailableError(
            f'loading what {compiler} compiled took over {_LOAD_SECONDS} s'
        ) from None
    if b'survived' not in run.stdout:
        code = run.returncode
        how = signal.Signals(-code).name if code < 0 else f'exit code {code}'
        raise KernelsUnavailableError(f'what {compiler} compiled ends a process ({how})')


def _run(command: list[str]) -> str:
    try:
        with subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, errors='replace', start_new_session=True,
        ) as process:  # fmt: skip
            try:
                output, errors = process.communicate(timeout=COMPILE_SECONDS)
            except BaseException:
                os.killpg(process.pid, signal.SIGKILL)  # the compiler starts others
                raise
    except FileNotFoundError:
        raise KernelsUnavailableError(
            f'no C++ compiler: {command[0]} is not found (the variable CXX names another)'
        ) from None
    except OSError as error:
        raise KernelsUnavailableError(f'{command[0]} cannot be run: {error.strerror}') from None
    except subprocess.TimeoutExpired:
        raise KernelsUnavailableError(f'{command[0]} took over {COMPILE_SECONDS} s') from None
    if process.returncode:
        lines = errors.strip().splitlines() or ['no message']
        text = next((line for line in lines if 'error' in line), lines[0])
        raise KernelsUnavailableError(f'{command[0]} failed: {text}')
    return output
