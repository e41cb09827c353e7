"""The structures that the kernels take; fields and order are those of the C++ sources."""

from __future__ import annotations

import ctypes
from ctypes import c_bool, c_int, c_long, c_void_p


class WeightShape(ctypes.Structure):
    _fields_ = [(name, c_int) for name in ('outputs', 'inputs', 'groups', 'taps')]


class WeightStrides(ctypes.Structure):
    _fields_ = [(name, c_long) for name in ('group', 'output', 'input', 'tap')]


class Features(ctypes.Structure):
    _fields_ = [
        ('data', c_void_p),
        *((name, c_long) for name in ('next_image', 'next_pixel')),
        *((name, c_int) for name in ('images', 'height', 'width', 'channels')),
    ]


class Norm(ctypes.Structure):
    _fields_ = [
        ('scale', c_void_p),
        ('offset', c_void_p),
        ('centred', c_bool),
    ]


class FirstPass(ctypes.Structure):
    _fields_ = [
        ('heads', c_int),
        ('norm', Norm),
        ('next_offset', c_long),
        *((name, c_void_p) for name in ('qkv', 'qkv_bias', 'kernel', 'kernel_bias')),
        ('queries_keys', c_void_p),
    ]


class Mixing(ctypes.Structure):
    _fields_ = [('temperature', c_void_p), ('project', c_void_p)]


class SecondPass(ctypes.Structure):
    _fields_ = [
        ('hidden', c_int),
        ('mixing_bias', c_void_p),
        ('norm', Norm),
        *((name, c_void_p) for name in ('expand', 'expand_bias', 'contract', 'contract_bias')),
    ]


class Image(ctypes.Structure):
    _fields_ = [
        ('data', c_void_p),
        *((name, c_long) for name in ('next_image', 'next_channel', 'next_row', 'next_column')),
    ]


class Arranged(ctypes.Structure):
    _fields_ = [('image', Image), ('target', c_int)]


SAME, UNSHUFFLE, SHUFFLE, JOIN_SHUFFLE = range(4)  # targets


class Convolution(ctypes.Structure):
    _fields_ = [
        *((name, c_int) for name in ('images', 'height', 'width', 'channels', 'outputs')),
        *((name, c_void_p) for name in ('weight', 'bias', 'reduce', 'reduce_bias')),
    ]


class TrainedConvolution(ctypes.Structure):
    _fields_ = [
        *((name, c_int) for name in ('images', 'height', 'width', 'channels', 'outputs')),
        *((name, c_void_p) for name in ('weight', 'bias')),
    ]


class Pixels(ctypes.Structure):
    _fields_ = [('count', c_long), ('per_image', c_long), ('channels', c_int)]


class ShiftedNorm(ctypes.Structure):
    _fields_ = [(name, c_void_p) for name in ('scale', 'bias', 'shift')]


class FeedForward(ctypes.Structure):
    _fields_ = [
        ('hidden', c_int),
        ('norm', ShiftedNorm),
        *((name, c_void_p) for name in ('expand', 'expand_bias', 'contract', 'contract_bias')),
    ]


class FeedForwardGradient(ctypes.Structure):
    _fields_ = [
        *((name, c_void_p) for name in ('d_x', 'd_scale', 'd_offset')),
        *((name, c_void_p) for name in ('d_expand', 'd_expand_bias', 'd_contract')),
    ]


class Matrices(ctypes.Structure):
    _fields_ = [
        *((name, c_void_p) for name in ('temperature', 'project', 'products', 'squares')),
        *((name, c_void_p) for name in ('attention', 'mixing')),
    ]


class Attention(ctypes.Structure):
    _fields_ = [
        ('heads', c_int),
        ('norm', ShiftedNorm),
        *((name, c_void_p) for name in ('qkv', 'qkv_bias', 'kernel', 'kernel_bias')),
        ('matrices', Matrices),
        ('project_bias', c_void_p),
    ]


class AttentionGradient(ctypes.Structure):
    _fields_ = [
        *((name, c_void_p) for name in ('d_x', 'd_scale', 'd_offset', 'd_qkv', 'd_qkv_bias')),
        *((name, c_void_p) for name in ('d_kernel', 'd_kernel_bias', 'd_temperature', 'd_project')),
    ]
