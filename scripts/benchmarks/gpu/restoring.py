"""Network calls in restoring: seconds, memory, and share of a large matrix product's rate."""

import functools
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from benchmarks.gpu.lines import Setting, Step
from benchmarks.gpu.subjects import GIB, network_of, options_of, peak_gib, seconds, tf32
from c2fdft_arch.network.plain_dft import PlainDFT
from c2fdft_model.experiments.costs import count_flops

SIZES = [(512, 512), (256, 256), (1024, 1024), (2160, 3840)]
PLAIN_PIXELS = 1024 * 1024
GEMM_SIDE = 8192


def steps(setting: Setting) -> Iterator[tuple[str, Step]]:
    """The matrix product's rates, then one line for each size, way and precision."""
    for precision in ('bf16', 'fp32'):
        yield f'matrix product {precision}', functools.partial(product_rate, setting, precision)
    yield 'copy', functools.partial(copy_rate, setting)
    for height, width in [(16, 24)] if setting.small else SIZES:
        for precision in ('bf16', 'fp32'):
            for kernels in ('plain', *setting.kernels):
                if kernels == 'plain' and height * width > PLAIN_PIXELS:
                    continue
                name = f'{height} x {width} {kernels} {precision}'
                yield name, functools.partial(call, setting, height, width, kernels, precision)


def product_rate(setting: Setting, precision: str) -> Mapping[str, Any]:
    """TFLOP/s of a large product of random matrices (float32 with TF32)."""
    side = 256 if setting.small else GEMM_SIDE
    dtype = torch.bfloat16 if precision == 'bf16' else torch.float32
    a, b = (torch.randn(side, side, device=setting.device).to(dtype) for _ in range(2))
    with tf32(True):
        time = seconds(setting, lambda: a @ b, repeat=10, warm=3)
    return {'tflops': 2 * side**3 / time / 1e12}


def copy_rate(setting: Setting) -> Mapping[str, Any]:
    """GB/s of a copy on the device, bytes read and written."""
    source = torch.rand((1 if setting.small else 512) * 2**20, device=setting.device)
    target = torch.empty_like(source)
    time = seconds(setting, lambda: target.copy_(source), repeat=10)
    return {'gb_per_s': 2 * source.nbytes / time / 1e9}


@torch.no_grad()
def call(
    setting: Setting, height: int, width: int, kernels: str, precision: str
) -> Mapping[str, Any]:
    """One network call at an image's size."""
    network = network_of(setting, kernels).eval()
    x = torch.randn(1, 6, height, width, device=setting.device)
    t = torch.zeros(1, device=setting.device)
    flops = count_flops(PlainDFT(**options_of(setting)), (x, t))
    with tf32(True):
        if kernels == 'plain':
            autocast = torch.autocast(x.device.type, torch.bfloat16, enabled=precision == 'bf16')
            with autocast:
                return _figures(setting, lambda: network(x, t), flops)
        with network.inference_settings(precision, kernels=kernels):
            return _figures(setting, lambda: network(x, t), flops)


def _figures(setting: Setting, evaluate: Any, flops: int) -> Mapping[str, Any]:
    evaluate()
    memory = peak_gib(setting, evaluate)
    time = seconds(setting, evaluate, repeat=10)
    figures = {'seconds': time, 'peak_gib': memory, 'tflops': flops / time / 1e12}
    if setting.device != 'cpu':
        figures['allocated_gib'] = torch.cuda.max_memory_allocated() / GIB
    return figures
