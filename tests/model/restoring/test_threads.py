"""One network restores images from several threads, each with its own settings."""

from __future__ import annotations

import contextvars
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from c2fdft_arch.inference import memory_plan
from c2fdft_arch.inference.settings import InferenceSettings
from c2fdft_model.restoring.restoration import restore
from helpers.networks import tiny_network

SIZES = [(48, 64), (64, 40), (24, 104), (40, 40)]
SETTINGS = [
    {'precision': 'fp32'},
    {'precision': 'fp32', 'memory_budget_mb': 64},
    {'precision': 'bf16'},
    {'precision': 'auto', 'tile': 32, 'tile_overlap': 8},
]


@pytest.fixture(params=['kernels', "PyTorch's operations"])
def network(request, monkeypatch):
    if request.param != 'kernels':
        monkeypatch.setattr(memory_plan, 'kernels', lambda dtype, device: None)
    return tiny_network(dim=16)


def restored(network, number):
    generator = torch.Generator().manual_seed(number)
    image = torch.rand(3, *SIZES[number], generator=generator)
    return restore(network, image, timesteps=2, noise_name=str(number), **SETTINGS[number])


def test_threads_restore_what_one_after_the_other_does(network):
    numbers = range(len(SETTINGS))
    expected = [restored(network, number) for number in numbers]
    together = threading.Barrier(len(SETTINGS))

    def work(number):
        together.wait(timeout=60)
        return [restored(network, number) for _ in range(3)]

    with ThreadPoolExecutor(len(SETTINGS)) as pool:
        results = list(pool.map(work, numbers))
    for number in numbers:
        assert all(torch.equal(result, expected[number]) for result in results[number])
    assert network.inference == InferenceSettings()


def test_threads_that_share_a_block_of_settings_have_memory_of_their_own(network):
    """As tasks of asyncio do: they run in threads, with a copy of the context."""
    inputs = [torch.rand(1, 6, height, width) for height, width in SIZES]
    with torch.no_grad(), network.inference_settings('fp32', 64):
        expected = [network(x, torch.tensor([5])) for x in inputs]

        @torch.no_grad()
        def evaluate(x):
            assert network.inference == InferenceSettings('fp32', 64)
            return [network(x, torch.tensor([5])) for _ in range(5)]

        with ThreadPoolExecutor(len(inputs)) as pool:
            tasks = [pool.submit(contextvars.copy_context().run, evaluate, x) for x in inputs]
        for task, result in zip(tasks, expected, strict=True):
            assert all(torch.equal(again, result) for again in task.result())


def test_settings_are_those_of_their_thread_and_network():
    network, other = tiny_network(), tiny_network()
    with network.inference_settings('bf16'):
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(lambda: network.inference).result() == InferenceSettings()
        assert other.inference == InferenceSettings()
        with other.inference_settings('auto'):
            assert network.inference == InferenceSettings('bf16')
