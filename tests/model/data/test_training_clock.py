"""The training clock: which iteration comes next, and which batch it accepts."""

from __future__ import annotations

import multiprocessing
from types import SimpleNamespace

import pytest
import torch
from torch.utils import data

from c2fdft_arch.common.option_parsing import OptionError
from c2fdft_model.data.training_clock import (
    ITERATION_KEY,
    ClockReading,
    LoaderPosition,
    TrainingClock,
    training_clock,
)

SECTION = {
    'type': 'PatchCyclePairedDataset',
    'dataroot_lq': 'lq',
    'dataroot_gt': 'gt',
    'io_backend': {'type': 'disk'},
    'gt_sizes': [8, 16],
    'mini_batch_sizes': [4, 2],
    'iters': [1],
    'batch_size_per_gpu': 4,
}


def clock(**changes) -> TrainingClock:
    clock = TrainingClock()
    clock.start({'manual_seed': 3, 'rank': 1, 'world_size': 2, **changes})
    return clock


def test_clock_follows_start_iteration_and_resume():
    ours = clock(train={'total_iter': 9})
    assert ours.reading() == ClockReading(3, 1, 2, 1, 9)
    ours.iteration(1)
    assert ours.reading().next_iteration == 2
    ours.resumed(40)
    assert ours.reading().next_iteration == 41
    ours.start({'manual_seed': 4})
    assert ours.reading() == ClockReading(4, 0, 1, 1, None)


def test_clock_ignores_models_that_only_test():
    ours = clock()
    ours.iteration(5)
    ours.start({'is_train': False, 'manual_seed': 9})
    assert ours.reading().next_iteration == 6


def test_clock_that_was_not_started_says_what_to_do():
    with pytest.raises(RuntimeError, match=r'training_clock.start\(opt\)'):
        TrainingClock().reading()


def test_clock_refuses_a_training_that_ends_early():
    section = {**SECTION, 'batch_size_per_gpu': 24}
    opt = {'num_gpu': 4, 'datasets': {'train': section}, 'train': {'total_iter': 30000}}
    with pytest.raises(OptionError, match='after iteration 7750 of 30000'):
        clock(world_size=1, **opt)


@pytest.mark.parametrize('num_workers', [1, 2, 5])
def test_workers_share_out_consecutive_iterations(num_workers, monkeypatch):
    monkeypatch.setattr(training_clock, '_reading', ClockReading(0, 0, 1, 7))
    positions = [LoaderPosition() for _ in range(num_workers)]
    given = []
    for k in range(20):
        worker = SimpleNamespace(id=k % num_workers, num_workers=num_workers)
        monkeypatch.setattr(data, 'get_worker_info', lambda worker=worker: worker)
        given.append(positions[worker.id].next_iteration())
    assert given == list(range(7, 27))


def batch_for(iteration: int, count: int, size: int) -> dict[str, torch.Tensor]:
    return {
        'gt': torch.zeros(count, 3, size, size),
        ITERATION_KEY: torch.full((count,), iteration),
    }


def clock_of_a_cycle(**changes) -> TrainingClock:
    ours = clock(datasets={'train': SECTION}, train={'total_iter': 9}, **changes)
    ours.iteration(2)
    return ours


def test_check_accepts_the_batch_of_the_iteration_alone():
    ours = clock_of_a_cycle()
    ours.check(batch_for(2, 2, 16))
    with pytest.raises(RuntimeError, match='Iteration 2 was given a batch loaded for iteration 3'):
        ours.check(batch_for(3, 2, 16))


def test_check_accepts_what_carries_no_iteration():
    clock_of_a_cycle().check({'gt': torch.zeros(1, 3, 99, 99)})


@pytest.mark.parametrize(('count', 'size'), [(4, 16), (2, 8)])
def test_check_compares_the_batch_with_the_schedule(count, size):
    with pytest.raises(RuntimeError, match='its phase has 2 patches of 16 x 16'):
        clock_of_a_cycle().check(batch_for(2, count, size))


def test_check_expects_a_larger_batch_for_data_parallel():
    clock_of_a_cycle(num_gpu=2, world_size=1).check(batch_for(2, 4, 16))


def _seed_of_rank(rank: int, meeting: str, seeds) -> None:
    torch.distributed.init_process_group('gloo', f'file://{meeting}', rank=rank, world_size=2)
    ours = clock(manual_seed=100 + rank, rank=rank)
    seeds[rank] = ours.reading().seed
    torch.distributed.destroy_process_group()


def test_ranks_agree_on_the_seed_that_rank_0_has(tmp_path):
    """Without `manual_seed` BasicSR draws another seed in every rank."""
    context = multiprocessing.get_context('fork')
    seeds = context.Array('i', 2)
    ranks = [
        context.Process(target=_seed_of_rank, args=(rank, str(tmp_path / 'meeting'), seeds))
        for rank in range(2)
    ]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(60)
    assert list(seeds) == [100, 100]
