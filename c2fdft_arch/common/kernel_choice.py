"""What computes the network on a device: the setting `kernels` of training and restoring."""

from __future__ import annotations

import functools
import importlib.util
import os
import shlex
import shutil
from typing import Literal, get_args

import torch

from c2fdft_arch.common.messages import nearest
from c2fdft_arch.common.option_parsing import OptionError

Kernels = Literal['auto', 'torch', 'triton', 'compile']
KERNELS = get_args(Kernels)

FASTEST: dict[tuple[str, str], Kernels] = {
    ('NVIDIA H200', 'training'): 'triton',
    ('NVIDIA H200', 'inference'): 'triton',
}
"""What was measured to be fastest: (name of the GPU, 'training' or 'inference') -> kernels.

By `scripts/benchmark.py gpu`; the figures are in docs/measurements. On other GPUs `auto` uses
PyTorch's operations."""


def chosen_kernels(kernels: str, device: torch.device, task: str) -> Kernels:
    """`torch`, `triton` or `compile` for the setting `kernels`; `task`: training or inference.

    On a CPU `auto` is `torch`, with the kernels in C++ in front of PyTorch's operations. Raises
    OptionError as `check_kernels` does.
    """
    check_kernels(kernels, device)
    if kernels != 'auto':
        return kernels  # type: ignore[return-value]
    if device.type != 'cuda':
        return 'torch'
    fastest = FASTEST.get((torch.cuda.get_device_name(device), task), 'torch')
    return fastest if fastest != 'triton' or triton_is_installed() else 'torch'


def check_kernels(kernels: str, device: torch.device) -> None:
    """Raise OptionError if `kernels` does not exist or cannot be used on a device."""
    if kernels not in KERNELS:
        raise OptionError(
            f'kernels: {kernels!r} is not allowed{nearest(str(kernels), KERNELS)}. '
            f'Allowed: {", ".join(KERNELS)}.'
        )
    missing = {'triton': _missing_for_triton, 'compile': _missing_for_compile}.get(kernels)
    reason = missing(device) if missing else ''
    if reason:
        raise OptionError(f'kernels: {kernels} cannot be used: {reason}. Allowed: auto, torch.')


def check_precision(precision: str, device: torch.device, key: str) -> None:
    """Raise OptionError naming `key` if bfloat16 is asked for on a GPU that does not compute it."""
    if precision == 'bf16' and device.type == 'cuda' and not torch.cuda.is_bf16_supported():
        raise OptionError(
            f'{key}: bf16 cannot be used: {torch.cuda.get_device_name(device)} does not compute '
            f'bfloat16. Allowed: {"off" if key == "amp" else "auto, fp32"}.'
        )


@functools.cache
def triton_is_installed() -> bool:
    """Whether Triton can be imported."""
    return importlib.util.find_spec('triton') is not None


def interpreted() -> bool:
    """Whether Triton's interpreter runs the kernels, on the CPU (TRITON_INTERPRET=1)."""
    return os.environ.get('TRITON_INTERPRET', '') == '1'


def _missing_for_triton(device: torch.device) -> str:
    if not triton_is_installed():
        return 'Triton is not installed (CUDA builds of PyTorch bring it)'
    if device.type == 'cuda' or (device.type == 'cpu' and interpreted()):
        return ''
    return f'Triton needs a CUDA GPU, and the device is {device.type}'


def _missing_for_compile(device: torch.device) -> str:
    if device.type == 'cuda':
        return '' if triton_is_installed() else 'torch.compile needs Triton, which is not installed'
    compilers = [shlex.split(os.environ['CXX'])[0]] if os.environ.get('CXX') else ['g++', 'c++']
    if any(map(shutil.which, compilers)):
        return ''
    return f'torch.compile needs a C++ compiler, and {" or ".join(compilers)} is not found'
