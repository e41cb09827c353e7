"""Gradients of a network, and how far two of them are apart."""

from __future__ import annotations

import torch

from helpers.networks import tiny_input


def gradients(net, forward, height=16, width=24, batch=2, precision=torch.float32):
    """Prediction, and the gradients of a random projection of it, by name."""
    x, t = tiny_input(height, width, batch)
    x.requires_grad_()
    generator = torch.Generator().manual_seed(2)
    net.zero_grad()
    with torch.autocast('cpu', precision, enabled=precision != torch.float32):
        prediction = forward(net, x, t)
    direction = torch.randn(prediction.shape, generator=generator)
    (prediction * direction).sum().backward()
    return prediction.detach(), {
        'input': x.grad,
        **{name: p.grad.clone() for name, p in net.named_parameters()},
    }


def relative_error(result, expected):
    return ((result - expected).norm() / expected.norm()).item()


def assert_same_gradients(result, expected, tolerance):
    errors = {name: relative_error(result[name], expected[name]) for name in expected}
    assert {name: e for name, e in errors.items() if e > tolerance} == {}


def run(net, x, t):
    return net(x, t)
