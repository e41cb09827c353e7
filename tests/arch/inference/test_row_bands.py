"""Evaluation without gradients: whatever the row bands, the result is the plain network's."""

from __future__ import annotations

import pytest
import torch

from c2fdft_arch.common import hardware
from c2fdft_arch.inference.row_bands import ALIGNMENT, Stack, Workspace, conv3x3, row_bands
from c2fdft_arch.inference.settings import InferenceSettings
from c2fdft_arch.network.plain_dft import PlainDFT
from helpers.networks import OPTIONS, tiny_input, tiny_network


def error_of_bands(options, height, width, batch, band_pixels, precision='fp32', t=None):
    """Largest difference to PlainDFT, relative to the largest prediction."""
    net = tiny_network(**options)
    x, some_t = tiny_input(height, width, batch)
    t = some_t if t is None else t
    plain = PlainDFT.forward(net, x, t).detach()
    with torch.no_grad(), net.inference_settings(precision, band_pixels=band_pixels):
        result = net(x, t)
    return ((result - plain).abs().max() / plain.abs().max()).item()


@pytest.mark.parametrize('options', OPTIONS, ids=str)
@pytest.mark.parametrize('band_pixels', [40, 10_000])
def test_bands_give_the_plain_result_for_every_option(options, band_pixels):
    assert error_of_bands(options, 24, 16, 2, band_pixels) < 1e-5


@pytest.mark.parametrize('band_pixels', [1, 7, 16, 33, 64, 100, 257, 383, 384, None])
def test_result_does_not_depend_on_the_band_height(band_pixels):
    assert error_of_bands({}, 24, 16, 1, band_pixels) < 1e-5


@pytest.mark.parametrize('height, width', [(8, 8), (8, 64), (64, 8), (40, 24), (56, 72)])
@pytest.mark.parametrize('band_pixels', [50, None])
def test_bands_give_the_plain_result_for_every_size(height, width, band_pixels):
    assert error_of_bands({}, height, width, 1, band_pixels) < 1e-5


@pytest.mark.parametrize('batch', [1, 3, 4])
@pytest.mark.parametrize('band_pixels', [20, 130, None])
def test_images_of_a_batch_do_not_mix(batch, band_pixels):
    assert error_of_bands({}, 16, 8, batch, band_pixels) < 1e-5


def test_images_that_share_a_timestep_are_evaluated_together_correctly():
    t = torch.tensor([7, 900, 7, 7])
    assert error_of_bands({}, 16, 16, 4, None, t=t) < 1e-5


@pytest.fixture
def bf16_hardware(monkeypatch):
    """A CPU that multiplies bfloat16, or is taken for one."""
    monkeypatch.setattr(hardware, 'has_fast_bf16', lambda device_type: True)


def test_bf16_differs_from_float32_by_its_rounding_only(bf16_hardware):
    assert 1e-5 < error_of_bands({}, 32, 32, 2, None, 'bf16') < 0.03


def test_bf16_result_is_float32():
    net = tiny_network()
    with torch.no_grad(), net.inference_settings('bf16'):
        assert net(*tiny_input()).dtype == torch.float32


def test_settings_end_with_the_block():
    net = tiny_network()
    with net.inference_settings('bf16', band_pixels=8):
        assert net.inference == InferenceSettings('bf16', band_pixels=8)
    assert net.inference == InferenceSettings()


def test_evaluation_leaves_input_and_weights_alone():
    net = tiny_network()
    x, t = tiny_input()
    weights = {k: v.clone() for k, v in net.state_dict().items()}
    x_before = x.clone()
    with torch.no_grad():
        net(x, t)
    assert torch.equal(x, x_before)
    assert all(torch.equal(v, weights[k]) for k, v in net.state_dict().items())


def test_autocast_does_not_change_the_precision_asked_for():
    net = tiny_network()
    with torch.no_grad():
        expected = net(*tiny_input())
        with torch.autocast('cpu', torch.bfloat16):
            assert torch.equal(net(*tiny_input()), expected)


def test_double_precision_stays_double():
    net = tiny_network().double()
    x, t = tiny_input()
    with torch.no_grad():
        assert net(x.double(), t).dtype == torch.float64


