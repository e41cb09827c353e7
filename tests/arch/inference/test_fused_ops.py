"""oneDNN's fused operations and the ordinary ones that replace them give the same numbers."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from c2fdft_arch.inference import fused_ops
from c2fdft_arch.inference.fused_ops import PixelLinear, has_packed_products
from helpers.networks import tiny_input, tiny_network


@pytest.fixture(autouse=True)
def pack_always(monkeypatch):
    """As if there were many pixels."""
    monkeypatch.setattr(fused_ops, 'PACKING_NUMBERS', 0)


@pytest.fixture(params=[True, False], ids=['as found', 'without oneDNN'])
def machine(request, monkeypatch):
    """This machine, and one on which oneDNN's operations are missing."""
    if not request.param:
        monkeypatch.setattr(fused_ops, 'has_packed_products', lambda device_type, dtype: False)


@pytest.mark.parametrize('n', [1, 5, 64, 300])
@pytest.mark.parametrize('with_bias', [False, True])
def test_products_are_those_of_a_linear_layer(machine, n, with_bias):
    torch.manual_seed(0)
    pixels, weight = torch.randn(n, 12), torch.randn(20, 12)
    bias = torch.randn(20) if with_bias else None
    linear, expected = PixelLinear(weight, bias, 64), F.linear(pixels, weight, bias)
    torch.testing.assert_close(linear(pixels), expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(linear.gelu(pixels), F.gelu(expected), atol=1e-5, rtol=1e-5)


def test_products_in_bfloat16_differ_by_rounding_only(machine):
    torch.manual_seed(0)
    pixels, weight = torch.randn(40, 16).bfloat16(), torch.randn(24, 16).bfloat16()
    expected = F.gelu(F.linear(pixels.float(), weight.float()))
    result = PixelLinear(weight, None, 40).gelu(pixels)
    assert result.dtype == torch.bfloat16
    torch.testing.assert_close(result.float(), expected, atol=0.05, rtol=0.02)


def test_weights_that_are_not_contiguous_are_multiplied_correctly(machine):
    torch.manual_seed(0)
    pixels, weight = torch.randn(9, 12), torch.randn(12, 8).t()
    expected = F.linear(pixels, weight)
    torch.testing.assert_close(PixelLinear(weight, None, 9)(pixels), expected)


@pytest.mark.parametrize('precision', ['fp32', 'bf16'])
def test_the_network_gives_the_same_without_them(precision, monkeypatch):
    net = tiny_network(bias=True)
    with torch.no_grad(), net.inference_settings(precision):
        expected = net(*tiny_input())
        monkeypatch.setattr(fused_ops, 'has_packed_products', lambda device_type, dtype: False)
        result = net(*tiny_input())
    limit = 1e-5 if precision == 'fp32' else 0.03
    assert (result - expected).abs().max() < limit * expected.abs().max()


def test_operations_that_a_version_lacks_are_not_used(monkeypatch):
    class Missing:
        def __getattr__(self, name):
            raise AttributeError(name)

    monkeypatch.setattr(torch.ops, 'mkldnn', Missing())
    assert not has_packed_products.__wrapped__('cpu', torch.float32)


def test_weights_are_not_laid_out_for_few_pixels(monkeypatch):
    monkeypatch.setattr(fused_ops, 'PACKING_NUMBERS', 8 * 100)
    weight = torch.randn(12, 8)
    assert not PixelLinear(weight, None, 99).packed
    assert PixelLinear(weight, None, 100).packed == has_packed_products('cpu', torch.float32)


def test_other_devices_do_without_them():
    assert not has_packed_products('cuda', torch.float32)
