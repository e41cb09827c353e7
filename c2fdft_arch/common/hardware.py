"""What the machine can do."""

import functools
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
    try:
        lines = Path('/proc/cpuinfo').read_text().splitlines()
    except OSError:
        return set()
    return next((set(line.split()) for line in lines if line.startswith('flags')), set())
