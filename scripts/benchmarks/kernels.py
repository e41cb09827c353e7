"""Seconds to compile the C++ kernels for this machine, as the first run that needs them does."""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import Figures

LOAD = 'from c2fdft_arch.native.build import compiled_library; print(compiled_library()[1])'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """This benchmark has no options."""


def run(args: argparse.Namespace) -> Figures:
    """Compile into an empty folder, then load; the difference is the compilation."""
    with tempfile.TemporaryDirectory() as folder:
        compiling = _load(folder)
        if not any(Path(folder).rglob('*.so')):
            return {}, False
        loading = _load(folder)
    figures = {key: compiling[key] - loading[key] for key in compiling}
    print(
        f'compiled in {figures["cpu_seconds"]:.1f} s of CPU time, {figures["seconds"]:.1f} s in all'
    )
    return dict(figures), True


def _load(cache: str) -> dict[str, float]:
    environment = {**os.environ, 'XDG_CACHE_HOME': cache, 'C2FDFT_NATIVE': '1'}
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run([sys.executable, '-c', LOAD], env=environment, check=True)
    seconds = time.monotonic() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {'cpu_seconds': used, 'seconds': seconds}
