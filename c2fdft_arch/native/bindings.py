"""The functions of the library, for one dtype."""

import ctypes
import functools
from collections.abc import Callable
from ctypes import POINTER, c_int, c_void_p
from typing import Any

import torch

from c2fdft_arch.native.build import compiled_library
from c2fdft_arch.native.structures import (
    Attention,
    AttentionGradient,
    Convolution,
    Features,
    FeedForward,
    FeedForwardGradient,
    ShuffledView,
)

FORMATS = {torch.float32: 'float32', torch.bfloat16: 'bfloat16'}


class Kernels:
    """Functions by name, as in `kernels.cpp`; `lanes` is the number of floats in a vector.

    `release_memory` frees what the calling thread keeps from call to call.
    """

    def __init__(self, library: ctypes.CDLL, dtype: torch.dtype) -> None:
        self.lanes: int = library.lanes()
        self.release_memory: Callable[[], Any] = library.release_memory
        x, view, conv = POINTER(Features), POINTER(ShuffledView), POINTER(Convolution)
        attention, ffn = POINTER(Attention), POINTER(FeedForward)
        tiles = (c_int, c_int)

        def function(name: str, *arguments: Any) -> Callable[..., None]:
            pointer = c_void_p.in_dll(library, f'{FORMATS[dtype]}_{name}').value
            return ctypes.CFUNCTYPE(None, *arguments)(pointer or 0)

        self.transformer_block = function('transformer_block', x, attention, ffn, *tiles, c_void_p)
        self.attention = function('attention', x, attention, *tiles, *[c_void_p] * 3)
        self.attention_gradient = function(
            'attention_gradient', x, attention, POINTER(AttentionGradient), *[c_void_p] * 3
        )
        self.feed_forward = function('feed_forward', x, ffn, c_void_p, c_void_p)
        self.feed_forward_gradient = function(
            'feed_forward_gradient', x, ffn, POINTER(FeedForwardGradient), c_void_p, c_void_p
        )
        self.convolution = function('convolution', conv, view, view, *tiles)
        self.convolution_weight_gradient = function(
            'convolution_weight_gradient', conv, view, view, c_void_p
        )


def kernels(dtype: torch.dtype, device: torch.device) -> Kernels | None:
    """The kernels for a dtype, or None where PyTorch's operations are to be used.

    Those for bfloat16 need a CPU with AVX512_BF16.
    """
    if device.type != 'cpu' or dtype not in FORMATS:
        return None
    if dtype == torch.bfloat16 and has_matrix_units():
        return None
    library = compiled_library()[0]
    return None if library is None else _bind(library, dtype)


@functools.lru_cache(maxsize=len(FORMATS))
def _bind(library: ctypes.CDLL, dtype: torch.dtype) -> Kernels | None:
    return Kernels(library, dtype) if hasattr(library, f'{FORMATS[dtype]}_attention') else None


def has_matrix_units() -> bool:
    """Whether the CPU has AMX, which PyTorch's bfloat16 products use and the kernels do not."""
    supported = getattr(torch.cpu, '_is_amx_tile_supported', None)
    return supported is not None and supported()
