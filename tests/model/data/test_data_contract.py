"""What arrives in iteration i depends on the seed, the rank, the number of ranks and i alone.

The loops here do what BasicSR's `train.py` does, with BasicSR's own loader, sampler and
prefetchers, and compare what arrives with what the sample stream says, read from the pixels.
"""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import os
from collections.abc import Iterator

import pytest
import torch
from basicsr.data import build_dataloader, build_dataset
from basicsr.data.data_sampler import EnlargedSampler
from basicsr.data.prefetch_dataloader import CPUPrefetcher, CUDAPrefetcher

from c2fdft_model.data import epoch_length
from c2fdft_model.data.patch_cycle import PatchCycle
from c2fdft_model.data.sample_stream import SampleStream
from c2fdft_model.data.training_clock import training_clock
from helpers.paired_data import Patch, begin, dataset_opt, describe, training_opt, write_folders

PAIRS = 7
COMPARED = 21
EPOCH = 12  # loader batches, so that 21 iterations see an epoch end and three cycles of 7
PHASE_BOUNDARY, MID_EPOCH = 5, 18

exhaustive = pytest.mark.skipif(
    not os.environ.get('C2FDFT_EXHAUSTIVE'), reason='set C2FDFT_EXHAUSTIVE=1 to run'
)
pytestmark = pytest.mark.filterwarnings('ignore:This DataLoader will create:UserWarning')


@pytest.fixture(scope='module')
def folders(tmp_path_factory) -> dict[str, str]:
    return write_folders(tmp_path_factory.mktemp('pairs'), PAIRS)


@pytest.fixture(autouse=True)
def short_epochs(monkeypatch):
    monkeypatch.setattr(epoch_length, 'EPOCH_BATCHES', EPOCH)


@pytest.fixture
def cuda_on_cpu(monkeypatch):
    """Let BasicSR's CUDA prefetcher run, look-ahead and all, where there is no CUDA."""

    class Stream:
        def wait_stream(self, other):
            pass

    monkeypatch.setattr(torch.cuda, 'Stream', Stream)
    monkeypatch.setattr(torch.cuda, 'current_stream', Stream)
    monkeypatch.setattr(torch.cuda, 'stream', lambda stream: contextlib.nullcontext())


