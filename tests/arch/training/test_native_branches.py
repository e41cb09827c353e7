"""The kernels for training: outputs and gradients are those of the plain network."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F

from c2fdft_arch.common import hardware
from c2fdft_arch.native import bindings
from c2fdft_arch.native.structures import SAME, SHUFFLE, UNSHUFFLE
from c2fdft_arch.network.plain_dft import PlainDFT
from c2fdft_arch.training import native_branches
from helpers.gradients import assert_same_gradients, gradients, relative_error, run
from helpers.kernels import CPU, PRECISIONS, needs_kernels
from helpers.networks import tiny_input, tiny_network

pytestmark = needs_kernels

TOLERANCE = {'fp32': 1e-5, 'bf16': 0.02}
# The gradient of a single number, a temperature, is a sum of terms that cancel: in bfloat16 it is
# not looked at by itself.
GRADIENT_TOLERANCE = {'fp32': 1e-3, 'bf16': 0.15}
FITTING = {'dim': 16, 'num_blocks': [1, 1, 1, 1], 'heads': [1, 2, 4, 8]}
OPTIONS = [
    {},
    {'bias': True},
    {'LayerNorm_type': 'BiasFree'},
    {'LayerNorm_type': 'BiasFree', 'bias': True, 'ffn_factor': 2.0},
    {'time_embedding': False},
    {'LayerNorm_type': 'BiasFree', 'time_embedding': False},
    {'dual_pixel_task': True},
    {'dim': 32, 'heads': [2, 1, 2, 4], 'num_blocks': [2, 1, 1, 1]},
    {'dim': 48},
    {'dim': 80, 'heads': [1, 2, 2, 4]},
]


@pytest.fixture(autouse=True)
def used(monkeypatch):
    """The blocks whose halves were computed by the kernels."""
    calls = []
    real = native_branches.NativeAttentionBranch.forward

    def counted(ctx, *arguments):
        calls.append(arguments[0].shape)
        return real(ctx, *arguments)

    monkeypatch.setattr(native_branches.NativeAttentionBranch, 'forward', staticmethod(counted))
    return calls


def network(**options):
    return tiny_network(**{**FITTING, **options})


def check(net, precision, height=16, width=24, batch=2):
    plain, expected = gradients(net, PlainDFT.forward, height, width, batch)
    prediction, result = gradients(net, run, height, width, batch, PRECISIONS[precision])
    assert relative_error(prediction, plain) < TOLERANCE[precision]
    assert all(gradient.dtype == torch.float32 for gradient in result.values())
    if precision == 'bf16':
        expected = {name: value for name, value in expected.items() if 'temperature' not in name}
    assert_same_gradients(result, expected, GRADIENT_TOLERANCE[precision])


@pytest.mark.parametrize('options', OPTIONS, ids=str)
def test_gradients_are_the_plain_ones_for_every_option(options, precision, used):
    check(network(**options), precision)
    assert used


@pytest.mark.parametrize(
    'height, width, batch',
    [(8, 8, 1), (8, 8, 4), (8, 40, 3), (40, 8, 2), (24, 56, 1), (72, 136, 1), (8, 264, 1)],
)
def test_gradients_are_the_plain_ones_for_every_size(height, width, batch, precision):
    check(network(), precision, height, width, batch)


def test_parameters_lie_in_memory_as_they_like_and_have_any_floating_point_type(used):
    net = network(bias=True)
    formats = (torch.float32, torch.float64)
    odd = {
        name: (value.mT.contiguous().mT if value.dim() > 1 else value).to(formats[k % 2])
        for k, (name, value) in enumerate(net.state_dict().items())
        if name != 'output.weight'
    }
    expected = copy.deepcopy(net)
    net.load_state_dict(odd, strict=False, assign=True)
    x, t = tiny_input(16, 24, 2)
    results = []
    for each in (net, expected):
        each.requires_grad_(True)
        each(x, t).square().mean().backward()
        with torch.no_grad():
            evaluated = each(x, t)
        results.append([evaluated, *(p.grad.float() for p in each.parameters())])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)
    assert used


@pytest.mark.parametrize('count', [1, 3])
def test_gradients_do_not_depend_on_the_threads(count, precision, threads):
    threads(count)
    check(network(), precision, 24, 40, 3)


def test_gradients_are_the_same_every_time(precision):
    net = network()
    first, second = (gradients(net, run, 40, 24, 3, PRECISIONS[precision])[1] for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_checkpointed_blocks_give_the_same_gradients(precision):
    net = network()
    _, expected = gradients(net, run, precision=PRECISIONS[precision])
    net.checkpoint_blocks = True
    _, result = gradients(net, run, precision=PRECISIONS[precision])
    assert all(torch.equal(result[name], expected[name]) for name in expected)


def test_bf16_is_no_further_from_float32_than_pytorchs_operations(monkeypatch):
    monkeypatch.setattr(bindings, 'has_matrix_units', lambda: False)
    if bindings.kernels(torch.bfloat16, CPU) is None:
        pytest.skip('no kernels for this dtype')
    net = network(dim=48)
    _, expected = gradients(net, PlainDFT.forward, 32, 32)
    _, with_kernels = gradients(net, run, 32, 32, precision=torch.bfloat16)
    monkeypatch.setattr(native_branches, 'kernels', lambda dtype, device: None)
    monkeypatch.setattr(hardware, 'has_fast_bf16', lambda device_type: True)
    _, without = gradients(net, run, 32, 32, precision=torch.bfloat16)

    def distance(result):
        return sum(relative_error(result[name], expected[name]) for name in expected)

    assert 0 < distance(with_kernels) < 1.1 * distance(without)


def test_without_kernels_and_hardware_for_it_bf16_is_float32(monkeypatch):
    net = network()
    plain, _ = gradients(net, PlainDFT.forward)
    monkeypatch.setattr(native_branches, 'kernels', lambda dtype, device: None)
    error = {}
    for fast in (True, False):
        monkeypatch.setattr(hardware, 'has_fast_bf16', lambda _, fast=fast: fast)
        error[fast] = relative_error(gradients(net, run, precision=torch.bfloat16)[0], plain)
    assert error[False] < 1e-5 < 1e-4 < error[True]


def test_blocks_whose_channels_are_not_whole_vectors_are_left_to_pytorch(used):
    net = network(dim=16, heads=[4, 1, 1, 1])  # 4 channels for a head of the first level
    check(net, 'fp32')
    assert used and all(shape[3] > 16 for shape in used)


def test_without_kernels_pytorch_serves(monkeypatch, used):
    monkeypatch.setattr(native_branches, 'kernels', lambda dtype, device: None)
    check(network(), 'fp32')
    assert not used


def test_gradients_of_the_input_alone(precision):
    net = network()
    _, expected = gradients(net, PlainDFT.forward)
    net.requires_grad_(False)
    x, t = tiny_input(16, 24, 2)
    x.requires_grad_()
    with torch.autocast('cpu', PRECISIONS[precision], enabled=precision == 'bf16'):
        prediction = net(x, t)
    direction = torch.randn(prediction.shape, generator=torch.Generator().manual_seed(2))
    (prediction * direction).sum().backward()
    assert relative_error(x.grad, expected['input']) < GRADIENT_TOLERANCE[precision]


def test_what_is_not_finite_stays_so(precision):
    net = network()
    x, t = tiny_input(16, 16, 2)
    x[1, 0, 3, 3] = torch.nan
    with torch.autocast('cpu', PRECISIONS[precision], enabled=precision == 'bf16'):
        prediction = net(x, t)
    assert prediction[0].isfinite().all() and prediction[1].isnan().all()
    prediction.sum().backward()
    assert all(p.grad.isnan().any() for name, p in net.named_parameters() if 'norm' not in name)


def test_a_silent_network_has_finite_gradients(precision):
    net = network()
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if 'qkv' in name:
                parameter.zero_()  # queries and keys without a direction
    with torch.autocast('cpu', PRECISIONS[precision], enabled=precision == 'bf16'):
        net(*tiny_input(16, 16, 1)).square().sum().backward()
    assert all(p.grad.isfinite().all() for p in net.parameters())


def test_weights_and_features_are_left_alone(precision):
    net = network()
    before = {name: weight.clone() for name, weight in net.state_dict().items()}
    gradients(net, run, precision=PRECISIONS[precision])
    assert all(torch.equal(weight, before[name]) for name, weight in net.state_dict().items())


CONVOLUTIONS = [  # images, height, width, channels, outputs
    (1, 2, 2, 8, 8), (2, 10, 22, 6, 48), (3, 12, 8, 96, 4), (4, 8, 8, 40, 72), (1, 40, 130, 24, 20),
    (2, 6, 300, 16, 16),
]  # fmt: skip
SHUFFLES = {SAME: lambda y: y, UNSHUFFLE: F.pixel_unshuffle, SHUFFLE: F.pixel_shuffle}


def convolutions(size, target, bias=False):
    """A convolution, its input (B, H, W, C), and what PyTorch makes of them in float64."""
    images, height, width, channels, outputs = size
    torch.manual_seed(0)
    conv = torch.nn.Conv2d(channels, outputs, 3, padding=1, bias=bias)
    x = torch.randn(images, height, width, channels, requires_grad=True)
    y = F.conv2d(
        x.double().permute(0, 3, 1, 2), conv.weight.double(),
        None if conv.bias is None else conv.bias.double(), padding=1,
    )  # fmt: skip
    y = SHUFFLES[target](y, 2) if target != SAME else y
    return conv, x, y.permute(0, 2, 3, 1)


def assert_like_pytorch(out, expected, inputs, precision):
    direction = torch.randn(expected.shape, generator=torch.Generator().manual_seed(3))
    theirs = torch.autograd.grad((expected * direction).sum(), inputs, retain_graph=True)
    ours = torch.autograd.grad((out * direction).sum(), inputs)
    for found, wanted in zip((out, *ours), (expected, *theirs), strict=True):
        assert relative_error(found, wanted) < {'fp32': 2e-6, 'bf16': 0.01}[precision]


@pytest.mark.parametrize('target', SHUFFLES)
@pytest.mark.parametrize('size', CONVOLUTIONS, ids=str)
@pytest.mark.parametrize('count', [1, 2, 5])
def test_convolutions_and_their_gradients_are_those_of_pytorch(
    target, size, count, precision, threads
):
    threads(count)
    conv, x, expected = convolutions(size, target)
    native_of = native_branches.NativeTraining.of(network(), PRECISIONS[precision])
    out = native_of.convolve(conv, x, target)
    assert_like_pytorch(out, expected, [x, conv.weight], precision)


def test_convolution_with_a_bias(precision):
    conv, x, expected = convolutions((2, 7, 9, 6, 3), SAME, bias=True)
    native_of = native_branches.NativeTraining.of(network(), PRECISIONS[precision])
    out = native_of.convolve(conv, x)
    assert_like_pytorch(out, expected, [x, conv.weight, conv.bias], precision)
    shuffled = torch.nn.Conv2d(6, 8, 3, padding=1)
    with pytest.raises(NotImplementedError, match='bias'):
        native_of.convolve(shuffled, x, SHUFFLE)


def test_convolution_of_what_does_not_lie_pixel_by_pixel_joined_with_a_skip(precision):
    conv, x, expected = convolutions((2, 6, 10, 12, 16), SHUFFLE)
    skip = torch.randn(2, 12, 20, 5, requires_grad=True)
    native_of = native_branches.NativeTraining.of(network(), PRECISIONS[precision])
    apart = x.permute(3, 0, 2, 1).contiguous().permute(1, 3, 2, 0)
    out = native_of.convolve(conv, apart, SHUFFLE, skip)
    expected = torch.cat([expected, skip.double()], 3)
    assert torch.equal(out[..., 4:], skip)
    assert_like_pytorch(out, expected, [x, conv.weight, skip], precision)


def test_convolution_that_only_passes_gradients_on_or_only_has_its_own(precision):
    conv, x, expected = convolutions((2, 8, 8, 16, 16), UNSHUFFLE)
    native_of = native_branches.NativeTraining.of(network(), PRECISIONS[precision])
    own = native_of.convolve(conv, x.detach(), UNSHUFFLE)
    assert_like_pytorch(own, expected, [conv.weight], precision)
    conv.requires_grad_(False)
    assert_like_pytorch(native_of.convolve(conv, x, UNSHUFFLE), expected, [x], precision)


@pytest.mark.parametrize('value', [0.0, 0.3, -0.7, 1.4, -2.5, 3.99, -3.99, 4.5, -6.0, 30.0, -1e4])
def test_slope_of_the_gelu_is_exact_to_the_number_format(value, precision):
    """Through a feed-forward network that is one GELU of a constant."""
    dtype = PRECISIONS[precision]
    net = network()
    branch = native_branches.NativeFeedForwardBranch
    c = net.encoder_level1[0].ffn.project_in.weight.shape[1]
    w_in, w_out = torch.zeros(16, c, 1, 1), torch.zeros(c, 16, 1, 1)
    b_in = torch.full((16,), value, requires_grad=True)
    w_out[0, 0] = 1
    native_of = native_branches.NativeTraining.of(net, dtype)
    x = torch.zeros(1, 3, 5, c)
    out = branch.apply(x, None, native_of, torch.ones(c), torch.zeros(c), w_in, b_in, w_out, None)
    out[..., 0].sum().backward()
    given = torch.tensor(value).to(dtype).double().requires_grad_()
    torch.nn.functional.gelu(given).backward()
    allowed = 2e-6 if precision == 'fp32' else 5e-3
    assert abs(b_in.grad[0] / 15 - given.grad) < allowed
    assert b_in.grad[1:].abs().max() == 0