@pytest.mark.parametrize(
    'settings, message',
    [
        ({'precision': 'bf61'}, 'did you mean "bf16"'),
        ({'precision': 'float32'}, 'fp32, bf16, auto'),
        ({'memory_budget_mb': 0}, 'memory_budget_mb: 0'),
        ({'band_pixels': -1}, 'band_pixels: -1'),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        InferenceSettings(**settings)


@pytest.mark.parametrize('precision', ['auto', 'bf16'])
def test_a_cpu_computes_in_bf16_only_where_it_multiplies_it(precision, monkeypatch):
    for fast, expected in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr(hardware, 'has_fast_bf16', lambda device_type, fast=fast: fast)
        assert InferenceSettings(precision).dtype(torch.device('cpu')) == expected


def test_bf16_without_hardware_for_it_is_float32(monkeypatch):
    monkeypatch.setattr(hardware, 'has_fast_bf16', lambda device_type: False)
    net = tiny_network()
    with torch.no_grad():
        expected = net(*tiny_input())
        with net.inference_settings('bf16'):
            assert torch.equal(net(*tiny_input()), expected)


def test_timesteps_from_float32_from_on_are_evaluated_in_float32(bf16_hardware):
    settings, cpu = InferenceSettings('bf16', float32_from=900), torch.device('cpu')
    assert [settings.dtype(cpu, t) for t in (899, 900)] == [torch.bfloat16, torch.float32]


def test_auto_evaluates_the_first_call_in_float32():
    assert InferenceSettings('auto').dtype(torch.device('cpu'), 999) == torch.float32


def test_each_image_of_a_batch_gets_the_precision_of_its_timestep(bf16_hardware):
    net = tiny_network()
    x, t = tiny_input()  # t is 3 and 997
    with torch.no_grad():
        expected = net(x, t)
        with net.inference_settings('bf16', float32_from=900):
            result = net(x, t)
    assert not torch.equal(result[0], expected[0]) and torch.equal(result[1], expected[1])


@pytest.mark.parametrize('height, rows, multiple', [(7, 3, 1), (8, 3, 2), (5, 9, 1), (6, 1, 2)])
def test_row_bands_cover_every_row_once(height, rows, multiple):
    bands = list(row_bands(height, rows, multiple))
    covered = [row for band in bands for row in range(band.start, band.stop)]
    assert covered == list(range(height))
    assert all(band.start % multiple == 0 for band in bands)


@pytest.mark.parametrize('rows', [1, 2, 5, 9])
def test_convolution_by_bands_is_the_convolution(rows):
    torch.manual_seed(0)
    image, weight, bias = torch.randn(2, 9, 4, 3), torch.randn(5, 3, 3, 3), torch.randn(5)
    result = torch.empty(2, 9, 4, 5)
    for band, values in conv3x3(image, weight, bias, row_bands(9, rows)):
        result[:, band] = values
    expected = torch.nn.functional.conv2d(image.permute(0, 3, 1, 2), weight, bias, padding=1)
    torch.testing.assert_close(result, expected.permute(0, 2, 3, 1))


def test_workspace_gives_the_same_memory_again():
    workspace, kind = Workspace(), (torch.float32, torch.device('cpu'))
    first = workspace.take('a', (4, 3), *kind)
    assert workspace.take('a', (6, 2), *kind).data_ptr() == first.data_ptr()
    assert workspace.take('b', (4, 3), *kind).data_ptr() != first.data_ptr()


def test_stack_gives_dropped_memory_again():
    stack = Stack(torch.empty(4 * ALIGNMENT, dtype=torch.uint8))
    stack.push((3,), torch.bfloat16)
    with stack.frame():
        inner = stack.push((4,), torch.float32)
    assert stack.push((2,), torch.float32).data_ptr() == inner.data_ptr()


def test_what_does_not_fit_on_the_stack_is_elsewhere():
    memory = torch.zeros(2 * ALIGNMENT, dtype=torch.uint8)
    stack = Stack(memory)
    stack.push((2 * ALIGNMENT - 4,), torch.uint8)
    stack.push((2,), torch.float32).fill_(1)
    assert stack.push((2, 3), torch.bfloat16).shape == (2, 3)
    assert not memory.any()


def test_kept_memory_does_not_change_later_results():
    net = tiny_network()
    with torch.no_grad():
        expected = [net(*tiny_input(size, 16)) for size in (32, 8, 32)]
        with net.inference_settings():
            again = [net(*tiny_input(size, 16)) for size in (32, 8, 32)]
    assert all(torch.equal(a, b) for a, b in zip(expected, again, strict=True))