def arriving(opt: dict, start: int = 0) -> Iterator[tuple[int, list[Patch]]]:
    """Iterations `start` + 1, ... with what BasicSR's training loop feeds into each."""
    section = opt['datasets']['train']
    dataset = build_dataset(section)
    ratio = section['dataset_enlarge_ratio']
    sampler = EnlargedSampler(dataset, opt['world_size'], opt['rank'], ratio)
    loader = build_dataloader(
        dataset, section, num_gpu=opt['num_gpu'], dist=opt['dist'], sampler=sampler, seed=1
    )
    begin(opt, start)
    if section['prefetch_mode'] == 'cuda':
        prefetcher = CUDAPrefetcher(loader, opt)
    else:
        prefetcher = CPUPrefetcher(loader)
    iterators = [prefetcher.loader]
    iteration = start
    try:
        for epoch in itertools.count(start // EPOCH):
            sampler.set_epoch(epoch)
            prefetcher.reset()
            iterators.append(prefetcher.loader)
            batch = prefetcher.next()
            while batch is not None:
                iteration += 1
                training_clock.iteration(iteration)
                training_clock.check(batch)
                yield iteration, describe(batch)
                batch = prefetcher.next()
    finally:
        stop_workers(iterators)


def stop_workers(iterators: list) -> None:
    """End all workers; BasicSR's prefetching thread would keep those of the first iterator."""
    for iterator in iterators:
        stop = getattr(getattr(iterator, 'generator', iterator), '_shutdown_workers', None)
        if stop is not None:
            stop()


def expected(
    folders: dict[str, str], iteration: int, rank=0, world_size=1, replicas=1
) -> list[Patch]:
    """What the sample stream says about an iteration."""
    section = dataset_opt(folders)
    cycle = PatchCycle.build(*(section[key] for key in ('gt_sizes', 'mini_batch_sizes', 'iters')))
    plan = SampleStream(PAIRS, cycle, seed=10, world_size=world_size).batch(
        iteration, rank, replicas
    )
    patches = []
    for draw in plan.draws:
        for crop in draw.crops:
            box = crop.top_left(40 + draw.image, 56, plan.patch_size)
            path = f'{folders["dataroot_gt"]}/{draw.image:03d}.png'
            patches.append(Patch(path, draw.image, *box, crop.orientation))
    return patches


def check_arriving(folders, opt, start=0, count=COMPARED, **place) -> None:
    with contextlib.closing(arriving(opt, start)) as batches:
        for iteration, patches in itertools.islice(batches, count):
            assert patches == expected(folders, iteration, **place), f'iteration {iteration}'


@pytest.mark.parametrize('start', [0, PHASE_BOUNDARY, MID_EPOCH])
@pytest.mark.parametrize(
    ('workers', 'prefetch'),
    [(0, None), *itertools.product((1, 2, 5), (None, 'cpu', 'cuda'))],
)
def test_batches_follow_the_iteration(folders, cuda_on_cpu, workers, prefetch, start):
    section = dataset_opt(folders, num_worker_per_gpu=workers, prefetch_mode=prefetch)
    check_arriving(folders, training_opt(section), start)


@pytest.mark.parametrize('start', range(1, 9))  # every place of the cycle
def test_every_resume_goes_on_where_it_stopped(folders, start):
    section = dataset_opt(folders, num_worker_per_gpu=2)
    check_arriving(folders, training_opt(section), start, count=3)


@pytest.mark.parametrize(('rank', 'world_size'), [(0, 2), (1, 2), (0, 3), (1, 3), (2, 3)])
@pytest.mark.parametrize(('workers', 'prefetch'), [(0, None), (2, 'cpu'), (2, 'cuda')])
def test_ranks_get_their_part_of_the_stream(
    folders, cuda_on_cpu, monkeypatch, rank, world_size, workers, prefetch
):
    monkeypatch.setattr(
        'c2fdft_model.patch_cycle_dataset.get_dist_info', lambda: (rank, world_size)
    )
    section = dataset_opt(folders, num_worker_per_gpu=workers, prefetch_mode=prefetch)
    opt = training_opt(section, rank, world_size)
    check_arriving(folders, opt, MID_EPOCH, rank=rank, world_size=world_size)


def test_ranks_together_cover_what_one_process_with_replicas_loads(folders):
    whole = expected(folders, 4, replicas=3)
    parts = [expected(folders, 4, rank=rank, world_size=3) for rank in range(3)]
    assert whole == sum(parts, [])


@pytest.mark.parametrize('workers', [0, 1, 2])
def test_data_parallel_gets_the_batches_of_as_many_ranks(folders, workers):
    section = dataset_opt(folders, num_worker_per_gpu=workers)
    opt = training_opt(section, num_gpu=2, train={'total_iter': EPOCH})
    check_arriving(folders, opt, count=EPOCH, replicas=2)


@pytest.mark.parametrize(
    ('method', 'workers'),
    [
        ('forkserver', 1),
        ('forkserver', 2),
        ('forkserver', 5),
        ('spawn', 1),
        # Each spawned worker imports PyTorch and BasicSR anew: a minute on a small machine.
        *(pytest.param('spawn', n, marks=exhaustive) for n in (2, 5)),
    ],
)
def test_start_methods_of_workers(folders, monkeypatch, method, workers):
    context = multiprocessing.get_context(method)
    if method == 'forkserver':
        context.set_forkserver_preload(['basicsr'])
    monkeypatch.setattr(epoch_length, 'EPOCH_BATCHES', COMPARED)
    section = dataset_opt(folders, num_worker_per_gpu=workers)
    dataset = build_dataset(section)
    opt = training_opt(section)
    begin(opt, MID_EPOCH)
    loader = torch.utils.data.DataLoader(
        dataset,
        batch_size=section['batch_size_per_gpu'],
        num_workers=workers,
        drop_last=True,
        multiprocessing_context=context,
    )
    for iteration, batch in zip(itertools.count(MID_EPOCH + 1), loader, strict=False):
        assert describe(batch) == expected(folders, iteration), f'iteration {iteration}'
    assert iteration == MID_EPOCH + COMPARED


@pytest.mark.parametrize('ratio', [1, 3, 50])
def test_dataset_enlarge_ratio_changes_nothing(folders, ratio):
    section = dataset_opt(folders, num_worker_per_gpu=1, dataset_enlarge_ratio=ratio)
    check_arriving(folders, training_opt(section))


def test_crops_differ_between_passes(folders):
    boxes = {(p.image, p.top, p.left) for i in range(1, 60) for p in expected(folders, i)}
    seen = sum(len(expected(folders, i)) for i in range(1, 60))
    assert len(boxes) > 0.8 * seen


def test_epochs_are_whole_numbers_of_loader_batches(folders):
    section = dataset_opt(folders)
    dataset = build_dataset(section)
    assert len(dataset) == EPOCH * section['batch_size_per_gpu']


def test_batch_of_a_loader_without_order_is_refused(folders):
    """A loader that hands batches out of order is found out by the model, not believed."""
    section = dataset_opt(folders, num_worker_per_gpu=2)
    dataset = build_dataset(section)
    begin(training_opt(section))
    second = dataset.__getitems__(range(6))
    batch = torch.utils.data.default_collate(second)
    training_clock.iteration(1)
    training_clock.check(batch)
    training_clock.iteration(2)
    with pytest.raises(RuntimeError, match='in_order: true.*persistent_workers: false'):
        training_clock.check(batch)
