"""A Transformer block evaluated on a CPU by the kernels in C++: what `strip_block` does, faster."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from c2fdft_arch.attention_matrices import attention_matrix, mixing_matrix
from c2fdft_arch.native import Kernels
from c2fdft_arch.native.structures import Features, FirstPass, Norm, SecondPass, WeightShape
from c2fdft_arch.plain_dft import ChannelNorm, DiffusionTransformerBlock
from c2fdft_arch.strips import Stack

# Widest piece of an image, so that some rows of it stay in a core's cache.
PIECE_WIDTH = 126
# Rows of a piece, at least: two more are computed twice.
PIECE_ROWS = 8
PIECES_PER_THREAD = 4


class NativeWeights:
    """Makes weights ready for the kernels, on a stack."""

    def __init__(self, kernels: Kernels, stack: Stack) -> None:
        self.kernels = kernels
        self.stack = stack

    def packed(self, weight: Tensor, groups: int = 1) -> Tensor:
        """A weight (out, in) or (out, in, taps) laid out; output channels in equal groups."""
        weight = weight if weight.dim() == 3 else weight[:, :, None]
        shape = WeightShape(*weight.shape[:2], groups, weight.shape[2])
        size = self.kernels.packed_bytes(ctypes.byref(shape))
        result = self.stack.push((size,), torch.uint8)
        strides = (ctypes.c_long * 3)(*weight.stride())
        self.kernels.pack(address(weight), strides, ctypes.byref(shape), address(result))
        return result

    def padded(self, parameter: Tensor | None, channels: int, groups: int = 1) -> Tensor:
        """Numbers of channels (groups * C), or None for zeros; each group padded with zeros."""
        result = torch.zeros(groups, round_up(channels // groups, self.kernels.lanes))
        if parameter is not None:
            result[:, : channels // groups] = parameter.detach().view(groups, -1)
        return result


def round_up(n: int, multiple: int) -> int:
    """The smallest multiple that is not less than n."""
    return -(-n // multiple) * multiple


def pieces(images: int, height: int, width: int) -> tuple[int, int]:
    """(columns, bands): how images are cut into pieces, some for each thread."""
    columns = -(-width // PIECE_WIDTH)
    wanted = -(-PIECES_PER_THREAD * torch.get_num_threads() // (images * columns))
    return columns, max(1, min(height // PIECE_ROWS, wanted))


def address(tensor: Tensor) -> int:
    """Where a tensor's numbers begin."""
    return tensor.data_ptr()


class NativeBlock:
    """A block made ready for the kernels; `shift` is T (C,), one for all images, or None."""

    def __init__(
        self, block: DiffusionTransformerBlock, shift: Tensor | None, weights: NativeWeights
    ) -> None:
        self.kernels, self.weights = weights.kernels, weights
        self.attention, ffn = block.attn, block.ffn
        attention = block.attn
        hidden, c = ffn.project_in.weight.shape[:2]
        kernel = attention.qkv_dwconv.weight.view(3 * c, 9)
        # Whatever the kernels read by address is kept here, so that it lives as long as they do.
        self.kept = {
            'qkv': weights.packed(attention.qkv.weight.flatten(1), groups=3),
            'qkv_bias': weights.padded(attention.qkv.bias, 3 * c, groups=3),
            'kernel': torch.stack([weights.padded(tap, 3 * c, groups=3) for tap in kernel.t()]),
            'kernel_bias': weights.padded(attention.qkv_dwconv.bias, 3 * c, groups=3),
            'mixing_bias': weights.padded(attention.project_out.bias, c),
            'expand': weights.packed(ffn.project_in.weight.flatten(1)),
            'expand_bias': weights.padded(ffn.project_in.bias, hidden),
            'contract': weights.packed(ffn.project_out.weight.flatten(1)),
            'contract_bias': weights.padded(ffn.project_out.bias, c),
        }
        self.first = FirstPass(heads=attention.heads, norm=self.norm('1', block.norm1, shift))
        self.second = SecondPass(hidden=hidden, norm=self.norm('2', block.norm2, shift))
        for name in ('qkv', 'qkv_bias', 'kernel', 'kernel_bias'):
            setattr(self.first, name, address(self.kept[name]))
        for name in ('mixing_bias', 'expand', 'expand_bias', 'contract', 'contract_bias'):
            setattr(self.second, name, address(self.kept[name]))

    def norm(self, name: str, norm: ChannelNorm, shift: Tensor | None) -> Norm:
        weight, bias = norm.body.weight, norm.body.bias
        parts = [part for part in (bias, shift) if part is not None]
        offset = torch.stack(parts).sum(0) if parts else None
        scale = self.kept[f'scale{name}'] = self.weights.padded(weight, len(weight))
        moved = self.kept[f'offset{name}'] = self.weights.padded(offset, len(weight))
        return Norm(address(scale), address(moved), bias is not None)

    def __call__(self, x: Tensor, values: Tensor) -> None:
        """Apply the block to feature maps x (B, H, W, C) in float32, in place.

        Pixels may lie apart, but rows follow each other. `values` (B, H * W, C), in the kernels'
        number format, is memory for the values of all pixels.
        """
        images, height, width, channels = x.shape
        features = Features(address(x), x.stride(0), x.stride(2), *x.shape)
        products, squares = self.attention_sums(features, values)
        weights = attention_matrix(products, squares, self.attention.temperature)
        mixing = mixing_matrix(weights, self.attention.project_out.weight)
        with self.weights.stack.frame():
            packed = [self.weights.packed(matrix.t()) for matrix in mixing]
            together = packed[0] if images == 1 else torch.stack(packed)
            self.second.mixing = address(together)
            self.second.mixing_vectors = len(packed[0]) // (4 * self.kernels.lanes)
            self.kernels.second_pass(
                ctypes.byref(features), ctypes.byref(self.second), address(values)
            )

    def attention_sums(self, features: Features, values: Tensor) -> tuple[Tensor, Tensor]:
        """The first pass: q^T k (B, heads, c, c) and the squares of q and k (2, B, heads, c)."""
        images, channels, heads = features.images, features.channels, self.attention.heads
        columns, bands = pieces(images, features.height, features.width)
        width, kernels = channels // heads, self.kernels
        rows, row = round_up(width, kernels.tile_rows), round_up(width, kernels.panel)
        products = torch.zeros(images, columns * bands, heads, rows, row)
        squares = torch.zeros(images, columns * bands, 2, round_up(channels, kernels.lanes))
        kernels.first_pass(
            ctypes.byref(features), ctypes.byref(self.first), columns, bands,
            address(values), address(products), address(squares),
        )  # fmt: skip
        of_heads = squares.sum(1)[:, :, :channels].unflatten(2, (heads, width))
        return products.sum(1)[..., :width, :width], of_heads.transpose(0, 1)
