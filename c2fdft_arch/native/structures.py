"""The structures that the kernels take; fields and order are those of the C++ sources."""

import ctypes
from ctypes import c_int, c_long, c_void_p
from typing import Any

SAME, UNSHUFFLE, SHUFFLE, JOIN_SHUFFLE = range(4)  # layouts of a ShuffledView


class Shared(ctypes.Structure):
    """The size of a structure, or a constant, as the library has it (kernels.cpp)."""

    _fields_ = [('name', ctypes.c_char_p), ('value', c_long)]


def _fields(kind: Any, names: str) -> list[tuple[str, Any]]:
    return [(name, kind) for name in names.split()]


class Features(ctypes.Structure):
    """Feature maps (B, H, W, C) in float32 (features.h)."""

    _fields_ = [
        ('data', c_void_p),
        *_fields(c_long, 'next_image next_pixel'),
        *_fields(c_int, 'images height width channels'),
    ]


class ShuffledView(ctypes.Structure):
    """Images (B, C, H, W) of any strides, shuffled or not (features.h)."""

    _fields_ = [
        ('data', c_void_p),
        *_fields(c_long, 'next_image next_channel next_row next_column'),
        ('layout', c_int),
    ]


class Convolution(ctypes.Structure):
    """A 3x3 convolution, and a 1x1 one behind it or none (convolution.h)."""

    _fields_ = [
        *_fields(c_int, 'images height width channels outputs'),
        *_fields(c_void_p, 'weight bias reduce reduce_bias'),
        *_fields(c_long, 'next_output next_input next_tap'),
    ]


class NormParameters(ctypes.Structure):
    """A layer norm and T (B, C); the pointers to the last two may be null (norm.h)."""

    _fields_ = _fields(c_void_p, 'scale bias time_embedding')


class FeedForward(ctypes.Structure):
    """The weights of the feed-forward half of a block (feed_forward.h)."""

    _fields_ = [
        ('hidden', c_int),
        ('norm', NormParameters),
        *_fields(c_void_p, 'expand expand_bias contract contract_bias'),
    ]


class FeedForwardGradient(ctypes.Structure):
    """Where its gradients go (feed_forward.h)."""

    _fields_ = _fields(c_void_p, 'd_x d_scale d_offset d_expand d_expand_bias d_contract')


class AttentionMatrices(ctypes.Structure):
    """The small matrices of attention, kept for the gradient (attention.h)."""

    _fields_ = _fields(c_void_p, 'products squares attention projected')


class Attention(ctypes.Structure):
    """The weights of the attention half of a block (attention.h)."""

    _fields_ = [
        ('heads', c_int),
        ('norm', NormParameters),
        *_fields(c_void_p, 'qkv qkv_bias kernel kernel_bias temperature project project_bias'),
        ('matrices', AttentionMatrices),
    ]


class AttentionGradient(ctypes.Structure):
    """Where its gradients go (attention_gradient.h)."""

    _fields_ = _fields(
        c_void_p, 'd_x d_scale d_offset d_qkv d_qkv_bias d_kernel d_temperature d_project'
    )


STRUCTURES = (
    Features, ShuffledView, Convolution, NormParameters, FeedForward, FeedForwardGradient,
    AttentionMatrices, Attention, AttentionGradient,
)  # fmt: skip
