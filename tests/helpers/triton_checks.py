"""Triton's kernels in its interpreter, which must be chosen before Triton is imported.

`python -m helpers.triton_checks` prints, as JSON, how far each result is from PyTorch's operations
or from the plain network, relative to the largest value.
"""

from __future__ import annotations

import json
import os

os.environ['TRITON_INTERPRET'] = '1'

import torch
import torch.nn.functional as F

from c2fdft_arch.dft import DFT
from c2fdft_arch.network.attention_matrices import attention_matrix, project_attention
from c2fdft_arch.network.layer_norm import layer_norm, layer_norm_backward
from c2fdft_arch.network.plain_dft import PlainDFT
from c2fdft_arch.triton_kernels import attention, depthwise, normalisation, products
from helpers.networks import tiny_network

BATCH, HEIGHT, WIDTH = 2, 5, 7
PIXELS = HEIGHT * WIDTH
HIDDEN = 20
ROWS = depthwise.Rows(HEIGHT, WIDTH)
FLOAT32 = torch.float32
differences: dict[str, float] = {}


def compare(name, found, expected):
    """Note the largest difference, relative to the largest value; nan stays nan."""
    scale = expected.detach().abs().max()
    differences[name] = float((found.detach() - expected.detach()).abs().max() / scale)


def unwritten(*shape):
    return torch.full(shape, float('nan'))


def check_norms(kind, c):
    x, gamma, shift = torch.randn(BATCH, PIXELS, c) + 1, torch.randn(c), torch.randn(BATCH, c)
    beta = torch.randn(c) if kind == 'WithBias' else None
    w, b = torch.randn(3 * c, c, 1, 1), torch.randn(3 * c)
    y, mean, rstd = layer_norm(x, shift, gamma, beta)
    found = normalisation.norm_project(x, (gamma, beta, shift), w, b, FLOAT32, statistics=True)
    compare(f'{kind} project', found[0], F.linear(y, w.flatten(1), b))
    compare(f'{kind} mean', found[1], mean[..., 0])
    compare(f'{kind} deviation', found[2], rstd[..., 0])
    alone = normalisation.norm_project(x, (gamma, beta, shift[:1]), None, None, FLOAT32)[0]
    compare(f'{kind} alone', alone, layer_norm(x, shift[:1], gamma, beta)[0])
    d_y, grad = torch.randn_like(x), torch.randn_like(x)
    expected = layer_norm_backward(d_y, x, mean, rstd, gamma, beta)
    gradients = normalisation.layer_norm_backward(d_y, x, mean, rstd, gamma, beta, grad)
    compare(f'{kind} d_x', gradients[0], expected[0] + grad)
    compare(f'{kind} d_gamma', gradients[1], expected[1])
    if beta is not None:
        compare(f'{kind} d_beta', gradients[2], expected[2])


def check_depthwise(c):
    z, w = torch.randn(BATCH, PIXELS, 3 * c), torch.randn(3 * c, 1, 3, 3, requires_grad=True)
    bias = torch.randn(3 * c)
    taps = w.detach().view(3 * c, 9).t().contiguous()
    image = z.view(BATCH, HEIGHT, WIDTH, 3 * c).permute(0, 3, 1, 2).clone().requires_grad_()
    convolved = F.conv2d(image, w, bias, padding=1, groups=3 * c)
    d_convolved = torch.randn_like(convolved)
    convolved.backward(d_convolved)
    expected, d_y, d_z = (
        t.detach().permute(0, 2, 3, 1).reshape(BATCH, PIXELS, 3 * c)
        for t in (convolved, d_convolved, image.grad)
    )
    found = unwritten(BATCH, PIXELS, 3 * c)
    depthwise.depthwise(z, taps, bias, ROWS, found)
    compare('depthwise', found, expected)
    bands = unwritten(BATCH, PIXELS, c)
    for first, last in ((0, 2), (2, 4), (4, 5)):
        rows = depthwise.Rows(HEIGHT, WIDTH, first, last)
        band = z.view(BATCH, HEIGHT, WIDTH, -1)[:, rows.top : rows.bottom].reshape(BATCH, -1, 3 * c)
        depthwise.depthwise(band, taps, bias, rows, bands, first=2 * c)
    compare('depthwise by bands', bands, expected[..., 2 * c :])
    found = unwritten(BATCH, PIXELS, 3 * c)
    depthwise.depthwise(d_y, taps, None, ROWS, found, flip=True)
    compare('depthwise d_z', found, d_z)
    d_w, d_b = depthwise.depthwise_weight_gradient(d_y, z, ROWS, True)
    compare('depthwise d_w', d_w, w.grad)
    compare('depthwise d_b', d_b, d_y.sum((0, 1)))


