"""Strips are as large as the memory budget allows, and too small a budget is refused."""

from __future__ import annotations

import pytest
import torch
from test_dft import tiny_input, tiny_network

from c2fdft_arch.inference_settings import InferenceSettings
from c2fdft_arch.memory_plan import MIB, MemoryBudgetError, MemoryPlan


def plan(height=512, width=512, precision='fp32', **settings):
    inference, cpu = InferenceSettings(precision, **settings), torch.device('cpu')
    return MemoryPlan(48, 4.0, height, width, inference, cpu, inference.dtype(cpu))


def test_feature_maps_of_the_last_level_and_its_values_are_counted():
    assert plan(1000, 1000).feature_bytes(2) == 2 * 1000 * 1000 * 96 * (4 + 4)
    assert plan(1000, 1000, 'bf16').feature_bytes(1) == 1000 * 1000 * 96 * (4 + 2)


def test_strips_grow_with_the_budget_up_to_the_size_that_suits_the_caches():
    pixels = [plan(memory_budget_mb=mb).strip_pixels(96, 1) for mb in (231, 233, 4000)]
    assert pixels == sorted(set(pixels))
    assert pixels[-1] == plan().strip_pixels(96, 1)


def test_bf16_needs_less_memory_than_float32():
    with pytest.raises(MemoryBudgetError):
        plan(memory_budget_mb=200).strip_pixels(96, 1)
    assert plan(precision='bf16', memory_budget_mb=200).strip_pixels(96, 1) > 0


def test_budget_error_says_what_the_image_takes():
    with pytest.raises(MemoryBudgetError, match=r'100 MiB given.* 512 x 512 .* at least (\d+) MiB'):
        plan(memory_budget_mb=100).strip_pixels(96, 1)


def test_the_budget_that_the_error_asks_for_suffices():
    with pytest.raises(MemoryBudgetError) as error:
        plan(memory_budget_mb=100).strip_pixels(96, 1)
    least = int(str(error.value).split('at least ')[1].split()[0])
    assert plan(memory_budget_mb=least).strip_pixels(96, 1) >= 512


def test_small_images_are_evaluated_together_and_large_ones_alone():
    assert plan(64, 64).images_together == 4
    assert plan(512, 512).images_together == 1


def test_a_small_budget_separates_the_images_of_a_batch():
    together = plan(32, 32).images_together
    assert 1 <= plan(32, 32, memory_budget_mb=40).images_together < together


def test_result_does_not_depend_on_the_budget():
    net = tiny_network()
    x, t = tiny_input(64, 64, 2)
    least = (
        MemoryPlan(8, 4.0, 64, 64, InferenceSettings(), x.device, x.dtype).feature_bytes(1) / MIB
    )
    with torch.no_grad():
        expected = net(x, t)
        with net.inference_settings(memory_budget_mb=least + 2):
            result = net(x, t)
    assert (result - expected).abs().max() < 1e-5 * expected.abs().max()


def test_network_raises_for_a_budget_that_is_too_small():
    net = tiny_network()
    with (
        pytest.raises(MemoryBudgetError),
        torch.no_grad(),
        net.inference_settings(memory_budget_mb=0.1),
    ):
        net(*tiny_input(64, 64))


def test_total_is_features_kernels_and_strips():
    total = plan(1024, 1024).total_bytes(1)
    features = plan(1024, 1024).feature_bytes(1)
    assert features < total < 1.1 * features


def test_total_keeps_the_budget():
    for budget in (240, 300):
        assert plan(memory_budget_mb=budget).total_bytes(1) <= budget * MIB


def test_network_tells_the_memory_of_its_most_demanding_timestep():
    net = tiny_network()
    with net.inference_settings('bf16'):
        bf16 = net.inference_memory_mb(1, 256, 256)
    with net.inference_settings('bf16', float32_from=900):
        mixed = net.inference_memory_mb(1, 256, 256)
    assert bf16 < mixed == net.inference_memory_mb(1, 256, 256)


def test_network_tells_that_a_budget_does_not_suffice():
    net = tiny_network()
    with pytest.raises(MemoryBudgetError), net.inference_settings(memory_budget_mb=0.1):
        net.inference_memory_mb(1, 64, 64)
