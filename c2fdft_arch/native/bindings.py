"""The functions of the library, for one dtype, as functions of tensors.

Nothing wrong can be passed to them: `arguments` checks each tensor. They are called by ctypes,
which needs nothing but the library. As operators of PyTorch (TORCH_LIBRARY) they would have to be
compiled against its headers, with its ABI, anew for every version of it.
"""

import ctypes
import functools
from ctypes import POINTER, c_int, c_long, c_void_p
from typing import Any

import torch
from torch import Tensor

from c2fdft_arch.native import arguments
from c2fdft_arch.native.arguments import address
from c2fdft_arch.native.build import compiled_library
from c2fdft_arch.native.errors import KernelCallError
from c2fdft_arch.native.layout import CHUNK_PIXELS, tile_grid
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
_X, _VIEW, _CONV, _ATTENTION = map(POINTER, (Features, ShuffledView, Convolution, Attention))
_FFN, _TILES = POINTER(FeedForward), (c_int, c_int)
SIGNATURES: dict[str, tuple[Any, ...]] = {
    'transformer_block': (_X, _ATTENTION, _FFN, *_TILES, c_void_p),
    'attention': (_X, _ATTENTION, *_TILES, *[c_void_p] * 3),
    'attention_gradient': (_X, _ATTENTION, POINTER(AttentionGradient), *[c_void_p] * 3),
    'feed_forward': (_X, _FFN, c_void_p, c_void_p),
    'feed_forward_gradient': (_X, _FFN, POINTER(FeedForwardGradient), c_void_p, c_void_p),
    'convolution': (_CONV, _VIEW, _VIEW, *_TILES),
    'convolution_weight_gradient': (_CONV, _VIEW, _VIEW, c_void_p),
}


class Kernels:
    """The functions in `kernels.cpp` for a dtype; `lanes` is the number of floats in a vector.

    They raise KernelCallError for a wrong tensor, and MemoryError if there is too little memory.
    Structures come from `arguments`. x are feature maps (B, H, W, C) in float32.
    """

    def __init__(self, library: ctypes.CDLL, dtype: torch.dtype) -> None:
        self.lanes: int = library.lanes()
        self.dtype = dtype
        self._functions = {
            name: ctypes.CFUNCTYPE(c_int, c_int, *signature)(
                c_void_p.in_dll(library, f'{FORMATS[dtype]}_{name}').value or 0
            )
            for name, signature in SIGNATURES.items()
        }

    def transformer_block(
        self, x: Tensor, attention: Attention, ffn: FeedForward, values: Tensor
    ) -> None:
        """Apply a block in place; `values` (B, H * W, C) is memory for those of all pixels."""
        self._call(
            'transformer_block', arguments.features(x), attention, ffn, *tile_grid(*x.shape[:3]),
            arguments.values(x, values, self.dtype),
        )  # fmt: skip

    def attention(
        self, x: Tensor, attention: Attention, queries_keys: Tensor, values: Tensor, out: Tensor
    ) -> None:
        """The attention half, in training; all but x is written."""
        self._check_vectors(x, x.shape[3] // attention.heads)
        self._call(
            'attention', arguments.features(x), attention, *tile_grid(*x.shape[:3]),
            arguments.queries_keys(x, queries_keys, self.dtype),
            arguments.values(x, values, self.dtype), address('out', out, *x.shape),
        )  # fmt: skip

    def attention_gradient(
        self, x: Tensor, attention: Attention, gradient: AttentionGradient, queries_keys: Tensor,
        values: Tensor, d_out: Tensor,
    ) -> None:  # fmt: skip
        """The gradients of `attention`, given what it has written."""
        self._check_vectors(x, x.shape[3] // attention.heads)
        self._call(
            'attention_gradient', arguments.features(x), attention, gradient,
            arguments.queries_keys(x, queries_keys, self.dtype),
            arguments.values(x, values, self.dtype), address('d_out', d_out, *x.shape),
        )  # fmt: skip

    def feed_forward(self, x: Tensor, ffn: FeedForward, before_gelu: Tensor, out: Tensor) -> None:
        """The feed-forward half, in training; writes the last two."""
        self._call(
            'feed_forward', arguments.features(x), ffn, self._before_gelu(x, ffn, before_gelu),
            address('out', out, *x.shape),
        )  # fmt: skip

    def feed_forward_gradient(
        self, x: Tensor, ffn: FeedForward, gradient: FeedForwardGradient, before_gelu: Tensor,
        d_out: Tensor,
    ) -> None:  # fmt: skip
        """The gradients of `feed_forward`, given what it has written."""
        self._call(
            'feed_forward_gradient', arguments.features(x), ffn, gradient,
            self._before_gelu(x, ffn, before_gelu), address('d_out', d_out, *x.shape),
        )  # fmt: skip

    def convolution(self, conv: Convolution, x: ShuffledView, out: ShuffledView) -> None:
        """A 3x3 convolution of x into `out`."""
        self._call('convolution', conv, x, out, *tile_grid(conv.images, conv.height, conv.width))

    def convolution_weight_gradient(
        self, conv: Convolution, x: ShuffledView, d_out: ShuffledView, d_weight: Tensor
    ) -> None:
        """The gradient of the weight (C', C, 3, 3) of `convolution`."""
        shape = conv.outputs, conv.channels, 3, 3
        self._call(
            'convolution_weight_gradient', conv, x, d_out, address('d_weight', d_weight, *shape)
        )

    def _call(self, name: str, *given: Any) -> None:
        if self._functions[name](torch.get_num_threads(), *given):
            raise MemoryError(f'out of memory: the kernel {name} needs more to work with')

    def _before_gelu(self, x: Tensor, ffn: FeedForward, before_gelu: Tensor) -> int:
        self._check_vectors(x, x.shape[3], ffn.hidden)
        chunks = -(-x[..., 0].numel() // CHUNK_PIXELS)
        shape = chunks, CHUNK_PIXELS, ffn.hidden
        return address('before_gelu', before_gelu, *shape, dtype=self.dtype)

    def _check_vectors(self, x: Tensor, *channels: int) -> None:
        """Training's kernels take whole vectors of contiguous feature maps."""
        address('x', x, *x.shape)
        if any(count % self.lanes for count in channels):
            raise KernelCallError(
                f'kernels: {channels} channels given; multiples of {self.lanes} are needed'
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


def scratch_bytes() -> int:
    """What the kernels keep from call to call, in all threads together."""
    return _of_library('scratch_bytes', c_long, 0)


def release_scratch() -> None:
    """Free what the kernels keep from the calls of this thread."""
    _of_library('release_scratch', None, None)


def _of_library(name: str, result: Any, otherwise: Any) -> Any:
    """What a function of the library gives, if the library is in use."""
    library = compiled_library()[0] if compiled_library.cache_info().currsize else None
    if library is None:
        return otherwise
    function = getattr(library, name)
    function.restype = result
    return function()


def has_matrix_units() -> bool:
    """Whether the CPU has AMX, which PyTorch's bfloat16 products use and the kernels do not."""
    supported = getattr(torch.cpu, '_is_amx_tile_supported', None)
    return supported is not None and supported()
