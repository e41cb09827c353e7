"""A Transformer block evaluated on a CPU by the kernels in C++: what `strip_block` does, faster."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from c2fdft_arch.inference.row_bands import Stack
from c2fdft_arch.native import Kernels
from c2fdft_arch.native.layout import address, pieces, round_up
from c2fdft_arch.native.structures import (
    Features,
    FirstPass,
    Mixing,
    Norm,
    SecondPass,
    WeightShape,
    WeightStrides,
)
from c2fdft_arch.network.plain_dft import ChannelNorm, DiffusionTransformerBlock


class NativeWeights:
    """Makes weights ready for the kernels, on a stack."""

    def __init__(self, kernels: Kernels, stack: Stack) -> None:
        self.kernels = kernels
        self.stack = stack

    def packed(self, weight: Tensor, groups: int = 1) -> Tensor:
        """A weight (out, in), its outputs in groups, or (groups, out, in, taps), laid out."""
        if weight.dim() == 2:
            weight = weight.unflatten(0, (groups, -1))[..., None]
        groups, outputs, inputs, taps = weight.shape
        shape = WeightShape(groups * outputs, inputs, groups, taps)
        result = self.stack.push((self.kernels.packed_bytes(ctypes.byref(shape)),), torch.uint8)
        strides = WeightStrides(*weight.stride())
        self.kernels.pack(
            address(weight), ctypes.byref(strides), ctypes.byref(shape), address(result)
        )
        return result

    def padded(self, parameter: Tensor | None, channels: int, groups: int = 1) -> Tensor:
        """Numbers of channels (groups * C), or None for zeros; each group padded with zeros.

        What needs no padding is not copied.
        """
        own = channels // groups
        if parameter is not None and own % self.kernels.lanes == 0:
            return parameter.detach().contiguous()
        result = torch.zeros(groups, round_up(own, self.kernels.lanes))
        if parameter is not None:
            result[:, :own] = parameter.detach().view(groups, -1)
        return result


class NativeBlock:
    """A block made ready for the kernels; `shift` is T (C,), one for all images, or None."""

    def __init__(
        self, block: DiffusionTransformerBlock, shift: Tensor | None, weights: NativeWeights
    ) -> None:
        self.kernels, self.weights = weights.kernels, weights
        attention, ffn = block.attn, block.ffn
        hidden, c = ffn.project_in.weight.shape[:2]
        kernel = attention.qkv_dwconv.weight.detach().view(3 * c, 9).t().contiguous()
        # Whatever the kernels read by address is kept here, so that it lives as long as they do.
        self.kept = {
            'qkv': weights.packed(attention.qkv.weight.flatten(1), groups=3),
            'qkv_bias': weights.padded(attention.qkv.bias, 3 * c, groups=3),
            'kernel': weights.padded(kernel, 27 * c, groups=27),
            'kernel_bias': weights.padded(attention.qkv_dwconv.bias, 3 * c, groups=3),
            'temperature': attention.temperature.detach().contiguous(),
            'project': attention.project_out.weight.detach().contiguous(),
            'mixing_bias': weights.padded(attention.project_out.bias, c),
            'expand': weights.packed(ffn.project_in.weight.flatten(1)),
            'expand_bias': weights.padded(ffn.project_in.bias, hidden),
            'contract': weights.packed(ffn.project_out.weight.flatten(1)),
            'contract_bias': weights.padded(ffn.project_out.bias, c),
        }
        self.first = FirstPass(heads=attention.heads, norm=self.norm('1', block.norm1, shift))
        self.second = SecondPass(hidden=hidden, norm=self.norm('2', block.norm2, shift))
        self.mixing = Mixing()
        for structure in (self.first, self.mixing, self.second):
            for name, *_ in structure._fields_:
                if name in self.kept:
                    setattr(structure, name, address(self.kept[name]))

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
        features = Features(address(x), x.stride(0), x.stride(2), *x.shape)
        columns, bands = pieces(*x.shape[:3])
        self.kernels.block(
            ctypes.byref(features), ctypes.byref(self.first), ctypes.byref(self.mixing),
            ctypes.byref(self.second), columns, bands, address(values),
        )  # fmt: skip
