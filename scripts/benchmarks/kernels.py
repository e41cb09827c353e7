"""The C++ kernels: seconds to compile them, and what they save over PyTorch's operations.

Compiling is what the first run that needs them does. Then, in turns and in one process: a network
call of an image of `--size` pixels a side, and a forward and a backward pass of 4 patches of 64 x
64 in training, each by the kernels, by PyTorch's operations on the same fused parts (`kernels:
torch`), and in float32 by PlainDFT, layer by layer. In bfloat16 only where the kernels serve it.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks import Figures, fastest_in_turns
from c2fdft_arch.dft import DFT
from c2fdft_arch.native.bindings import kernels
from c2fdft_arch.network.plain_dft import PlainDFT

PATCHES, PATCH = 4, 64
DTYPES = {'fp32': torch.float32, 'bf16': torch.bfloat16}
WAYS = {'kernels': 'auto', 'pytorch': 'torch'}
"""What computes the network, and the setting `kernels` that asks for it."""
LOAD = 'from c2fdft_arch.native.build import compiled_library; print(compiled_library()[1])'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `benchmark.py kernels`."""
    add = parser.add_argument
    add('--size', type=int, default=256, help='sides of the image, a multiple of 8')
    add('--repeat', type=int, default=3, help='timed calls (the fastest)')
    add('--dim', type=int, default=48, help="the network's dim; 48 is full size")


def run(args: argparse.Namespace) -> Figures:
    """Compile, then measure every case and print it; a failure where there are no kernels."""
    compiling = _compile_seconds()
    if compiling is None:
        return {}, False
    print(
        f'compiled in {compiling["cpu_seconds"]:.1f} s of CPU time, {compiling["seconds"]:.1f} s '
        'in all'
    )
    cases = []
    for task, call, size in (
        ('restoring', _restore, (1, args.size)),
        ('training', _train, (PATCHES, PATCH)),
    ):
        for precision, dtype in DTYPES.items():
            if kernels(dtype, torch.device('cpu')) is None:
                print(f'{task} {precision}: there are no kernels for it on this CPU')
                continue
            seconds = fastest_in_turns(_turns(call, precision, args.dim, *size), args.repeat)
            cases.append(_case(task, precision, seconds))
    return {**compiling, 'cases': cases}, True


def _turns(
    call: Callable[..., None], precision: str, dim: int, images: int, side: int
) -> dict[str, Callable[[], None]]:
    torch.manual_seed(0)
    x, t = torch.randn(images, 6, side, side), torch.full((images,), 500)
    network = DFT(dim=dim)
    turns: dict[str, Callable[[], None]] = {
        name: partial(call, network, x, t, precision, way) for name, way in WAYS.items()
    }
    if precision == 'fp32':
        turns['plain'] = partial(call, PlainDFT(dim=dim), x, t, precision, None)
    return turns


def _restore(network: nn.Module, x: Tensor, t: Tensor, precision: str, way: str | None) -> None:
    network.eval()
    with torch.no_grad():
        if way is None:
            network(x, t)
            return
        with network.inference_settings(precision, kernels=way):
            network(x, t)


def _train(network: nn.Module, x: Tensor, t: Tensor, precision: str, way: str | None) -> None:
    network.train()
    if way is not None:
        network.kernels = way
    with torch.autocast('cpu', torch.bfloat16, enabled=precision == 'bf16'):
        loss = network(x, t).abs().mean()
    network.zero_grad(set_to_none=True)
    loss.backward()


def _case(task: str, precision: str, seconds: dict[str, float]) -> dict[str, Any]:
    of_kernels = seconds['kernels']
    ratios = {way: taken / of_kernels for way, taken in seconds.items() if way != 'kernels'}
    told = ', '.join(f'{way} {ratio:.2f} times' for way, ratio in ratios.items())
    print(f'{task} {precision}: {of_kernels:.3f} s by the kernels; {told} as long')
    times = {f'{way}_times': ratio for way, ratio in ratios.items()}
    return {'task': task, 'precision': precision, 'seconds': seconds, **times}


def _compile_seconds() -> dict[str, float] | None:
    """Compile into an empty folder, then load: the difference. None if nothing was compiled."""
    with tempfile.TemporaryDirectory() as folder:
        compiling = _load(folder)
        if not any(Path(folder).rglob('*.so')):
            return None
        loading = _load(folder)
    return {key: compiling[key] - loading[key] for key in compiling}


def _load(cache: str) -> dict[str, float]:
    environment = {**os.environ, 'XDG_CACHE_HOME': cache, 'C2FDFT_NATIVE': '1'}
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run([sys.executable, '-c', LOAD], env=environment, check=True)
    seconds = time.monotonic() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {'cpu_seconds': used, 'seconds': seconds}
