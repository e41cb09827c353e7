"""On a GPU bands follow from what is free, and running out of memory is met once, by half a plan.

A CPU stands in for the GPU: `free_device_memory`, which alone asks a device, is made to answer.
"""

from __future__ import annotations

import json
import logging
import weakref
from dataclasses import replace

import pytest
import torch

from c2fdft_arch import dft
from c2fdft_arch.inference import device_memory, evaluation, memory_plan
from c2fdft_arch.inference.cuda_graphs import GraphedEvaluation
from c2fdft_arch.inference.device_memory import USABLE, fitted, is_out_of_memory
from c2fdft_arch.inference.memory_plan import MIB, MemoryBudgetError, MemoryPlan
from c2fdft_arch.inference.row_bands import Workspace
from c2fdft_arch.inference.settings import InferenceSettings
from helpers.networks import tiny_input, tiny_network

CUDA, GIB = torch.device('cuda'), 2**30
ULTRA_HD = 2160, 3840


@pytest.fixture
def free(monkeypatch):
    """Sets the bytes that a device has free, and those free with an empty cache; counts asking."""

    def set_free(before, emptied=None):
        def answer(device, empty=False):
            asked.append(empty)
            return before if emptied is None or not empty else emptied

        for module in (device_memory, dft):
            monkeypatch.setattr(module, 'free_device_memory', answer)
        return asked

    asked: list[bool] = []
    monkeypatch.setattr(memory_plan, 'kernels', lambda dtype, device: None)
    return set_free


def plan(height, width, precision='fp32', **settings):
    inference = InferenceSettings(precision, **settings)
    return MemoryPlan(48, 4.0, height, width, inference, CUDA)


def test_a_photograph_of_3840_x_2160_is_restored_whole_in_usual_bands_in_24_gb(free):
    free(24 * 10**9)
    for precision in ('fp32', 'bf16'):
        usual = plan(*ULTRA_HD, precision)
        assert fitted(usual, 1, Workspace()) == usual


def test_the_plan_is_what_such_a_photograph_was_measured_to_take(project_root):
    measured = json.loads((project_root / 'docs/measurements/gpu_h200.json').read_text())['third']
    (line,) = [line for line in measured if line['name'] == '2160 x 3840 triton bf16']
    pixels = ULTRA_HD[0] * ULTRA_HD[1]
    beside = 4 * (official_parameters() + (6 + 3) * pixels)  # weights, input, result
    taken = line['allocated_gib'] * GIB - beside
    assert taken <= plan(*ULTRA_HD, 'bf16').total_bytes(1) <= 1.1 * taken


def official_parameters() -> int:
    with torch.device('meta'):
        return sum(p.numel() for p in dft.DFT().parameters())


def test_bands_are_smaller_where_the_usual_ones_do_not_fit(free):
    usual = plan(*ULTRA_HD)
    free(8 * 10**9)
    smaller = fitted(usual, 1, Workspace())
    assert smaller.total_bytes(1) <= USABLE * 8 * 10**9 < usual.total_bytes(1)
    assert 3840 < smaller.band_pixels(96, 1) < usual.band_pixels(96, 1)


def test_bands_are_never_larger_than_usual(free):
    usual = plan(*ULTRA_HD)
    free(140 * GIB)
    assert fitted(usual, 1, Workspace()).band_pixels(96, 1) == usual.band_pixels(96, 1)


def test_what_the_allocator_holds_unused_is_given_back_only_where_it_is_needed(free):
    usual = plan(*ULTRA_HD)
    asked = free(20 * GIB)
    fitted(usual, 1, Workspace())
    assert asked == [False]
    free(1 * GIB, emptied=20 * GIB)
    assert fitted(usual, 1, Workspace()) == usual
    assert asked == [False, False, True]


