"""Tiny networks, their inputs, and the stored values of the released implementation."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch

from c2fdft_arch.dft import DFT

DATA = Path(__file__).resolve().parents[1] / 'data'
REFERENCES = ['dft_tiny_withbias_ln.npz', 'dft_tiny_biasfree_ln.npz']
TINY = {'dim': 8, 'num_blocks': [1, 1, 1, 1], 'heads': [1, 2, 4, 8]}
OPTIONS = [
    {},
    {'LayerNorm_type': 'BiasFree'},
    {'bias': True},
    {'bias': True, 'LayerNorm_type': 'BiasFree'},
    {'dual_pixel_task': True},
    {'dual_pixel_task': True, 'bias': True},
    {'time_embedding': False},
    {'skip': 'degraded'},
    {'skip': 'none'},
    {'num_blocks': [2, 1, 2, 1], 'heads': [2, 2, 2, 2], 'ffn_factor': 2.66},
]


def tiny_network(network=DFT, seed=0, **options):
    """A tiny network whose every parameter matters (none at its neutral initial value)."""
    torch.manual_seed(seed)
    net = network(**{**TINY, **options})
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return net


def tiny_input(height=16, width=24, batch=2, seed=1):
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(batch, 6, height, width, generator=generator) * 2 - 1
    return x, torch.tensor([3, 997, 500, 0][:batch])


def load_reference(name):
    """The stored arrays as tensors, and the constructor arguments."""
    arrays = np.load(DATA / name)
    return {k: torch.from_numpy(v) for k, v in arrays.items() if v.dtype.kind != 'U'}, {
        k: json.loads(str(v)) for k, v in arrays.items() if v.dtype.kind == 'U'
    }


def reference_network(network, name):
    tensors, texts = load_reference(name)
    net = network(**texts['config'])
    prefix = 'state_dict/'
    weights = {k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)}
    net.load_state_dict(weights, strict=True)
    return net, tensors, texts


def predict(net, tensors):
    return net(torch.cat([tensors['lq'], tensors['x_t']], dim=1), tensors['timesteps'])
