"""What is measured: networks, training iterations and network calls, each by its way of computing.

A way is called by what computes and the dtype of matrix products, such as `triton bf16`: `plain` is
PlainDFT, layer by layer; `torch` and `triton` are DFT with those kernels.
"""

import contextlib
import functools
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from benchmarks.gpu.lines import Setting
from benchmarks.train import stage_of
from c2fdft_arch.dft import DFT
from c2fdft_arch.inference.memory_plan import MemoryPlan
from c2fdft_arch.inference.row_bands import Stack, Workspace
from c2fdft_arch.inference.settings import InferenceSettings
from c2fdft_arch.network.plain_dft import PlainDFT
from c2fdft_arch.training.block import apply_block
from c2fdft_model.training.ema import ModelEMA
from c2fdft_model.training.step import (
    accumulate_gradients,
    fused_if_possible,
    gradient_norm,
    step_if_finite,
)

GIB = 2**30


def options_of(setting: Setting) -> dict[str, Any]:
    """The network's options: the full size, or one block a level where it is only tried."""
    return {'dim': setting.dim} | ({'num_blocks': [1, 1, 1, 1]} if setting.small else {})


def network_of(setting: Setting, kernels: str) -> PlainDFT:
    """A network with random weights, the same ones for every way of computing."""
    with torch.device(setting.device):
        network = (PlainDFT if kernels == 'plain' else DFT)(**options_of(setting))
    network.load_state_dict(_weights(setting))
    if kernels != 'plain':
        network.kernels = kernels
    return network


@functools.cache
def _weights(setting: Setting) -> dict[str, Tensor]:
    torch.manual_seed(0)
    with torch.device(setting.device):
        network = PlainDFT(**options_of(setting))
    return {n: p + 0.02 * torch.randn_like(p) for n, p in network.state_dict().items()}


def batch_of(setting: Setting, count: int, side: int | tuple[int, int]) -> tuple[Tensor, ...]:
    """Random images, noise and timesteps."""
    height, width = side if isinstance(side, tuple) else (side, side)
    generator = torch.Generator().manual_seed(1)
    lq, gt = (torch.rand(count, 3, height, width, generator=generator) for _ in range(2))
    eps = torch.randn(count, 3, height, width, generator=generator)
    t = torch.arange(count) * 7 % 1000
    return tuple(x.to(setting.device) for x in (lq, gt, eps, t))


class Trainer:
    """One network that is trained, as `C2FDFTModel` does it (`plain`: with a plain AdamW)."""

    def __init__(
        self, setting: Setting, kernels: str, stage: str, bf16: bool, compiled: bool = False
    ) -> None:
        self.network = network_of(setting, kernels)
        self.parameters = list(self.network.parameters())
        self.stage = stage_of(self.network, stage, bf16=bf16, compiled=compiled)
        build = torch.optim.AdamW if kernels == 'plain' else fused_if_possible
        given = (self.parameters,) if kernels == 'plain' else (torch.optim.AdamW, self.parameters)
        self.optimizer = build(*given, lr=1e-5)
        self.ema = ModelEMA(network_of(setting, kernels), self.network, 0.999)
        self.never = torch.zeros((), device=setting.device)

    def iterate(self, batch: tuple[Tensor, ...], parts: int = 1) -> None:
        """One iteration."""
        self.optimizer.zero_grad(set_to_none=True)
        accumulate_gradients(self.stage, batch, parts)
        gradient_norm(self.parameters)
        step_if_finite(self.never, self.optimizer, self.ema, 1)


@contextlib.contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """Whether float32 products and convolutions may use TF32."""
    flags = torch.backends.cuda.matmul, torch.backends.cudnn
    before = [flag.allow_tf32 for flag in flags]
    for flag in flags:
        flag.allow_tf32 = allowed
    try:
        yield
    finally:
        for flag, value in zip(flags, before, strict=True):
            flag.allow_tf32 = value


def synchronize(setting: Setting) -> None:
    """Wait for the device."""
    if setting.device != 'cpu':
        torch.cuda.synchronize()


def seconds(setting: Setting, call: Callable[[], object], repeat: int = 5, warm: int = 2) -> float:
    """The median time of a call after some untimed ones."""
    for _ in range(1 if setting.small else warm):
        call()
    times = []
    for _ in range(1 if setting.small else repeat):
        synchronize(setting)
        began = time.perf_counter()
        call()
        synchronize(setting)
        times.append(time.perf_counter() - began)
    return sorted(times)[len(times) // 2]


def peak_gib(setting: Setting, call: Callable[[], object]) -> float:
    """What a call needs on the GPU beyond what is there before it, in GiB."""
    if setting.device == 'cpu':
        call()
        return 0.0
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    call()
    torch.cuda.synchronize()
    return (torch.cuda.max_memory_allocated() - before) / GIB


LEVELS = ('encoder_level1', 'decoder_level1', 'encoder_level2', 'encoder_level3', 'latent')


def compile_kernels(setting: Setting, precision: str, level: str, training: bool) -> None:
    """Run the first block of a level once, which compiles Triton's kernels for it."""
    # Without Triton this module must be importable.
    from c2fdft_arch.inference.triton_network import TritonEvaluation
    from c2fdft_arch.training.triton_branches import TritonTraining

    network = network_of(setting, 'triton')
    block = getattr(network, level)[0]
    channels = len(block.norm1.body.weight)
    x = torch.randn(1, 32, 64, 2 * channels, device=setting.device)
    dtype = torch.bfloat16 if precision == 'bf16' else torch.float32
    if training:
        features = x[..., :channels].clone().requires_grad_()
        shift = torch.zeros(1, channels, device=setting.device)
        apply_block(block, features, shift, TritonTraining(dtype)).sum().backward()
        return
    settings = InferenceSettings(precision, kernels='triton')
    plan = MemoryPlan(
        network.dim, network.ffn_factor, 32, 64, settings, torch.device(setting.device)
    )
    t = torch.zeros(1, device=setting.device)
    evaluation = TritonEvaluation(network, t, plan, Workspace())
    evaluation.stack = Stack(torch.empty(0, dtype=torch.uint8, device=setting.device))
    values = torch.empty(1, 32 * 64, channels, dtype=dtype, device=setting.device)
    for features in (x[..., channels:], x[..., :channels].clone()):
        with torch.no_grad():
            evaluation.apply(block, features, values, 32 * 64)