def test_memory_of_the_workspace_counts_as_free(free):
    usual, workspace, cpu = plan(64, 64), Workspace(), torch.device('cpu')
    usual = MemoryPlan(48, 4.0, 64, 64, usual.settings, cpu)
    needed = int(usual.total_bytes(1) / USABLE)
    workspace.take('joined', (needed // 2,), torch.uint8, cpu)
    free(needed // 2 + MIB)
    assert fitted(usual, 1, workspace).limit is None
    assert fitted(usual, 1, Workspace()).limit is not None


def test_a_size_is_decided_once_in_a_workspace(free):
    workspace = Workspace()
    free(8 * 10**9)
    first = fitted(plan(*ULTRA_HD), 1, workspace)
    free(7 * 10**9)
    assert fitted(plan(*ULTRA_HD), 1, workspace) == first
    assert fitted(plan(*ULTRA_HD), 1, Workspace()) != first


def test_images_of_a_batch_are_separated_where_memory_is_scarce(free):
    usual = plan(256, 256)
    assert usual.chunk_size == 16
    free(1 * GIB)
    smaller = fitted(usual, 16, Workspace())
    assert 1 < smaller.chunk_size < 16
    assert smaller.total_bytes(16) <= USABLE * GIB


def test_a_budget_holds_beside_the_free_memory(free):
    free(8 * 10**9)
    budget = plan(*ULTRA_HD, memory_budget_mb=7000)
    assert fitted(budget, 1, Workspace()).total_bytes(1) <= 7000 * MIB
    beyond = plan(*ULTRA_HD, memory_budget_mb=20_000)
    assert fitted(beyond, 1, Workspace()).total_bytes(1) <= USABLE * 8 * 10**9
    with pytest.raises(MemoryBudgetError):
        fitted(plan(*ULTRA_HD, memory_budget_mb=100), 1, Workspace())


def test_less_than_one_row_needs_is_no_error_before_it_is_tried(free):
    free(MIB)
    least = fitted(plan(*ULTRA_HD), 1, Workspace())
    assert least.band_pixels(96, 1) == 3840
    assert -(-least.total_bytes(1) // MIB) == least.least_mb(1)


def test_devices_that_do_not_tell_get_the_usual_bands():
    for name in ('cpu', 'mps', 'xpu'):
        usual = MemoryPlan(48, 4.0, *ULTRA_HD, InferenceSettings(), torch.device(name))
        assert fitted(usual, 1, Workspace()) == usual


def test_nothing_is_recorded_where_memory_is_scarce(free, monkeypatch):
    """Recorded calls keep their memory."""
    free(MIB)
    network, (x, t) = tiny_network(), tiny_input(batch=1)
    workspace = Workspace(keep_graphs=True)
    settings = InferenceSettings()
    scarce = evaluation.plan_of(network, x, t[0], settings, workspace)

    class OnGPU(torch.Tensor):
        is_cuda = True

    recorded = []
    monkeypatch.setattr(GraphedEvaluation, '__init__', lambda *given: recorded.append(given))
    monkeypatch.setattr(GraphedEvaluation, '__call__', lambda self, x, t: 'replayed')
    ways = [
        GraphedEvaluation.of(lambda *_: lambda x: 'computed', network, t, some, workspace)
        for some in (scarce, replace(scarce, limit=None))
    ]
    assert [way(x.as_subclass(OnGPU)) for way in ways] == ['computed', 'replayed']
    assert len(recorded) == 1


def test_the_network_tells_the_least_that_suffices_on_a_gpu(free):
    network = tiny_network()
    usual = network.inference_memory_mb(4, 64, 64)
    free(MIB)
    least = network.inference_memory_mb(4, 64, 64)
    assert least < usual
    small = MemoryPlan(8, 4.0, 64, 64, InferenceSettings(), torch.device('cpu'), limit=0)
    assert least == small.total_bytes(1) / MIB


def assert_same(result, expected):
    """But for rounding: sums over bands are sums over parts."""
    assert (result - expected).abs().max() < 1e-5 * expected.abs().max()


def test_results_do_not_depend_on_what_is_free(free):
    network, (x, t) = tiny_network(), tiny_input(64, 64, 2)
    with torch.no_grad():
        expected = network(x, t)
        free(MIB)
        with network.inference_settings():
            result = network(x, t)
    assert_same(result, expected)


@pytest.fixture
def failing(monkeypatch):
    """Evaluations that run out of memory at some tries, with an error; what was tried."""

    def fail(at=(1,), error=None, kept=None):
        tried = []
        error = error or torch.cuda.OutOfMemoryError('CUDA out of memory. Tried to allocate 2 GiB')

        def of(network, t, plan, workspace):
            compute = evaluation_of(network, t, plan, workspace)

            def evaluate(x):
                tried.append(plan)
                if len(tried) in at:
                    held = torch.ones(8)
                    if kept is not None:
                        kept.append(weakref.ref(held))
                    raise type(error)(*error.args)
                return compute(x)

            return evaluate

        monkeypatch.setattr(evaluation, 'evaluation_of', of)
        return tried

    evaluation_of = evaluation.evaluation_of
    monkeypatch.setattr(memory_plan, 'kernels', lambda dtype, device: None)
    return fail


def call(network, x, t, calls=1):
    with torch.no_grad(), network.inference_settings():
        return [network(x, t) for _ in range(calls)][-1]


def test_running_out_of_memory_is_met_once_with_half_the_plan(failing, caplog):
    network, (x, t) = tiny_network(), tiny_input(128, 96, 1)
    expected = call(network, x, t)
    tried = failing()
    with caplog.at_level(logging.WARNING):
        result = call(network, x, t)
    assert_same(result, expected)
    first, second = (plan.total_bytes(1) for plan in tried)
    assert second < first and tried[1].limit == first // 2
    (record,) = caplog.records
    assert record.getMessage() == (
        f'cpu: out of memory with a plan of {first // MIB} MiB for 96 x 128 pixels (batch of 1); '
        f'trying once more with {second // MIB} MiB, in smaller row bands'
    )


def test_the_calls_after_it_keep_the_smaller_plan_and_warn_no_more(failing, caplog):
    network, (x, t) = tiny_network(), tiny_input(64, 64, 1)
    tried = failing()
    call(network, x, t, calls=3)
    assert [plan.limit is None for plan in tried] == [True, False, False, False]
    assert len(caplog.records) == 1


def test_a_second_lack_of_memory_is_the_error_that_it_was(failing, caplog):
    network, (x, t) = tiny_network(), tiny_input(64, 64, 1)
    tried = failing((1, 2))
    with pytest.raises(torch.cuda.OutOfMemoryError, match='Tried to allocate'):
        call(network, x, t)
    assert len(tried) == 2
    assert len(caplog.records) == 1


def test_a_later_call_of_the_same_restoration_has_no_other_try(failing, caplog):
    network, (x, t) = tiny_network(), tiny_input(64, 64, 1)
    tried = failing((1, 3))
    with pytest.raises(torch.cuda.OutOfMemoryError):
        call(network, x, t, calls=2)
    assert len(tried) == 3
    assert len(caplog.records) == 1


def test_each_block_of_settings_has_a_second_try_of_its_own(failing, caplog):
    network, (x, t) = tiny_network(), tiny_input(64, 64, 1)
    failing()
    call(network, x, t)
    failing()
    call(network, x, t)
    assert len(caplog.records) == 2


def test_what_the_first_try_held_is_freed_before_the_second(failing, monkeypatch):
    network, (x, t) = tiny_network(), tiny_input(64, 64, 1)
    kept, seen, emptied = [], [], []
    failing(kept=kept)

    def note(device):
        seen.append(kept[0]())
        emptied.append(device)

    monkeypatch.setattr(evaluation, 'empty_cache', note)
    call(network, x, t)
    assert seen == [None]
    assert emptied == [torch.device('cpu')]


def test_memory_of_earlier_and_of_recorded_calls_is_freed_too():
    network, (x, t) = tiny_network(), tiny_input(64, 64, 1)
    workspace = Workspace(keep_graphs=True)
    workspace.take('joined', (9,), torch.uint8, x.device)
    workspace.graphs['some size'] = 'recorded'
    evaluation.halve_plans(network, x, t, InferenceSettings(), workspace)
    assert workspace.held_bytes(x.device) == 0
    assert workspace.graphs == {}


def test_a_budget_too_small_to_be_halved_is_no_budget_error(failing):
    network, (x, t) = tiny_network(), tiny_input(64, 64, 1)
    least = MemoryPlan(8, 4.0, 64, 64, InferenceSettings(), x.device).least_mb(1)
    tried = failing()
    with torch.no_grad(), network.inference_settings(memory_budget_mb=least):
        network(x, t)
    assert len(tried) == 2


def test_a_compiled_network_gives_way_to_row_bands(failing, monkeypatch):
    """It keeps whole feature maps, whatever the plan."""
    network, (x, t) = tiny_network(), tiny_input(64, 64, 1)
    monkeypatch.setattr(evaluation, 'chosen_kernels', lambda *_: 'compile')
    compiled = []
    monkeypatch.setattr(evaluation, 'compiled', lambda *_: lambda x: compiled.append(x) or x[:, :3])
    expected = call(network, x, t)
    assert len(compiled) == 1
    assert torch.equal(expected, x[:, :3])
    failing()
    result = call(network, x, t)
    assert len(compiled) == 1
    assert not torch.equal(result, expected)


@pytest.mark.parametrize(
    'error',
    [
        torch.cuda.OutOfMemoryError('XPU out of memory. Tried to allocate 2 GiB'),
        RuntimeError('MPS backend out of memory (MPS allocated: 9 GB)'),
        RuntimeError('CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`'),
        RuntimeError('CUDA error: operation failed due to a previous error during capture'),
    ],
    ids=['xpu', 'mps', 'cublas', 'recording'],
)
def test_the_errors_of_every_device_are_recognised(failing, error):
    network, (x, t) = tiny_network(), tiny_input(16, 16, 1)
    tried = failing(error=error)
    call(network, x, t)
    assert len(tried) == 2


def test_an_error_that_follows_a_lack_of_memory_is_recognised():
    with pytest.raises(RuntimeError) as caught:
        try:
            raise torch.cuda.OutOfMemoryError('CUDA out of memory')
        finally:
            raise RuntimeError('the stream is not capturing')
    assert is_out_of_memory(caught.value)


def test_other_faults_are_not_tried_again(failing):
    network, (x, t) = tiny_network(), tiny_input(16, 16, 1)
    tried = failing(error=RuntimeError('shapes cannot be multiplied'))
    with pytest.raises(RuntimeError, match='shapes'):
        call(network, x, t)
    assert len(tried) == 1
    assert not is_out_of_memory(ValueError('out of memory'))
