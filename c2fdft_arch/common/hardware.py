"""What the machine can do."""

import functools
import os
import platform
from pathlib import Path

import torch


@functools.cache
def has_fast_bf16(device_type: str) -> bool:
    """Whether the device multiplies bfloat16 matrices in hardware, faster than float32 ones.

    On a CPU these are AMX and AVX512_BF16 (x86); on a GPU, CUDA with compute capability 8.0 or
    more. Anything else, and what cannot be found out, is False.
    """
    if device_type == 'cuda':
        return torch.cuda.get_device_capability() >= (8, 0) and torch.cuda.is_bf16_supported()
    if device_type == 'cpu' and torch.backends.mkldnn.is_available():
        return bool({'amx_bf16', 'avx512_bf16'} & cpu_flags())
    return False


def matmul_dtype(dtype: torch.dtype, device_type: str) -> torch.dtype:
    """The dtype in which the network computes matrix products where `dtype` is asked for.

    float32 instead of bfloat16 on a CPU that does not multiply it in hardware: emulating bfloat16
    would take many times as long.
    """
    emulated = device_type == 'cpu' and dtype == torch.bfloat16 and not has_fast_bf16(device_type)
    return torch.float32 if emulated else dtype


def cpu_flags() -> set[str]:
    """The feature flags of the first CPU as Linux names them; empty elsewhere."""
    return set(_cpu_info('flags').split())


def description() -> dict[str, str | int]:
    """The CPU, its cores and the vector instructions that the kernels use, the GPU and PyTorch."""
    flags = cpu_flags()
    vectors = {'avx512_bf16': 'AVX512-BF16', 'avx512f': 'AVX-512', 'avx2': 'AVX2'}
    found: dict[str, str | int] = {
        'cpu': _cpu_info('model name') or platform.processor() or platform.machine(),
        'cores': os.cpu_count() or 1,
        'vectors': next((name for flag, name in vectors.items() if flag in flags), 'none'),
        'torch': torch.__version__,
    }
    if torch.cuda.is_available():
        found['gpu'] = torch.cuda.get_device_name()
    return found


def _cpu_info(key: str) -> str:
    """An entry of the first CPU in Linux's list; empty elsewhere."""
    try:
        lines = Path('/proc/cpuinfo').read_text().splitlines()
    except OSError:
        return ''
    return next((line.partition(':')[2].strip() for line in lines if line.startswith(key)), '')
