"""The kernels in C++ compute what the plain network does, and are left out where they cannot."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from c2fdft_arch.inference import memory_plan, native_network
from c2fdft_arch.native import bindings, layout
from c2fdft_arch.native.bindings import kernels
from c2fdft_arch.native.convolution import convolve3x3
from c2fdft_arch.native.structures import JOIN_SHUFFLE, SAME, SHUFFLE, UNSHUFFLE
from c2fdft_arch.network.plain_dft import PlainDFT
from helpers.kernels import CPU, PRECISIONS, needs_kernels
from helpers.networks import OPTIONS, tiny_input, tiny_network

TOLERANCE = {'fp32': 1e-5, 'bf16': 0.03}


def error_of_kernels(precision, options=None, height=24, width=16, batch=1, t=None):
    """Largest difference to PlainDFT, relative to the largest prediction."""
    net = tiny_network(**(options or {}))
    x, some_t = tiny_input(height, width, batch)
    t = some_t if t is None else t
    plain = PlainDFT.forward(net, x, t).detach()
    with torch.no_grad(), net.inference_settings(precision):
        result = net(x, t)
    return ((result - plain).abs().max() / plain.abs().max()).item()


@pytest.fixture(autouse=True)
def used(request, monkeypatch):
    """The tests of the network must have been answered by the kernels."""
    calls = []
    real = native_network.apply_block

    def counted(*arguments):
        calls.append(arguments)
        return real(*arguments)

    monkeypatch.setattr(native_network, 'apply_block', counted)
    return calls


@needs_kernels
@pytest.mark.parametrize('options', OPTIONS, ids=str)
def test_kernels_give_the_plain_result_for_every_option(options, precision, used):
    assert error_of_kernels(precision, options, batch=2) < TOLERANCE[precision]
    assert used


@needs_kernels
@pytest.mark.parametrize(
    'options',
    [
        {'dim': 48, 'num_blocks': [1, 1, 1, 1]},
        {'dim': 32, 'num_blocks': [1, 1, 1, 1], 'heads': [1, 2, 4, 8]},
        {'dim': 20, 'num_blocks': [1, 1, 1, 1], 'heads': [1, 5, 4, 2], 'bias': True},
        {'dim': 6, 'num_blocks': [1, 1, 1, 1], 'heads': [3, 2, 2, 1], 'ffn_factor': 1.5},
    ],
    ids=lambda options: f'dim {options["dim"]}',
)
def test_channels_need_not_be_whole_vectors(options, precision, used):
    assert error_of_kernels(precision, options, 16, 24) < TOLERANCE[precision]
    assert used


@needs_kernels
@pytest.mark.parametrize('height, width', [(8, 8), (8, 64), (64, 8), (40, 24), (56, 72), (8, 264)])
@pytest.mark.parametrize('tile_width', [4, 12, 20, 124])
@pytest.mark.parametrize('count', [1, 3])
def test_result_does_not_depend_on_tiles_and_threads(
    height, width, tile_width, count, precision, threads, monkeypatch
):
    monkeypatch.setattr(layout, 'TILE_WIDTH', tile_width)
    monkeypatch.setattr(layout, 'MIN_TILE_HEIGHT', tile_width // 4)
    threads(count)
    assert error_of_kernels(precision, None, height, width) < TOLERANCE[precision]


@needs_kernels
@pytest.mark.parametrize('batch', [1, 3, 4])
def test_images_of_a_batch_do_not_mix(batch, precision):
    assert error_of_kernels(precision, None, 16, 8, batch) < TOLERANCE[precision]


@needs_kernels
def test_images_that_share_a_timestep_are_evaluated_together_correctly(precision):
    t = torch.tensor([7, 900, 7, 7])
    assert error_of_kernels(precision, None, 16, 16, 4, t) < TOLERANCE[precision]


@needs_kernels
def test_result_is_the_same_every_time(precision):
    net, (x, t) = tiny_network(), tiny_input(40, 24)
    with torch.no_grad(), net.inference_settings(precision):
        assert torch.equal(net(x, t), net(x, t))


@needs_kernels
def test_what_is_not_finite_stays_so(precision):
    net, (x, t) = tiny_network(), tiny_input(16, 16, 1)
    x[0, 0, 3, 3] = torch.nan
    with torch.no_grad(), net.inference_settings(precision):
        assert net(x, t).isnan().all()  # the attention matrices sum over all pixels


@needs_kernels
def test_evaluation_leaves_input_and_weights_alone(precision):
    net, (x, t) = tiny_network(), tiny_input()
    weights, x_before = {k: v.clone() for k, v in net.state_dict().items()}, x.clone()
    with torch.no_grad(), net.inference_settings(precision):
        net(x, t)
    assert torch.equal(x, x_before)
    assert all(torch.equal(v, weights[k]) for k, v in net.state_dict().items())


@needs_kernels
def test_row_bands_of_a_given_size_are_evaluated_by_pytorch(used):
    net, (x, t) = tiny_network(), tiny_input()
    with torch.no_grad(), net.inference_settings('fp32', band_pixels=50):
        net(x, t)
    assert not used


@needs_kernels
@pytest.mark.parametrize(
    'value', [0.0, 0.3, -0.7, 2.5, -3.9, 3.999, -4.0, 4.5, -6.0, 8.0, -40.0, 1e4]
)
def test_gelu_is_exact_to_the_number_format(value, precision):
    """Through a block whose attention is silent and whose feed-forward network is one GELU."""
    block = tiny_network().encoder_level1[0]
    c = block.attn.project_out.weight.shape[0]
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.zero_()
        block.norm2.body.weight.zero_()
        block.norm2.body.bias.fill_(value)
        block.ffn.project_in.weight[0, 0] = 1
        block.ffn.project_out.weight[0, 0] = 1
        dtype = PRECISIONS[precision]
        x = torch.zeros(1, 5, 7, c)
        values = torch.empty(1, 35, c, dtype=dtype)
        native_network.apply_block(kernels(dtype, CPU), block, None, x, values)
    given = torch.tensor(value).to(dtype).float()
    expected = F.gelu(given.double()).item()
    allowed = 2e-6 if precision == 'fp32' else 3e-4
    relative = 1e-6 if precision == 'fp32' else 2**-8
    assert x[..., 1:].abs().max() == 0
    assert (x[..., 0] - expected).abs().max() <= allowed + relative * abs(expected)


@needs_kernels
@pytest.mark.parametrize('target', [SAME, UNSHUFFLE, SHUFFLE, JOIN_SHUFFLE])
@pytest.mark.parametrize('channels, outputs', [(6, 8), (48, 24), (20, 40)])
@pytest.mark.parametrize('bias', [False, True])
def test_convolutions_are_those_of_pytorch(target, channels, outputs, bias, precision, monkeypatch):
    monkeypatch.setattr(layout, 'TILE_WIDTH', 4)
    torch.manual_seed(0)
    dtype = PRECISIONS[precision]
    x = torch.randn(2, channels, 10, 22)
    weight, b = torch.randn(outputs, channels, 3, 3) / 9, torch.randn(outputs) if bias else None
    reduce = torch.nn.Conv2d(outputs // 2, outputs // 4, 1, bias=bias)
    expected = F.conv2d(x, weight, b, padding=1)
    if target == UNSHUFFLE:
        expected = F.pixel_unshuffle(expected, 2)
    if target in (SHUFFLE, JOIN_SHUFFLE):
        expected = F.pixel_shuffle(expected, 2)
    out = torch.randn_like(expected)
    if target == JOIN_SHUFFLE:
        expected = reduce(torch.cat([expected, out], 1)).detach()
    out = out.permute(0, 2, 3, 1).contiguous()
    joined = reduce if target == JOIN_SHUFFLE else None
    convolve3x3(kernels(dtype, CPU), x.permute(0, 2, 3, 1), weight, b, out, target, joined)
    difference = (out.permute(0, 3, 1, 2) - expected).abs().max() / expected.abs().max()
    assert difference < TOLERANCE[precision]


def test_matrix_units_are_left_to_pytorch(monkeypatch):
    monkeypatch.setattr(bindings, 'has_matrix_units', lambda: True)
    assert kernels(torch.bfloat16, CPU) is None


def test_they_are_for_the_cpu_and_known_number_formats():
    assert kernels(torch.float32, torch.device('cuda')) is None
    assert kernels(torch.float16, CPU) is None


def test_evaluation_without_kernels_is_by_row_bands(monkeypatch, used):
    monkeypatch.setattr(memory_plan, 'kernels', lambda dtype, device: None)
    assert error_of_kernels('fp32') < 1e-5
    assert not used
