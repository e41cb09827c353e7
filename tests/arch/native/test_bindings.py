"""Calls of the kernels: wrong ones are refused; a lack of memory is an error and ends nothing."""

from __future__ import annotations

import ctypes
import threading
import time

import pytest
import torch

from c2fdft_arch.inference.memory_plan import MemoryPlan
from c2fdft_arch.inference.settings import InferenceSettings
from c2fdft_arch.native import arguments, build
from c2fdft_arch.native.bindings import kernels, release_scratch, scratch_bytes
from c2fdft_arch.native.convolution import (
    convolve3x3,
    convolve3x3_backward,
    convolve3x3_weight_gradient,
)
from c2fdft_arch.native.errors import KernelCallError, KernelsUnavailableError
from c2fdft_arch.native.structures import JOIN_SHUFFLE, SHUFFLE, UNSHUFFLE
from helpers.kernels import CPU, needs_kernels
from helpers.networks import tiny_input, tiny_network

pytestmark = needs_kernels

B, H, W, C, HEADS, HIDDEN = 2, 6, 8, 32, 2, 64
WIDTH, PIXELS = C // HEADS, B * H * W
# The tensors of a call by name: shapes of those in float32, then of those in the kernels' dtype.
NORM = {'norm_weight': (C,), 'norm_bias': (C,), 'time_embedding': (B, C)}
OF_ATTENTION = {
    'w_qkv': (3 * C, C, 1, 1), 'b_qkv': (3 * C,), 'w_dw': (3 * C, 1, 3, 3), 'b_dw': (3 * C,),
    'temperature': (HEADS, 1, 1), 'w_o': (C, C, 1, 1), 'b_o': (C,),
}  # fmt: skip
MATRICES = {
    'products': (B, HEADS, WIDTH, WIDTH), 'squares': (2, B, C),
    'attention': (B, HEADS, WIDTH, WIDTH), 'projected': (B, C, C),
}  # fmt: skip
OF_FFN = {
    'w_in': (HIDDEN, C, 1, 1), 'b_in': (HIDDEN,), 'w_out': (C, HIDDEN, 1, 1), 'b_out': (C,),
}  # fmt: skip
KEPT = {'queries_keys': (PIXELS + 8, 2 * C), 'values': (B, H * W, C)}
ATTENTION_GRADIENT = {
    'd_x': (B, H, W, C), 'd_scale': (C,), 'd_offset': (C,), 'd_qkv': (3 * C, C, 1, 1),
    'd_qkv_bias': (3 * C,), 'd_kernel': (10, 3 * C), 'd_temperature': (HEADS, 1, 1),
    'd_project': (C, C, 1, 1),
}  # fmt: skip
FFN_GRADIENT = {
    'd_x': (B, H, W, C), 'd_scale': (C,), 'd_offset': (C,), 'd_expand': (HIDDEN, C, 1, 1),
    'd_expand_bias': (HIDDEN,), 'd_contract': (C, HIDDEN, 1, 1),
}  # fmt: skip
X, OUT, D_OUT = {'x': (B, H, W, C)}, {'out': (B, H, W, C)}, {'d_out': (B, H, W, C)}
BEFORE_GELU = {'before_gelu': (-(-PIXELS // 64), 64, HIDDEN)}


def group(tensors, names):
    return [tensors[name] for name in names]


def transformer_block(k, t):
    attention = arguments.attention(t['x'], HEADS, group(t, NORM), group(t, OF_ATTENTION))
    ffn = arguments.feed_forward(t['x'], group(t, NORM), group(t, OF_FFN))
    k.transformer_block(t['x'], attention, ffn, t['values'])


def attention(k, t):
    given = arguments.attention(
        t['x'], HEADS, group(t, NORM), group(t, OF_ATTENTION), group(t, MATRICES)
    )
    k.attention(t['x'], given, t['queries_keys'], t['values'], t['out'])


def attention_gradient(k, t):
    given = arguments.attention(
        t['x'], HEADS, group(t, NORM), group(t, OF_ATTENTION), group(t, MATRICES)
    )
    gradient = arguments.attention_gradient(t['x'], HEADS, group(t, ATTENTION_GRADIENT))
    k.attention_gradient(t['x'], given, gradient, t['queries_keys'], t['values'], t['d_out'])


def feed_forward(k, t):
    given = arguments.feed_forward(t['x'], group(t, NORM), group(t, OF_FFN))
    k.feed_forward(t['x'], given, t['before_gelu'], t['out'])


def feed_forward_gradient(k, t):
    given = arguments.feed_forward(t['x'], group(t, NORM), group(t, OF_FFN))
    gradient = arguments.feed_forward_gradient(t['x'], HIDDEN, group(t, FFN_GRADIENT))
    k.feed_forward_gradient(t['x'], given, gradient, t['before_gelu'], t['d_out'])


# Each kernel's call, its tensors in float32, and those in the kernels' dtype.
CALLS = {
    transformer_block: (X | NORM | OF_ATTENTION | OF_FFN, {'values': KEPT['values']}),
    attention: (X | NORM | OF_ATTENTION | MATRICES | OUT, KEPT),
    attention_gradient: (
        X | NORM | OF_ATTENTION | MATRICES | ATTENTION_GRADIENT | D_OUT, KEPT,
    ),
    feed_forward: (X | NORM | OF_FFN | OUT, BEFORE_GELU),
    feed_forward_gradient: (X | NORM | OF_FFN | FFN_GRADIENT | D_OUT, BEFORE_GELU),
}  # fmt: skip
WRONG = {
    'dtype': lambda x: x.double(),
    'device': lambda x: torch.empty_like(x, device='meta'),
    'one more': lambda x: torch.cat([x, x[-1:]]),
    'dimensions': lambda x: x[None],
    'layout': lambda x: torch.stack([x, x], -1)[..., 0],
}


def tensors_of(call, dtype):
    shapes, of_dtype = CALLS[call]
    made = {name: torch.randn(shape) / 9 for name, shape in shapes.items()}
    return made | {n: torch.randn(shape).to(dtype) / 9 for n, shape in of_dtype.items()}


@pytest.mark.parametrize('call', CALLS, ids=lambda call: call.__name__)
def test_every_tensor_of_a_call_is_checked(call):
    k = kernels(torch.float32, CPU)
    right = tensors_of(call, torch.float32)
    call(k, right)
    for name, x in right.items():
        for kind, wrong in WRONG.items():
            with pytest.raises(KernelCallError, match=r'kernels: \w+: torch') as error:
                call(k, {**right, name: wrong(x)})
            if name not in ('x', 'w_in'):  # whose sizes are others' too
                assert f'kernels: {name}: ' in str(error.value), kind


def test_error_says_what_was_given_and_what_is_needed():
    right = tensors_of(feed_forward, torch.float32)
    with pytest.raises(KernelCallError) as error:
        feed_forward(kernels(torch.float32, CPU), {**right, 'b_in': torch.zeros(63).double()})
    assert str(error.value) == (
        'kernels: b_in: torch.float64 (63,), contiguous, on cpu given; '
        'torch.float32 (64,), contiguous, on the CPU is needed'
    )


def test_training_takes_whole_vectors_only():
    k = kernels(torch.float32, CPU)
    t = tensors_of(attention, torch.float32)
    with pytest.raises(KernelCallError, match=rf'multiples of {k.lanes} are needed'):
        norm, parameters = group(t, NORM), {**t, 'temperature': torch.ones(8, 1, 1)}
        given = arguments.attention(t['x'], 8, norm, group(parameters, OF_ATTENTION))
        k.attention(t['x'], given, t['queries_keys'], t['values'], t['out'])


@pytest.mark.parametrize(
    'changes, message',
    [
        ({'x': (B, H, W)}, r'x: torch.float32 \(2, 6, 8\)'),
        ({'weight': (16, 7, 3, 3)}, r"weight: .* \(C', 8, 9\)"),
        ({'bias': (8,)}, r'bias: .* \(16,\)'),
        ({'out': (B, H, W, 8)}, r'out: .* \(2, 6, 8, 16\)'),
        ({'out': (B, 3, 4, 16), 'layout': UNSHUFFLE}, r'out: .* \(2, 3, 4, 64\)'),
        ({'x': (B, 5, W, 8), 'layout': UNSHUFFLE}, r'even height and width, not 5 x 8'),
        ({'out': (B, 12, 16, 5), 'layout': SHUFFLE}, r'out: .* \(2, 12, 16, 4\)'),
        ({'weight': (6, 8, 3, 3), 'bias': (6,), 'layout': SHUFFLE}, 'in fours, not 6'),
        ({'out': (B, 12, 16, 4), 'layout': JOIN_SHUFFLE, 'reduce': (4, 4)}, r'reduce: .*4, 8, 1'),
        ({'x': (0, H, W, 8), 'out': (0, H, W, 16)}, r'x: torch.float32 \(0, 6, 8, 8\)'),
    ],
    ids=str,
)
def test_every_tensor_of_a_convolution_is_checked(changes, message):
    shapes = {'x': (B, H, W, 8), 'weight': (16, 8, 3, 3), 'bias': (16,), 'out': (B, H, W, 16)}
    given = {name: torch.zeros(changes.get(name, shape)) for name, shape in shapes.items()}
    reduce = torch.nn.Conv2d(*changes['reduce'], 1) if 'reduce' in changes else None
    with pytest.raises(KernelCallError, match=message):
        convolve3x3(kernels(torch.float32, CPU), *given.values(), changes.get('layout', 0), reduce)


def test_gradients_of_a_convolution_are_checked():
    k, x, weight = kernels(torch.float32, CPU), torch.zeros(B, H, W, 8), torch.zeros(16, 8, 3, 3)
    d_out = torch.zeros(B, H, W, 16)
    with pytest.raises(KernelCallError, match='d_x: torch.float64'):
        convolve3x3_backward(k, d_out, weight, x.double())
    with pytest.raises(KernelCallError, match=r'd_out: .* \(2, 6, 8, 16\)'):
        convolve3x3_weight_gradient(k, x, d_out[:, 1:], weight)
    with pytest.raises(KernelCallError, match=r'd_weight: .* contiguous'):
        convolve3x3_weight_gradient(k, x, d_out, weight.transpose(2, 3))


def test_parameters_may_lie_in_memory_in_any_order():
    net = tiny_network(dim=16)
    x, t = tiny_input()
    with torch.no_grad():
        expected = net(x, t)
    expected_with_gradients = net(x, t).detach()
    net.load_state_dict(
        {
            name: p.transpose(0, 1).contiguous().transpose(0, 1) if p.dim() > 1 else p
            for name, p in net.state_dict().items()
        },
        assign=True,
    )
    with torch.no_grad():
        torch.testing.assert_close(net(x, t), expected)
    net.requires_grad_(True)
    torch.testing.assert_close(net(x, t).detach(), expected_with_gradients)


def test_library_whose_sizes_or_constants_differ_is_refused(monkeypatch):
    path = build.compiled_library()[1]
    monkeypatch.setitem(build.CONSTANTS, 'kHalo', 3)
    with pytest.raises(KernelsUnavailableError, match='kHalo is 2 there, 3 here'):
        build.load(path)
    monkeypatch.undo()
    monkeypatch.setattr(build, 'STRUCTURES', build.STRUCTURES[1:])
    with pytest.raises(KernelsUnavailableError, match='Features is 40 there, None here'):
        build.load(path)


@pytest.fixture(autouse=True)
def nothing_kept():
    """Trainings keep their scratch memory."""
    release_scratch()
    assert scratch_bytes() == 0


@pytest.fixture
def limit():
    """Sets how many bytes the kernels can have."""
    library = build.compiled_library()[0]

    def set_limit(count):
        library.limit_scratch(ctypes.c_long(count))

    yield set_limit
    set_limit(2**62)


def evaluate(net, x, t):
    with torch.no_grad():
        return net(x, t)


def train(net, x, t):
    return torch.autograd.grad(net(x, t).square().sum(), net.encoder_level1[0].norm1.body.weight)[0]


@pytest.mark.parametrize('count', [1, 3])
@pytest.mark.parametrize('work', [evaluate, train], ids=lambda work: work.__name__)
def test_too_little_memory_at_any_place_is_an_error_and_changes_nothing(
    work, count, limit, threads
):
    threads(count)
    net, (x, t) = tiny_network(dim=16, heads=[1, 1, 2, 2]), tiny_input(40, 24)
    with net.inference_settings():  # what evaluations take is kept until the end
        expected = work(net, x, t)
        needed = scratch_bytes()
    refused = 0
    for share in range(25):
        limit(needed * share // 25)
        with net.inference_settings(), pytest.raises(MemoryError, match='out of memory: the kern'):
            work(net, x, t)
        refused += 1
        assert scratch_bytes() == 0
    limit(2**62)
    assert refused == 25
    assert torch.equal(work(net, x, t), expected)


@pytest.mark.parametrize('options', [{}, {'dim': 16, 'ffn_factor': 2.66, 'heads': [1, 1, 1, 1]}])
@pytest.mark.parametrize('size', [(1, 64, 64), (1, 8, 600), (2, 136, 72), (30, 8, 8)], ids=str)
@pytest.mark.parametrize('count', [1, 3])
def test_scratch_memory_is_counted_in_the_plan_and_given_back(
    options, size, count, precision, threads
):
    threads(count)
    net, (images, height, width) = tiny_network(**options), size
    x, t = torch.rand(images, 6, height, width), torch.full((images,), 5)
    with net.inference_settings(precision), torch.no_grad():
        net(x, t)
        held = scratch_bytes()
    settings = InferenceSettings(precision)
    plan = MemoryPlan(net.dim, net.ffn_factor, height, width, settings, CPU)
    chunk = min(images, plan.chunk_size)
    assert 0 < held <= plan.total_bytes(chunk) - plan.feature_bytes(chunk)
    assert scratch_bytes() == 0


def test_threads_are_those_of_pytorch(threads):
    net, (x, t), held = tiny_network(), tiny_input(96, 96, 1), {}
    for count in (1, 3):
        threads(count)
        with net.inference_settings():
            evaluate(net, x, t)
            held[count] = scratch_bytes()
    assert held[3] > held[1]


def test_memory_of_a_thread_ends_with_it():
    net, (x, t) = tiny_network(), tiny_input()
    thread = threading.Thread(target=train, args=(net, x, t))
    thread.start()
    thread.join()
    deadline = time.monotonic() + 240  # Python is done with a thread before the system is
    while scratch_bytes() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert scratch_bytes() == 0