def check_attention(c, heads):
    width, name = c // heads, f'{heads} heads'
    z, w = torch.randn(BATCH, PIXELS, 3 * c), torch.randn(3 * c, 1, 3, 3)
    image = z.view(BATCH, HEIGHT, WIDTH, 3 * c).permute(0, 3, 1, 2)
    qkv = F.conv2d(image, w, padding=1, groups=3 * c).permute(0, 2, 3, 1)
    qkv = qkv.reshape(BATCH, PIXELS, 3 * c)
    q, k, _ = qkv.reshape(BATCH, PIXELS, 3, heads, width).unbind(2)
    parts = depthwise.product_tiling(PIXELS, width)[2]
    sums, kept = unwritten(parts, BATCH * heads, width + 2, width), unwritten(*qkv.shape)
    depthwise.attention_products(
        z, w.view(3 * c, 9).t().contiguous(), None, heads, ROWS, sums, 0, kept
    )
    compare(f'{name} q, k', kept[..., : 2 * c], qkv[..., : 2 * c])
    sums = sums.sum(0)
    by_head = sums.unflatten(0, (BATCH, heads))
    compare(f'{name} q^T k', by_head[:, :, :-2], torch.einsum('bnhi,bnhj->bhij', q, k))
    squares = torch.stack([(t * t).sum(1) for t in (q, k)])
    compare(f'{name} squares', by_head[:, :, -2:].permute(2, 0, 1, 3), squares)
    temperature, w_o = torch.rand(heads, 1, 1) + 0.5, torch.randn(c, c, 1, 1)
    projected, weights = attention.project_attention(sums, temperature, w_o, FLOAT32, keep=True)
    expected = attention_matrix(by_head[:, :, :-2], squares, temperature)
    compare(f'{name} A', weights, expected)
    compare(f'{name} W_o A', projected, project_attention(expected, w_o))
    d_out, d_products = torch.randn(BATCH, PIXELS, c), torch.randn(BATCH, heads, width, width)
    d_squares = torch.randn(2, BATCH, heads, width)
    found = attention.qkv_gradient(qkv, d_out, d_products, d_squares, projected)
    d_q = torch.einsum('bnhj,bhij->bnhi', k, d_products) + 2 * q * d_squares[0][:, None]
    d_k = torch.einsum('bnhi,bhij->bnhj', q, d_products) + 2 * k * d_squares[1][:, None]
    d_v = d_out @ projected.transpose(1, 2)
    compare(f'{name} d_qkv', found, torch.cat([d_q.flatten(2), d_k.flatten(2), d_v], dim=2))


def check_products(c):
    joined = torch.randn(BATCH, PIXELS, 2 * c)
    x = joined[..., c:]  # not contiguous, as the last level's halves are
    before, v, projected = x.clone(), torch.randn(BATCH, PIXELS, c), torch.randn(BATCH, c, c)
    b_o, b_out, gamma, beta = (torch.randn(c) for _ in range(4))
    w_in, b_in = torch.randn(HIDDEN, c, 1, 1), torch.randn(HIDDEN)
    w_out, shift = torch.randn(c, HIDDEN, 1, 1), torch.randn(BATCH, c)
    attended = before + v @ projected + b_o
    found = products.add_product(before, v, projected, b_o, torch.empty_like(before))
    compare('x + v A', found, attended)
    hidden = F.linear(layer_norm(attended, shift, gamma, beta)[0], w_in.flatten(1), b_in)
    expected = attended + F.linear(F.gelu(hidden), w_out.flatten(1), b_out)
    target = torch.empty_like(before)
    found = products.add_product(attended, hidden, w_out, b_out, target, gelu=True)
    compare('x + GELU(h) W', found, expected)
    products.finish_block(x, v, projected, b_o, (gamma, beta, shift), w_in, b_in, w_out, b_out)
    compare('end of a block', joined[..., c:], expected)
    leaf = hidden.clone().requires_grad_()
    active, d_active = F.gelu(leaf), torch.randn_like(hidden)
    active.backward(d_active)
    found = products.gelu_backward(hidden, d_active.clone())
    compare('GELU', found[0], active)
    compare('d_GELU', found[1], leaf.grad)


def check_network():
    options = {
        'LayerNorm_type': 'BiasFree',
        'bias': True,
        'skip': 'degraded',
        'heads': [1, 2, 1, 1],
    }
    network, plain = (tiny_network(kind, **options) for kind in (DFT, PlainDFT))
    x, t = torch.randn(1, 6, 8, 8), torch.tensor([900])
    d_result = torch.randn(1, 3, 8, 8)
    network.kernels = 'triton'
    result, expected = network(x, t), plain(x, t)
    result.backward(d_result)
    expected.backward(d_result)
    compare('network', result, expected)
    gradients = [
        torch.cat([p.grad.flatten() for p in net.parameters()]) for net in (network, plain)
    ]
    compare('network gradients', *gradients)
    # in bands of 40 pixels, so that the first level has two and the others one
    with torch.no_grad(), network.inference_settings(kernels='triton', band_pixels=40):
        compare('network restoring', network(x, t), expected)


def main():
    torch.manual_seed(0)
    torch.set_num_threads(1)
    for kind in ('WithBias', 'BiasFree'):
        check_norms(kind, 20)
    check_depthwise(20)
    for heads in (1, 2):
        check_attention(20, heads)
    check_products(20)
    check_network()
    print(json.dumps(differences))


if __name__ == '__main__':
    main()
