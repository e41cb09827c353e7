"""Options of the data set: what is refused, and with which words."""

from __future__ import annotations

import pytest

from c2fdft_arch.common.option_parsing import OptionError
from c2fdft_model.data.dataset_options import parse_cycle, parse_dataset
from c2fdft_model.data.patch_cycle import PatchCycle

VALID = {
    'name': 'Rain13K',
    'type': 'PatchCyclePairedDataset',
    'phase': 'train',
    'dataroot_lq': 'input.lmdb',
    'dataroot_gt': 'target.lmdb',
    'io_backend': {'type': 'lmdb'},
    'gt_sizes': [32, 64, 128],
    'mini_batch_sizes': [360, 96, 24],
    'iters': [10000],
    'batch_size_per_gpu': 360,
    'num_worker_per_gpu': 2,
}


def test_cycle_of_an_option_file():
    cycle = PatchCycle((32, 64, 128), (360, 96, 24), (10000, 10000, 10000))
    assert parse_dataset(VALID).cycle == cycle
    assert parse_cycle(VALID) == cycle


def test_other_data_sets_have_no_cycle():
    assert parse_cycle({'type': 'PairedImageDataset', 'gt_size': 64}) is None


def test_a_single_patch_size_needs_no_lists():
    section = {k: v for k, v in VALID.items() if k not in ('gt_sizes', 'mini_batch_sizes')}
    assert parse_dataset({**section, 'gt_size': 64}).cycle == PatchCycle((64,), (360,), (10000,))


def test_one_number_of_iterations_serves_all_phases():
    assert parse_dataset({**VALID, 'iters': 50}).cycle.iters == (50, 50, 50)


def test_whole_images_need_no_cycle():
    section = {k: VALID[k] for k in ('type', 'dataroot_lq', 'dataroot_gt', 'io_backend')}
    assert parse_dataset({**section, 'phase': 'val'}).phase == 'val'


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'mini_batch_size': [1]}, r'mini_batch_size .*did you mean "mini_batch_sizes"'),
        ({'gt_sizes': [32, 60, 128]}, 'gt_sizes: 60 must be a multiple of 8, e.g. 56 or 64'),
        ({'gt_sizes': [32, 64]}, 'gt_sizes has 2, mini_batch_sizes has 3'),
        ({'gt_sizes': 'large'}, 'gt_sizes: .*must be a list'),
        ({'gt_sizes': None}, 'gt_sizes is missing'),
        ({'batch_size_per_gpu': 96}, 'mini_batch_sizes: 360 is larger.*batch_size_per_gpu: 360'),
        ({'persistent_workers': True}, 'Set persistent_workers: false'),
        (
            {'num_worker_per_gpu': 0, 'prefetch_mode': 'cpu'},
            'prefetch_mode: cpu with num_worker_per_gpu: 0.*prefetch_mode: ~, or num_worker',
        ),
        ({'num_worker_per_gpu': 0, 'prefetch_mode': 'cuda'}, 'prefetch_mode: cuda with num_worker'),
        ({'prefetch_mode': 'gpu'}, "prefetch_mode: 'gpu' must be 'cpu' or 'cuda'"),
        ({'dataset_enlarge_ratio': 1.5}, 'dataset_enlarge_ratio: 1.5 .*an integer'),
        ({'dataset_enlarge_ratio': 0}, 'dataset_enlarge_ratio: 0 must be above 0'),
        ({'crops_per_image': 0}, 'crops_per_image: 0 must be above 0'),
        ({'use_shuffle': False}, 'use_shuffle: false is not possible'),
        ({'io_backend': {'type': 'lmbd'}}, r'type: lmbd is not supported \(did you mean "lmdb"'),
        (
            {'io_backend': {'type': 'lmdb', 'read_ahead': True}},
            r'read_ahead is not a known key \(did you mean "readahead"',
        ),
        ({'dataroot_gt': 'target'}, 'dataroot_gt: target does not end in .lmdb.*type: disk'),
        ({'gt_size': 64}, 'gt_size: 64 contradicts gt_sizes, the largest of which is 128'),
        ({'scale': 3}, 'gt_sizes: 32 must be a multiple of scale: 3'),
    ],
)
def test_impossible_options_are_refused(changes, message):
    with pytest.raises(OptionError, match=message):
        parse_dataset({**VALID, **changes})
