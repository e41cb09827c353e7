"""Phases of the patch cycle."""

from __future__ import annotations

import pytest

from c2fdft_arch.common.option_parsing import OptionError
from c2fdft_model.data.patch_cycle import PatchCycle, Phase

DERAIN = PatchCycle.build([32, 64, 128], [360, 96, 24], [10000])


@pytest.mark.parametrize(
    ('iteration', 'phase'),
    [
        (1, Phase(32, 360)),
        (10_000, Phase(32, 360)),
        (10_001, Phase(64, 96)),
        (20_001, Phase(128, 24)),
        (30_000, Phase(128, 24)),
        (30_001, Phase(32, 360)),
        (270_000, Phase(128, 24)),
    ],
)
def test_phases_of_the_deraining_cycle(iteration, phase):
    assert DERAIN.phase_at(iteration) == phase


def test_iterations_are_counted_from_one():
    with pytest.raises(ValueError, match='counted from 1'):
        DERAIN.phase_at(0)


def test_total_before_is_the_running_sum():
    cycle = PatchCycle((8, 16, 32), (6, 4, 2), (2, 3, 1))
    total = 0
    for iteration in range(1, 40):
        assert cycle.total_before(iteration, cycle.batch_sizes) == total
        total += cycle.phase_at(iteration).batch_size


@pytest.mark.parametrize(
    ('lists', 'message'),
    [
        (([32, 64], [8], [10]), 'gt_sizes has 2, mini_batch_sizes has 1, iters has 2'),
        (([32, 64], [8, 4], [10, 10, 10]), 'iters has 3'),
        (([36], [8], [10]), 'gt_sizes: 36 must be a multiple of 8, e.g. 32 or 40'),
        (([4], [8], [10]), 'gt_sizes: 4 must be a multiple of 8, e.g. 8'),
        (([32], [0], [10]), 'mini_batch_sizes: 0 must be above 0'),
        (([32], [8], [-1]), 'iters: -1 must be above 0'),
        (([], [], []), 'gt_sizes: the list is empty'),
    ],
)
def test_impossible_cycles_are_refused(lists, message):
    with pytest.raises(OptionError, match=message):
        PatchCycle.build(*lists)
